"""The scales by which the images of a data set are resized for the network."""

from collections.abc import Callable, Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge

from .dataset_content import DatasetContent

__all__ = ["describe_vanishing", "find_vanishing", "median_scale", "resize_scales", "resized_sizes"]


def median_scale(
    cfg: CfgNode, contents: Sequence[DatasetContent], pick: Callable[[Sequence[int]], int] | None
) -> float:
    """The median of ``resize_scales`` over all images of known size; 1 of none."""
    scales = np.concatenate([[], *(resize_scales(cfg, content.sizes, pick) for content in contents)])
    return float(np.nanmedian(scales)) if np.isfinite(scales).any() else 1.0


def resize_scales(cfg: CfgNode, sizes: np.ndarray, pick: Callable[[Sequence[int]], int] | None) -> np.ndarray:
    """(N, 2) widths and heights to (N,) factors by which a side grows; NaN where a size is not known.

    Args:
        pick: ``min`` or ``max`` of INPUT.MIN_SIZE_TRAIN, after the crop of INPUT.CROP; None for the test-time resize.
    """
    cropped = sizes if pick is None else _crop(cfg, sizes)
    return resized_sizes(cfg, sizes, pick)[:, 0] / cropped[:, 0]


def resized_sizes(cfg: CfgNode, sizes: np.ndarray, pick: Callable[[Sequence[int]], int] | None) -> np.ndarray:
    """(N, 2) widths and heights as the network sees them, before padding; arguments as for ``resize_scales``."""
    if pick is None:
        side, limit = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    else:
        sizes = _crop(cfg, sizes)
        side, limit = pick(cfg.INPUT.MIN_SIZE_TRAIN or [0]), cfg.INPUT.MAX_SIZE_TRAIN  # the rules refuse ()
    if not len(sizes) or side == 0:  # 0 keeps an image's own size
        return sizes.astype(float)
    shapes, inverse = np.unique(sizes, axis=0, return_inverse=True)  # few distinct sizes among many images
    resized = [
        ResizeShortestEdge.get_output_shape(height, width, side, limit)[::-1]
        if np.isfinite((width, height)).all() and min(width, height) > 0
        else (np.nan, np.nan)
        for width, height in shapes
    ]
    return np.array(resized, dtype=float)[inverse.reshape(-1)]


def find_vanishing(cfg: CfgNode, sizes: np.ndarray, pick: Callable[[Sequence[int]], int] | None) -> np.ndarray:
    """(N,) True where the resize leaves no pixel of a side; arguments as for ``resize_scales``."""
    return (resized_sizes(cfg, sizes, pick) < 1).any(axis=1)


def describe_vanishing(cfg: CfgNode, size: tuple[float, float], pick: Callable[[Sequence[int]], int] | None) -> str:
    """Say what is wrong with an image of ``size`` (width, height) that ``find_vanishing`` finds: "is ..."."""
    key = f"MAX_SIZE_{'TEST' if pick is None else 'TRAIN'}"
    width, height = size
    rule = f"INPUT.{key} {cfg.INPUT[key]} leaves less than one pixel of a side"
    return f"is {width:g}x{height:g} pixels, so thin that {rule}"


def _crop(cfg: CfgNode, sizes: np.ndarray) -> np.ndarray:
    """Sizes after Detectron2's ``RandomCrop``, the mean one where its size is random."""
    if not cfg.INPUT.CROP.ENABLED:
        return sizes
    low, high = cfg.INPUT.CROP.SIZE
    kind = cfg.INPUT.CROP.TYPE
    if kind == "absolute":
        return np.minimum(sizes, [high, low])  # SIZE is (height, width)
    if kind == "absolute_range":  # both sides are drawn from [low, high]
        return np.minimum(sizes, (low + high) / 2)
    share = np.array([high, low], dtype=float)
    return sizes * (share if kind == "relative" else (1 + share) / 2)
