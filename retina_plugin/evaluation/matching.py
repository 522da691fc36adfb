"""IoU and greedy matching of detections, for the error types and the confusion matrix."""

from collections.abc import Iterator

import numpy as np
from pycocotools.mask import iou as mask_iou

from .boxes import Detections, Truth

__all__ = ["box_iou", "by_image", "match_greedily"]


def by_image(truth: Truth, found: Detections) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the indices of the detections, boxes and crowd regions of each image."""
    bounds = np.arange(len(truth.image_ids) + 1)
    of_found, of_truth = np.searchsorted(found.images, bounds), np.searchsorted(truth.images, bounds)
    for i in range(len(truth.image_ids)):
        members = np.arange(of_truth[i], of_truth[i + 1])
        crowd = truth.crowd[members]
        yield np.arange(of_found[i], of_found[i + 1]), members[~crowd], members[crowd]


def box_iou(boxes: np.ndarray, others: np.ndarray, *, crowd: bool | np.ndarray = False) -> np.ndarray:
    """Compute the (D, M) IoU of (D, 4) and (M, 4) XYWH boxes; with ``crowd`` the part of a box inside (COCO).

    Args:
        crowd: of all of the second boxes, or (M,).
    """
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    return mask_iou(boxes, others, np.full(len(others), crowd, dtype=np.uint8))


def match_greedily(iou: np.ndarray, min_iou: float, prefer: np.ndarray | None = None) -> np.ndarray:
    """Give each detection, best score first, the free box that it overlaps most.

    Args:
        iou: (D, M), rows by descending score; 0 for a pair that must not match.
        min_iou: least IoU of a match, above 0.
        prefer: (D, M) bool, pairs to prefer among equal overlaps; None takes the first.

    Returns:
        (D,) index of the box, or -1.
    """
    iou, partner = np.array(iou), np.full(len(iou), -1)
    for d in np.flatnonzero((iou >= min_iou).any(axis=1)).tolist():
        best = np.flatnonzero(iou[d] == iou[d].max())
        m = best[0] if prefer is None else best[prefer[d, best].argmax()]
        if iou[d, m] >= min_iou:
            partner[d] = m
            iou[:, m] = 0
    return partner
