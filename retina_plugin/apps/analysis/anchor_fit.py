"""Fits anchors to boxes: base size, scales and ratios, or sizes level by level (paper Sec. 4, Table 1c).

The search is deterministic: a grid over the parameters of the octave anchors, then hill climbing, one number at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...ops import octave_sizes
from .anchor_layout import AnchorLayout

__all__ = ["AnchorFit", "Objective", "fit_octaves", "fit_sizes", "gain_with_error", "split_images"]

MAX_SCALES = 4  # scales an octave, the most in Table 1c
# In strides: from 1 (smaller anchors would leave gaps between them) to 8, in steps of 2^(1/4).
BASE_SIZES = tuple(2 ** (k / 4) for k in range(13))
# Smallest and largest size of a single anchor in strides; 16 is the paper's 4, two octaves up.
SIZE_LIMITS = (1.0, 16.0)
# Factors on a number, coarse to fine; the finest changes an IoU by less than 0.01.
MOVES = tuple(2**step for step in (-0.5, 0.5, -0.25, 0.25, -0.125, 0.125, -0.0625, 0.0625))
SWEEPS = 3  # passes over all numbers, at most; most searches stop earlier
PENALTY = 10.0  # a lost box costs more than ten others can gain, since a gain is below 1
CLUSTER_ROUNDS = 50  # iterations of k-means, at most


@dataclass(frozen=True)
class Objective:
    """Objective over M boxes (M >= 1): mean best IoU, or the share of boxes that reach ``threshold``.

    A mean alone would sacrifice rare sizes for a better fit of the common size, so ``limits`` restrict the search.
    """

    # None for mean best IoU.
    threshold: float | None = None
    # (IoU, the largest share of boxes that may stay below it), such as (0.4, 0.01).
    limits: tuple[tuple[float, float], ...] = ()

    def score(self, best: Tensor) -> float:
        """Objective of (M,) best IoU minus a penalty for each limit that they break."""
        excess = sum(max(0.0, float((best < iou).to(best).mean()) - share) for iou, share in self.limits)
        return float(self.per_box(best).mean()) - PENALTY * excess

    def per_box(self, best: Tensor) -> Tensor:
        """Convert (M,) best IoU to (M,) numbers whose mean is the objective."""
        return best if self.threshold is None else (best >= self.threshold).to(best)

    def __str__(self) -> str:
        return "mean best IoU" if self.threshold is None else f"share of boxes with best IoU >= {self.threshold:g}"


@dataclass(frozen=True)
class AnchorFit:
    """Fitted anchors as values of config keys; if ``sizes`` is set, it replaces ``base_size`` and ``scales``."""

    base_size: float
    scales: int
    ratios: tuple[float, ...]
    sizes: tuple[tuple[float, ...], ...] | None = None

    def layout(self, like: AnchorLayout) -> AnchorLayout:
        if self.sizes is None:
            return like.with_octaves(self.base_size, self.scales, self.ratios)
        return like.with_sizes(self.sizes, self.ratios)


def fit_octaves(
    like: AnchorLayout, boxes: Tensor, grids: Tensor, *, max_anchors: int, objective: Objective
) -> AnchorFit:
    """Find the best ``OctaveAnchorGenerator`` for the boxes, on the grid of ``like``.

    Args:
        like: strides, offset and padding are taken from it.
        boxes: (M, 4) XYXY, pixels of the resized images, M >= 1.
        grids: (M, L, 2) rows and columns of the levels of each box's image.
        max_anchors: largest number of scales times ratios, >= 1.
        objective: to be maximised; of equals the first found, with fewer scales, is taken.
    """

    def score(fit: AnchorFit) -> float:
        return _score(fit, like, boxes, grids, objective)

    log_ratios = torch.log((boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0])).numpy()
    candidates = [
        AnchorFit(round(base_size, 2), scales, ratios)
        for scales in range(1, min(MAX_SCALES, max_anchors) + 1)
        for ratios in ratio_sets(log_ratios, max_anchors // scales)
        for base_size in BASE_SIZES
    ]
    best = max(candidates, key=score)
    moves: list[Callable[[AnchorFit, float], AnchorFit]] = [
        lambda fit, factor: replace(fit, base_size=round(max(fit.base_size * factor, BASE_SIZES[0]), 2))
    ]
    moves += [
        lambda fit, factor, i=i: replace(
            fit, ratios=(*fit.ratios[:i], _round_ratio(fit.ratios[i] * factor), *fit.ratios[i + 1 :])
        )
        for i in range(len(best.ratios))
    ]
    best = _climb(best, moves, score)
    return replace(best, ratios=tuple(sorted(best.ratios)))


def fit_sizes(start: AnchorFit, like: AnchorLayout, boxes: Tensor, grids: Tensor, *, objective: Objective) -> AnchorFit:
    """Fit the sizes of each level separately, with the number of sizes and the ratios of ``start``."""

    def move(fit: AnchorFit, factor: float, level: int, i: int) -> AnchorFit:
        low, high = (limit * like.strides[level] for limit in SIZE_LIMITS)
        changed = min(max(fit.sizes[level][i] * factor, low), high)
        sizes = [list(sizes) for sizes in fit.sizes]
        sizes[level][i] = round(changed, 1)
        return replace(fit, sizes=tuple(map(tuple, sizes)))

    sizes = octave_sizes(like.strides, base_size=start.base_size, scales_per_octave=start.scales)
    fit = replace(start, sizes=tuple(tuple(round(size, 1) for size in level) for level in sizes))
    moves = [
        lambda fit, factor, level=level, i=i: move(fit, factor, level, i)
        for level in range(len(like.strides))
        for i in range(start.scales)
    ]
    fit = _climb(fit, moves, lambda candidate: _score(candidate, like, boxes, grids, objective))
    return replace(fit, sizes=tuple(tuple(sorted(level)) for level in fit.sizes))


def cluster_ratios(log_ratios: np.ndarray, number: int) -> tuple[float, ...]:
    """Cluster log(height / width) by k-means into ``number`` >= 1 aspect ratios, increasing."""
    # The centres start evenly spaced between percentiles, so that an outlier gets no centre of its own.
    low, high = np.percentile(log_ratios, (2, 98))
    centers = low + (high - low) * (np.arange(number) + 0.5) / number
    for _ in range(CLUSTER_ROUNDS):
        nearest = np.abs(log_ratios[:, None] - centers[None]).argmin(axis=1)
        # A centre without boxes is not moved.
        moved = np.array(
            [log_ratios[nearest == k].mean() if (nearest == k).any() else centers[k] for k in range(number)]
        )
        if np.allclose(moved, centers):
            break
        centers = moved
    return tuple(_round_ratio(ratio) for ratio in sorted(np.exp(centers)))


def split_images(images: np.ndarray, *, seed: int) -> np.ndarray:
    """Divide the images that have boxes into two halves at random.

    Args:
        images: (M,) index of each box's image.
        seed: seed of the random division.

    Returns:
        (M,) bool, True for boxes in the half to fit on, which has one image more if their number is odd.
    """
    with_boxes = np.unique(images)
    chosen = np.random.default_rng(seed).permutation(with_boxes)[: (len(with_boxes) + 1) // 2]
    return np.isin(images, chosen)


def gain_with_error(gains: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    """Mean of (M,) gains of boxes and its standard error, with boxes of one image taken as dependent; M >= 1.

    The error is that of a mean over clusters: sqrt(sum over images of (sum of the image's deviations)^2) / M.
    """
    mean = float(gains.mean())
    _, inverse = np.unique(images, return_inverse=True)
    sums = np.bincount(inverse, weights=gains - mean)
    return mean, float(np.sqrt((sums**2).sum()) / len(gains))


def _score(fit: AnchorFit, like: AnchorLayout, boxes: Tensor, grids: Tensor, objective: Objective) -> float:
    best, _ = fit.layout(like).best_anchors(boxes, grids)
    return objective.score(best)


def ratio_sets(log_ratios: np.ndarray, number: int) -> list[tuple[float, ...]]:
    """List candidate sets of ``number`` ratios: octaves around 1 (paper), clusters and quantiles of the boxes."""
    middle = (number - 1) / 2
    quantiles = np.exp(np.quantile(log_ratios, (np.arange(number) + 0.5) / number))
    return [
        tuple(2 ** (k - middle) for k in range(number)),
        cluster_ratios(log_ratios, number),
        tuple(_round_ratio(ratio) for ratio in quantiles),
    ]


def _climb(start: AnchorFit, moves: Sequence[Callable], score: Callable[[AnchorFit], float]) -> AnchorFit:
    """Hill climbing: try each move with each factor and keep those that raise the score."""
    best, best_score = start, score(start)
    for _ in range(SWEEPS):
        before = best_score
        for move in moves:
            for factor in MOVES:
                candidate = move(best, factor)
                if candidate != best and (value := score(candidate)) > best_score:
                    best, best_score = candidate, value
        if best_score == before:
            break
    return best


def _round_ratio(ratio: float) -> float:
    # Three significant digits are finer than any move, and a very flat ratio does not round to 0.
    return float(f"{ratio:.3g}")
