"""Paired bootstrap of AP: score detectors on many resamples of the same images."""

import numpy as np

from .boxes import Detections, Truth
from .coco_scores import RECALLS, THRESHOLDS, Scores, mean_of_known

__all__ = ["ap_intervals", "draw_images", "interval", "resampled_ap"]

CHUNK = 20_000_000  # numbers in memory at a time; 160 MB
ROUNDING = 1e-9  # the product of a recall and a count is exact to the last bit of a float64


def draw_images(number: int, samples: int, seed: int) -> np.ndarray:
    """Draw ``number`` images with replacement, ``samples`` times, and return the (samples, number) counts."""
    return np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=samples)


def resampled_ap(truth: Truth, found: Detections, scores: Scores, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute AP and AP50 of each class on each resample of the images.

    Args:
        draws: (S, N) counts from ``draw_images``; a row of ones gives the AP of the whole set.

    Returns:
        two arrays (S, K) in percent; NaN where a resample has no box of the class.
    """
    S, K = len(draws), len(truth.class_ids)
    ap = np.full((2, S, K), np.nan)
    for k in np.flatnonzero(truth.class_counts).tolist():
        boxes = np.bincount(truth.images[(truth.classes == k) & ~truth.crowd], minlength=draws.shape[1])
        needed = draws @ boxes
        index = np.flatnonzero((found.classes == k) & scores.counted)
        index = index[np.argsort(-found.scores[index], kind="stable")]
        step = max(1, CHUNK // max(len(index), len(RECALLS)))
        for start in range(0, S, step):
            part = slice(start, start + step)
            weights = draws[part][:, found.images[index]]
            by_threshold = [
                _precision(weights, scores.right[t, index], ~scores.ignored[t, index], needed[part])
                for t in range(len(THRESHOLDS))
            ]
            values = np.stack([np.mean(by_threshold, axis=0), by_threshold[0]])
            ap[:, part, k] = np.where(needed[part] > 0, 100 * values, np.nan)
    return ap[0], ap[1]


def ap_intervals(truth: Truth, found: Detections, scores: Scores, samples: int) -> dict[str, tuple[float, float]]:
    """Compute the 95 % intervals of AP and AP50 over ``samples`` of the images; {} without samples or boxes."""
    if not samples:
        return {}
    both = resampled_ap(truth, found, scores, draw_images(len(truth.image_ids), samples, seed=0))
    known = {name: interval(mean_of_known(values, 1)) for name, values in zip(("AP", "AP50"), both, strict=True)}
    return {name: bounds for name, bounds in known.items() if bounds}


def _precision(weights: np.ndarray, right: np.ndarray, usable: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Compute the mean precision at COCO's recalls.

    Args:
        weights: (S, D) count of each detection in each resample, best score first.
        right, usable: (D,) bool, correct detections and those outside crowds.
        needed: (S,) number of boxes.

    Returns:
        (S,) in [0, 1]; 0 if no detection is correct.
    """
    S = len(weights)
    if not right.any():
        return np.zeros(S)
    all_so_far = (weights * usable).cumsum(axis=1)[:, right]
    hits = weights[:, right].cumsum(axis=1)
    precision = hits / np.maximum(all_so_far, 1)
    # Precision has its local maxima at correct detections, so the others are not needed.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    wanted = np.ceil(RECALLS * needed[:, None] - ROUNDING).astype(np.int64)  # correct detections needed for each recall
    # Shift each row above the one before it, so that one search serves all rows.
    shift = (max(hits.max(), needed.max()) + 2) * np.arange(S)[:, None]
    places = np.searchsorted((hits + shift).ravel(), (wanted + shift).ravel()).reshape(S, -1)
    places -= np.arange(S)[:, None] * hits.shape[1]
    padded = np.concatenate([precision, np.zeros((S, 1))], axis=1)
    return np.take_along_axis(padded, places, axis=1).mean(axis=1)


def interval(values: np.ndarray, share: float = 0.95) -> tuple[float, float] | None:
    """Compute the percentile interval of the middle ``share`` of the values that are not NaN; None without any."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
