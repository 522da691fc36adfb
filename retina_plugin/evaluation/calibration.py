"""Calibration of the scores, and the score threshold with the best F1.

A detection is correct if COCO matches it at IoU 0.5. One in a crowd is neither correct nor wrong and is left out.
"""

from dataclasses import dataclass

import numpy as np

from .boxes import Detections, Truth
from .coco_scores import AT_50, Scores

__all__ = ["Calibration", "OperatingPoint", "best_points", "calibration"]

NUM_BINS = 10  # of the score, 0.1 wide
BINS_OF_BOX = 5  # along each of score, centre x and y, width, height (as Küppers et al. 2020)
LEAST_IN_BIN = 8  # with fewer detections in one of the 5 ** 5 bins, its share of correct ones is noise


@dataclass(frozen=True)
class OperatingPoint:
    """A score threshold and the precision, recall and F1 at it, all in [0, 1]."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Calibration:
    """Reliability of the scores; errors in [0, 1], None without detections."""

    bins: list[dict]  # low, high, count, mean score and share correct (None in an empty bin)
    ece: float | None  # over NUM_BINS of the score
    d_ece: float | None  # over score and box, see BINS_OF_BOX
    d_ece_count: int  # detections in bins with at least LEAST_IN_BIN
    count: int
    note: str  # reason why there is no calibration; "" if there is one


def best_points(truth: Truth, found: Detections, scores: Scores) -> tuple[OperatingPoint | None, list]:
    """Find the threshold with the best F1, for all classes together and for each of the K classes.

    Returns:
        the point of all classes together, and a list of K points; None in place of a point if no detection is correct.
        The highest threshold wins among equal F1.
    """
    usable = scores.counted & ~scores.ignored[AT_50]
    order = np.flatnonzero(usable)
    order = order[np.argsort(-found.scores[order], kind="stable")]
    right, classes = scores.right[AT_50, order], found.classes[order]
    counts = truth.class_counts
    by_class = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[by_class], np.arange(len(counts) + 1))
    points = []
    for k in range(len(counts)):
        part = by_class[starts[k] : starts[k + 1]]
        points.append(_best_point(found.scores[order[part]], right[part], int(counts[k])))
    return _best_point(found.scores[order], right, int(counts.sum())), points


def _best_point(scores: np.ndarray, right: np.ndarray, number: int) -> OperatingPoint | None:
    """Find the best F1 among (D,) descending scores, with (D,) bool for the correct ones, and a number of boxes."""
    if not number or not right.any():
        return None
    hits = right.cumsum()
    f1 = 2 * hits / (np.arange(1, len(right) + 1) + number)  # 2 TP / (predictions + boxes)
    # A threshold admits all detections with its score.
    last_of_score = np.append(scores[1:] != scores[:-1], True)
    best = int(np.where(last_of_score, f1, -1).argmax())
    return OperatingPoint(
        float(scores[best]), float(hits[best] / (best + 1)), float(hits[best] / number), float(f1[best])
    )


def calibration(truth: Truth, found: Detections, scores: Scores) -> Calibration:
    """Compare scores with the share of correct detections: of those with score s, a share of s should be correct.

    ECE is the mean of |mean score - share correct| over bins, weighted by their counts. D-ECE is the same over bins of
    the score and the box relative to its image; bins with fewer than LEAST_IN_BIN detections are left out.
    """
    usable = scores.counted & ~scores.ignored[AT_50]
    values, right = found.scores[usable], scores.right[AT_50, usable]
    if len(values) and not ((values >= 0) & (values <= 1)).all():
        return Calibration([], None, None, 0, len(values), "scores outside [0, 1] are not probabilities")
    edges = np.linspace(0, 1, NUM_BINS + 1)
    index = _bin(values, NUM_BINS)
    counts, means, shares = _reliability(index, values, right, NUM_BINS)
    bins = [
        {"low": float(edges[i]), "high": float(edges[i + 1]), "count": int(counts[i]),
         "score": float(means[i]) if counts[i] else None, "right": float(shares[i]) if counts[i] else None}
        for i in range(NUM_BINS)
    ]  # fmt: skip
    if not len(values):
        return Calibration(bins, None, None, 0, 0, "no detections")
    boxes, sizes = found.boxes[usable], truth.sizes[found.images[usable]]
    parts = np.column_stack([values, (boxes[:, :2] + boxes[:, 2:] / 2) / sizes, boxes[:, 2:] / sizes])
    cells = np.ravel_multi_index(_bin(parts, BINS_OF_BOX).T, (BINS_OF_BOX,) * parts.shape[1])
    _, cells, in_cell = np.unique(cells, return_inverse=True, return_counts=True)
    full = in_cell[cells] >= LEAST_IN_BIN
    d_ece = _error(*_reliability(cells[full], values[full], right[full], len(in_cell))) if full.any() else None
    return Calibration(bins, _error(counts, means, shares), d_ece, int(full.sum()), len(values), "")


def _bin(values: np.ndarray, number: int) -> np.ndarray:
    """Return the index of each value among equal bins of [0, 1]; the outer bins take the values beyond."""
    return (values * number).astype(int).clip(0, number - 1)


def _reliability(index: np.ndarray, values: np.ndarray, right: np.ndarray, number: int) -> tuple[np.ndarray, ...]:
    """Compute the count, mean value and share of correct detections of each bin."""
    counts = np.bincount(index, minlength=number)
    of = np.maximum(counts, 1)
    return counts, np.bincount(index, values, number) / of, np.bincount(index, right, number) / of


def _error(counts: np.ndarray, means: np.ndarray, shares: np.ndarray) -> float:
    return float((counts * abs(means - shares)).sum() / counts.sum())
