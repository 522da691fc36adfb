"""The cost of each type of error: the breakdown of TIDE (Bolya et al., ECCV 2020, Sec. 2).

Each false detection and each missed box gets one type. The cost of a type is the gain in AP at IoU 0.5 if an oracle
fixes all errors of this type and no others. Where the paper leaves the order of tests open, the authors' tool decides.
"""

from dataclasses import dataclass

import numpy as np

from .boxes import Detections, Truth
from .coco_scores import RECALLS
from .matching import box_iou, by_image, match_greedily

__all__ = ["BACKGROUND_IOU", "ERRORS", "ErrorBreakdown", "break_down"]

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
    """AP at IoU 0.5 in percent; for each type (key of ``ERRORS``) the points lost to it and the number of errors.

    AP ignores a false detection in a crowd. Here, as in TIDE, it has a type and is counted, and a fix may correct it.
    """

    ap50: float | None
    lost: dict[str, float | None]
    counts: dict[str, int]
    false_positives: float | None  # points gained by removing all false detections
    false_negatives: float | None  # points gained by removing all missed boxes
    kinds: np.ndarray  # (D,) index into ERRORS; -1 for a correct detection
    excused: np.ndarray  # (D,) True for a false detection in a crowd of its class

    @property
    def rows(self) -> list[tuple[str, int | None, float | None]]:
        """Name, number and points lost of each type; the last two are the gains without false positives or misses."""
        types = [(name, self.counts[name], self.lost[name]) for name in ERRORS]
        return [*types, ("all false positives", None, self.false_positives), ("all misses", None, self.false_negatives)]


def break_down(truth: Truth, found: Detections) -> ErrorBreakdown:
    """Give every error its type and cost; every AP is None if there is no box.

    Args:
        found: only the detections that count for each image (``Detections.best``).
    """
    kinds, targets, matched, excused = _classify(truth, found)
    fixable = np.zeros(len(truth.boxes), dtype=bool)
    # A target of -1 (none) indexes the appended entry, which counts as matched.
    free = np.isin(kinds, (CLS, LOC)) & ~np.append(matched, True)[targets]
    class_of_target = np.append(truth.classes, 0)[targets]
    fixable[targets[free]] = True
    missed = ~truth.crowd & ~matched & ~fixable
    counts = [int((kinds == kind).sum()) for kind in range(MISSED)] + [int(missed.sum())]
    curves = _Curves(truth, found, kinds, excused)
    base = curves.ap()
    # A box can be matched once, so only the best-scored candidate for it, of any type, is fixed.
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
        # The difference is below 0 only by the spacing of COCO's 101 recalls.
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
    """Classify the detections.

    Returns:
        kinds: (D,) index into ERRORS, or RIGHT. targets: (D,) box that a fixed detection would match, or -1.
        matched: (M,) True for a box with a correct detection. excused: (D,) as in ``ErrorBreakdown``.
    """
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
            # The kind of each detection if it is false, and the box that it would match if fixed.
            of_class, of_other = iou * same, iou * ~same
            conditions = [
                (of_class.max(axis=1) >= BACKGROUND_IOU) & (of_class.max(axis=1) <= FOREGROUND_IOU),
                of_other.max(axis=1) >= FOREGROUND_IOU,
                (of_class * matched[boxes]).max(axis=1) >= FOREGROUND_IOU,
                iou.max(axis=1) <= BACKGROUND_IOU,
            ]
            kinds[d] = np.select(conditions, [LOC, CLS, DUPLICATE, BACKGROUND], BOTH)
            best = np.select(conditions[:2], [of_class.argmax(axis=1), of_other.argmax(axis=1)], -1)
            targets[d] = np.where(best >= 0, boxes[best], -1)
        kinds[d] = np.where(right, RIGHT, kinds[d])
        inside = box_iou(found.boxes[d], truth.boxes[crowds], crowd=truth.regions[crowds])
        same_class = found.classes[d, None] == truth.classes[crowds]
        excused[d] = ~right & (same_class & (inside > FOREGROUND_IOU)).any(axis=1)
    return kinds, targets, matched, excused


class _Curves:
    """Average precision of the detections after some errors are fixed."""

    def __init__(self, truth: Truth, found: Detections, kinds: np.ndarray, excused: np.ndarray):
        self._counts, self._found, self._kinds, self._excused = truth.class_counts, found, kinds, excused
        self._present = np.flatnonzero(self._counts)

    def ap(self, *, drop=False, fixed=False, classes=None, fewer=(), perfect_order=False) -> float | None:
        """Compute the mean over the classes with boxes.

        Args:
            drop: (D,) bool, detections to leave out.
            fixed: (D,) bool, detections to count as correct, with their classes from ``classes`` (D,).
            fewer: class of each box to leave out of the ground truth.
            perfect_order: rank every correct detection before every false one.
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
            if needed[k] or starts[k] < starts[k + 1]  # a class without boxes and detections is not in the mean
        ]
        return 100 * float(np.mean(aps)) if aps else 0.0


def average_precision(right: np.ndarray, number: int) -> float:
    """Compute COCO's average precision over 101 recalls, in [0, 1].

    Args:
        right: (D,) bool, correct detections of one class, best score first.
        number: number of boxes; 0 gives 0.
    """
    if not number or not len(right):
        return 0.0
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    indices = np.searchsorted(hits / number, RECALLS)
    return float(np.append(precision, 0.0)[indices].mean())
