"""The cost of each type of error: the breakdown of TIDE (Bolya et al., ECCV 2020, Sec. 2).

Each false detection and each missed box gets one type. The cost of a type is the AP at IoU 0.5 gained if an oracle
fixes all its errors and no others. Where the paper leaves an order open, it is that of its authors' tool.
"""

from dataclasses import dataclass

import numpy as np

from .boxes import Detections, Truth
from .coco_scores import RECALLS
from .matching import box_iou, by_image, match_greedily

__all__ = ["BACKGROUND_IOU", "ERRORS", "FOREGROUND_IOU", "ErrorBreakdown", "average_precision", "break_down"]

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1  # t_f and t_b of Sec. 2.2
ERRORS = {
    "classification": "on a box of another class: IoU 0.5 or more",
    "localisation": "right class, but IoU 0.1 to 0.5",
    "both": "another class, and IoU 0.1 to 0.5",
    "duplicate": "on a box that a detection with a higher score matches",
    "background": "IoU below 0.1 with every box",
    "missed": "boxes that no detection matches, even after fixing classes and positions",
}
CLS, LOC, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(ERRORS))
RIGHT = -1  # kind of a correct detection


@dataclass(frozen=True)
class ErrorBreakdown:
    """AP at IoU 0.5 in percent, and by type (the keys of ``ERRORS``) the points lost to it and how many there are.

    AP ignores a false detection in a crowd. Here, as in TIDE, it has a type and counts, and fixing may make it right.
    """

    ap50: float | None
    lost: dict[str, float | None]
    counts: dict[str, int]
    false_positives: float | None  # points gained without false detections, at the same recall
    false_negatives: float | None  # points gained without missed boxes, at the same precision
    kinds: np.ndarray  # (D,) index into ERRORS, or -1 right
    excused: np.ndarray  # (D,) True for a detection that is not right and lies in a crowd of its class


def break_down(truth: Truth, found: Detections) -> ErrorBreakdown:
    """Give every error its type and cost; every AP is None if there is no box.

    Args:
        found: at most as many detections of an image as count (``Detections.best``).
    """
    kinds, targets, matched, excused = _classify(truth, found)
    fixable = np.zeros(len(truth.boxes), dtype=bool)
    # A target of -1 (none) reads the appended entry, which counts as matched.
    free = np.isin(kinds, (CLS, LOC)) & ~np.append(matched, True)[targets]
    class_of_target = np.append(truth.classes, 0)[targets]
    fixable[targets[free]] = True
    missed = ~truth.crowd & ~matched & ~fixable
    counts = [int((kinds == kind).sum()) for kind in range(MISSED)] + [int(missed.sum())]
    curves = _Curves(truth, found, kinds, excused)
    base = curves.ap()
    # A box is matched once: of the candidates for it, of any type, only the one with the best score is fixed.
    indices = np.flatnonzero(free)
    order = indices[np.lexsort((indices, -found.scores[indices]))]
    best = np.zeros(len(found), dtype=bool)
    best[order[np.unique(targets[order], return_index=True)[1]]] = True
    lost = []
    for kind in range(len(ERRORS)):
        if kind == MISSED:
            fixed = curves.ap(fewer=truth.classes[missed])
        else:
            fixed_ones = best & (kinds == kind)
            fixed = curves.ap(drop=(kinds == kind) & ~fixed_ones, fixed=fixed_ones, classes=class_of_target)
        # Below 0 only through the position of COCO's 101 recalls.
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
    """Give each detection its kind, the box that it would match if fixed (or -1) and True if a crowd excuses it; and
    give each box True if it is matched. In the order kinds, targets, matched, excused."""
    kinds, targets = np.full(len(found), BACKGROUND), np.full(len(found), -1)
    matched, excused = np.zeros(len(truth.boxes), dtype=bool), np.zeros(len(found), dtype=bool)
    for d, boxes, crowds in by_image(truth, found):
        if not len(d):
            continue
        right = np.zeros(len(d), dtype=bool)
        if len(boxes):
            iou, same = box_iou(found.boxes[d], truth.boxes[boxes]), found.classes[d, None] == truth.classes[boxes]
            partner = match_greedily(iou * same, FOREGROUND_IOU)
            right = partner >= 0
            matched[boxes[partner[right]]] = True
            kinds[d], best = _kinds_of_image(iou, same, matched[boxes])
            targets[d] = np.where(best >= 0, boxes[best], -1)
        kinds[d] = np.where(right, RIGHT, kinds[d])
        inside = box_iou(found.boxes[d], truth.boxes[crowds], crowd=True)
        same_class = found.classes[d, None] == truth.classes[crowds]
        excused[d] = ~right & (same_class & (inside > FOREGROUND_IOU)).any(axis=1)
    return kinds, targets, matched, excused


def _kinds_of_image(iou: np.ndarray, same: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each detection its kind, supposing it is false, and the box (column) that it would match if fixed, or -1."""
    of_class, of_other = iou * same, iou * ~same
    localisation = (of_class.max(axis=1) >= BACKGROUND_IOU) & (of_class.max(axis=1) <= FOREGROUND_IOU)
    classification = of_other.max(axis=1) >= FOREGROUND_IOU
    duplicate = (of_class * used).max(axis=1) >= FOREGROUND_IOU
    background = iou.max(axis=1) <= BACKGROUND_IOU
    conditions = [localisation, classification, duplicate, background]
    kinds = np.select(conditions, [LOC, CLS, DUPLICATE, BACKGROUND], BOTH)
    target = np.select(conditions[:2], [of_class.argmax(axis=1), of_other.argmax(axis=1)], -1)
    return kinds, target


class _Curves:
    """Average precision of the detections after some errors are fixed."""

    def __init__(self, truth: Truth, found: Detections, kinds: np.ndarray, excused: np.ndarray):
        self._counts, self._found, self._kinds, self._excused = truth.class_counts, found, kinds, excused
        self._present = np.flatnonzero(self._counts)

    def ap(self, *, drop=False, fixed=False, classes=None, fewer=(), perfect_order=False) -> float | None:
        """Compute the mean over the classes with boxes.

        Args:
            drop: (D,) detections left out; fixed: (D,) made right, with ``classes`` (D,) as their class.
            fewer: classes of boxes to leave out of the ground truth, one entry a box.
            perfect_order: every right detection before every false one.
        """
        if not len(self._present):
            return None
        right = (self._kinds == RIGHT) | fixed
        kept = ~np.broadcast_to(drop, right.shape) & (right | ~self._excused)
        class_of = self._found.classes if classes is None else np.where(fixed, classes, self._found.classes)
        scores = right.astype(float) if perfect_order else self._found.scores
        needed = self._counts - np.bincount(np.asarray(fewer, dtype=int), minlength=len(self._counts))
        order = np.lexsort((-scores, class_of))
        order = order[kept[order]]
        starts = np.searchsorted(class_of[order], np.arange(len(self._counts) + 1))
        aps = [
            average_precision(right[order[starts[k] : starts[k + 1]]], int(needed[k]))
            for k in self._present
            if needed[k] or starts[k] < starts[k + 1]  # a class without boxes and detections leaves the mean
        ]
        return 100 * float(np.mean(aps)) if aps else 0.0


def average_precision(right: np.ndarray, number: int) -> float:
    """Compute COCO's average precision over 101 recalls, in [0, 1].

    Args:
        right: (D,) bool of one class, best score first.
        number: of boxes; 0 gives 0.
    """
    if not number or not len(right):
        return 0.0
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    indices = np.searchsorted(hits / number, RECALLS)
    return float(np.append(precision, 0.0)[indices].mean())
