"""What the errors of a detector cost: the breakdown of TIDE (Bolya et al., ECCV 2020, Sec. 2).

Each false prediction and each missed box gets one type; a type costs the AP at IoU 0.5 that would be gained if an
oracle mended all its errors and no other. Where the paper leaves an order open, it is that of its authors' tool.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools.mask import iou as mask_iou

from .boxes import Detections, Truth
from .coco_scores import RECALLS

__all__ = ["BACKGROUND_IOU", "ERRORS", "FOREGROUND_IOU", "ErrorBreakdown", "average_precision", "break_down"]

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1  # t_f and t_b of Sec. 2.2
ERRORS = {
    "classification": "on a box of another class",
    "localisation": "right class, but IoU 0.1 to 0.5",
    "both": "another class and IoU 0.1 to 0.5",
    "duplicate": "on a box that a better prediction has found",
    "background": "on nothing: IoU below 0.1 with every box",
    "missed": "boxes without a prediction that the first two would mend",
}
CLS, LOC, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(ERRORS))
RIGHT = -1  # the kind of a detection that is no error


@dataclass(frozen=True)
class ErrorBreakdown:
    """AP at IoU 0.5 in percent, and by type (the keys of ``ERRORS``) the points lost to it and how many there are.

    A detection in a crowd is no false one of AP, yet it has a type, is counted, and can be mended into a right one.
    """

    ap50: float | None
    lost: dict[str, float | None]
    counts: dict[str, int]
    false_positives: float | None  # points, if no prediction were false and recall stayed
    false_negatives: float | None  # points, if no box were missed and precision stayed
    kinds: np.ndarray  # (D,) index into ERRORS, or -1 right
    excused: np.ndarray  # (D,) True for a detection that is not right and lies in a crowd of its class


def break_down(truth: Truth, found: Detections) -> ErrorBreakdown:
    """Give every error its type and cost.

    Args:
        found: at most the number of detections of an image that are to count.

    Returns:
        with None for every AP where there is no box to find.
    """
    kinds, targets, matched, excused = _classify(truth, found)
    mendable = np.zeros(len(truth.boxes), dtype=bool)
    # A target of -1 is none: it reads what is appended, a box that is found already.
    free = np.isin(kinds, (CLS, LOC)) & ~np.append(matched, True)[targets]
    class_of_target = np.append(truth.classes, 0)[targets]
    mendable[targets[free]] = True
    missed = ~truth.crowd & ~matched & ~mendable
    counts = [int((kinds == kind).sum()) for kind in range(MISSED)] + [int(missed.sum())]
    curves = _Curves(truth, found, kinds, excused)
    base = curves.ap()
    best = _best_of_each_box(found, free, targets)
    lost = []
    for kind in range(len(ERRORS)):
        if kind == MISSED:
            fixed = curves.ap(fewer=truth.classes[missed])
        else:
            mended = best & (kinds == kind)
            fixed = curves.ap(drop=(kinds == kind) & ~mended, mended=mended, classes=class_of_target)
        # Below 0 only by where COCO's 101 recalls fall.
        lost.append(None if base is None else max(fixed - base, 0.0))
    all_missed = truth.classes[~truth.crowd & ~matched]
    return ErrorBreakdown(
        ap50=base,
        lost=dict(zip(ERRORS, lost, strict=True)),
        counts=dict(zip(ERRORS, counts, strict=True)),
        false_positives=None if base is None else curves.ap(perfect_order=True) - base,
        false_negatives=None if base is None else curves.ap(fewer=all_missed) - base,
        kinds=kinds,
        excused=excused,
    )


def _classify(truth: Truth, found: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each detection its kind and the box that it would find if mended (or -1); whether each box is found; and
    which detections a crowd excuses."""
    kinds, targets = np.full(len(found), BACKGROUND), np.full(len(found), -1)
    matched, excused = np.zeros(len(truth.boxes), dtype=bool), np.zeros(len(found), dtype=bool)
    bounds = np.arange(len(truth.image_ids) + 1)
    of_found, of_truth = np.searchsorted(found.images, bounds), np.searchsorted(truth.images, bounds)
    for i in np.unique(found.images).tolist():
        d, g = slice(of_found[i], of_found[i + 1]), np.arange(of_truth[i], of_truth[i + 1])
        boxes, crowds = g[~truth.crowd[g]], g[truth.crowd[g]]
        right = np.zeros(len(found.scores[d]), dtype=bool)
        same = found.classes[d, None] == truth.classes[boxes]
        if len(boxes):
            iou = mask_iou(found.boxes[d], truth.boxes[boxes], np.zeros(len(boxes), dtype=np.uint8))
            right, used = _match(iou * same)
            matched[boxes] = used
            kinds[d], best = _kinds_of_image(iou, same, used)
            targets[d] = np.where(best >= 0, boxes[best], -1)
        kinds[d] = np.where(right, RIGHT, kinds[d])
        if len(crowds):
            inside = mask_iou(found.boxes[d], truth.boxes[crowds], np.ones(len(crowds), dtype=np.uint8))
            same_class = found.classes[d, None] == truth.classes[crowds]
            excused[d] = ~right & (same_class & (inside > FOREGROUND_IOU)).any(axis=1)
    return kinds, targets, matched, excused


def _match(iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best score first, the free box of the same class that overlaps most. ``iou`` is 0 for other classes."""
    iou = iou.copy()
    right, used = np.zeros(iou.shape[0], dtype=bool), np.zeros(iou.shape[1], dtype=bool)
    for d in np.flatnonzero((iou >= FOREGROUND_IOU).any(axis=1)).tolist():
        g = int(iou[d].argmax())
        if iou[d, g] >= FOREGROUND_IOU:
            right[d] = used[g] = True
            iou[:, g] = 0
    return right, used


def _kinds_of_image(iou: np.ndarray, same: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kind of each detection, were it false, and the box (column) that it would find if mended, or -1."""
    of_class, of_other = iou * same, iou * ~same
    localisation = (of_class.max(axis=1) >= BACKGROUND_IOU) & (of_class.max(axis=1) <= FOREGROUND_IOU)
    classification = of_other.max(axis=1) >= FOREGROUND_IOU
    duplicate = (of_class * used).max(axis=1) >= FOREGROUND_IOU
    background = iou.max(axis=1) <= BACKGROUND_IOU
    conditions = [localisation, classification, duplicate, background]
    kinds = np.select(conditions, [LOC, CLS, DUPLICATE, BACKGROUND], BOTH)
    target = np.select(conditions[:2], [of_class.argmax(axis=1), of_other.argmax(axis=1)], -1)
    return kinds, target


def _best_of_each_box(found: Detections, candidates: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(D,) of the candidates that would find the same box, of whatever type, the one with the best score.

    The others stay false and are left out when their type is mended: a box is found once.
    """
    indices = np.flatnonzero(candidates)
    order = indices[np.lexsort((indices, -found.scores[indices]))]
    _, first = np.unique(targets[order], return_index=True)
    best = np.zeros(len(found), dtype=bool)
    best[order[first]] = True
    return best


class _Curves:
    """Average precision of the detections, with some errors mended."""

    def __init__(self, truth: Truth, found: Detections, kinds: np.ndarray, excused: np.ndarray):
        self._counts, self._found, self._kinds, self._excused = truth.class_counts, found, kinds, excused
        self._present = np.flatnonzero(self._counts)

    def ap(self, *, drop=False, mended=False, classes=None, fewer=(), perfect_order=False) -> float | None:
        """Mean over the classes with boxes.

        Args:
            drop: (D,) detections left out; mended: (D,) made right, with ``classes`` (D,) as their class.
            fewer: classes of boxes that need not be found.
            perfect_order: every right detection before every false one.
        """
        if not len(self._present):
            return None
        right = (self._kinds == RIGHT) | mended
        kept = ~np.broadcast_to(drop, right.shape) & (right | ~self._excused)
        class_of = self._found.classes if classes is None else np.where(mended, classes, self._found.classes)
        scores = right.astype(float) if perfect_order else self._found.scores
        needed = self._counts - np.bincount(np.asarray(fewer, dtype=int), minlength=len(self._counts))
        order = np.lexsort((-scores, class_of))
        order = order[kept[order]]
        starts = np.searchsorted(class_of[order], np.arange(len(self._counts) + 1))
        aps = [
            average_precision(right[order[starts[k] : starts[k + 1]]], int(needed[k]))
            for k in self._present
            if needed[k] or starts[k] < starts[k + 1]  # nothing left to find and nothing found: no class any more
        ]
        return 100 * float(np.mean(aps)) if aps else 0.0


def average_precision(right: np.ndarray, number: int) -> float:
    """COCO's, over 101 recalls, in [0, 1].

    Args:
        right: (D,) bool of one class, best score first.
        number: boxes to find; 0 gives 0.
    """
    if not number or not len(right):
        return 0.0
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    indices = np.searchsorted(hits / number, RECALLS)
    return float(np.append(precision, 0.0)[indices].mean())
