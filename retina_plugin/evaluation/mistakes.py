"""Mistakes above a score threshold: confused classes, and the images with the most mistakes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .boxes import Detections, Truth
from .coco_scores import AT_50, Scores
from .error_types import BACKGROUND_IOU
from .matching import box_iou, by_image, match_greedily

__all__ = [
    "CONFUSION_IOU", "UNMATCHED", "ImageMistakes", "confusion_matrix", "mistakes_per_image", "unmatched_detections",
]  # fmt: skip

CONFUSION_IOU = 0.5
# Kinds of detections without a box of their own, by the box of any class that they overlap most.
UNMATCHED = ("box already taken", "partly on a box", "background")


def confusion_matrix(truth: Truth, found: Detections, threshold: float) -> np.ndarray:
    """Count predicted classes against true classes.

    In the order of their scores, detections take the free box of any class that they overlap most, from IoU 0.5 on;
    among equal overlaps they prefer a box of their own class. A detection without a box counts as background, unless it
    lies in a crowd of its class.

    Returns:
        (K + 1, K + 1): true class in rows, predicted class in columns. K is background: its row has the false
        detections, its column the missed boxes.
    """
    K = len(truth.class_ids)
    matrix = np.zeros((K + 1, K + 1), dtype=np.int64)
    found = found.where(found.scores >= threshold)
    for d, boxes, partner, free in _match(truth, found):
        taken = partner[partner >= 0]
        np.add.at(matrix, (truth.classes[boxes[taken]], found.classes[d[partner >= 0]]), 1)
        np.add.at(matrix, (K, found.classes[d[free]]), 1)
        np.add.at(matrix, (np.delete(truth.classes[boxes], taken), K), 1)
    return matrix


def unmatched_detections(truth: Truth, found: Detections, threshold: float) -> np.ndarray:
    """Split the background row of the ``confusion_matrix`` into the kinds of UNMATCHED.

    Returns:
        (3, K): kinds in rows, predicted classes in columns. A detection is on a box already taken from IoU 0.5 on,
        partly on a box from 0.1 on, and on background below.
    """
    counts = np.zeros((len(UNMATCHED), len(truth.class_ids)), dtype=np.int64)
    found = found.where(found.scores >= threshold)
    for d, boxes, _, free in _match(truth, found):
        best = box_iou(found.boxes[d[free]], truth.boxes[boxes]).max(axis=1, initial=0)
        kind = np.select([best >= CONFUSION_IOU, best >= BACKGROUND_IOU], [0, 1], 2)
        np.add.at(counts, (kind, found.classes[d[free]]), 1)
    return counts


def _match(truth: Truth, found: Detections) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Match the detections of each image to boxes of any class.

    Yields:
        indices of the detections (D,) and of the boxes (M,) of an image; index into the boxes for each detection, or -1
        (D,); and a mask (D,) of the detections without a box and outside crowds of their class.
    """
    for d, boxes, crowds in by_image(truth, found):
        same = found.classes[d, None] == truth.classes[boxes]
        partner = match_greedily(box_iou(found.boxes[d], truth.boxes[boxes]), CONFUSION_IOU, prefer=same)
        inside = box_iou(found.boxes[d], truth.boxes[crowds], crowd=truth.regions[crowds])
        same = found.classes[d, None] == truth.classes[crowds]
        in_crowd = ((inside >= CONFUSION_IOU) & same).any(axis=1)
        yield d, boxes, partner, (partner < 0) & ~in_crowd


@dataclass(frozen=True)
class ImageMistakes:
    """For each image, (N,): missed boxes, wrong detections, and the sum of the wrong detections' scores."""

    missed: np.ndarray
    wrong: np.ndarray
    wrong_scores: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.missed + self.wrong

    def worst(self, number: int) -> list[int]:
        """Find the images with the most mistakes; among equals the higher sum of wrong scores comes first."""
        order = np.lexsort((-self.wrong_scores, -self.total))
        return [i for i in order[:number].tolist() if self.total[i]]


def mistakes_per_image(truth: Truth, found: Detections, scores: Scores, threshold: float) -> ImageMistakes:
    """Count the mistakes among detections with a score of at least ``threshold``, matched by COCO at IoU 0.5."""
    N = len(truth.image_ids)
    shown = scores.counted & (found.scores >= threshold)
    right = shown & scores.right[AT_50]
    wrong = shown & ~scores.right[AT_50] & ~scores.ignored[AT_50]
    boxes = np.bincount(truth.images[~truth.crowd], minlength=N)
    return ImageMistakes(
        missed=boxes - np.bincount(found.images[right], minlength=N),
        wrong=np.bincount(found.images[wrong], minlength=N),
        wrong_scores=np.bincount(found.images[wrong], found.scores[wrong], minlength=N),
    )
