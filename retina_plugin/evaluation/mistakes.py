"""Mistakes above a score threshold: confused classes, and the images with the most mistakes."""

from dataclasses import dataclass

import numpy as np

from .boxes import Detections, Truth
from .coco_scores import AT_50, Scores
from .matching import box_iou, by_image, match_greedily

__all__ = ["CONFUSION_IOU", "ImageMistakes", "confusion_matrix", "mistakes_per_image"]

CONFUSION_IOU = 0.5


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
    for d, boxes, crowds in by_image(truth, found):
        same = found.classes[d, None] == truth.classes[boxes]
        partner = match_greedily(box_iou(found.boxes[d], truth.boxes[boxes]), CONFUSION_IOU, prefer=same)
        free = d[partner < 0]
        inside = box_iou(found.boxes[free], truth.boxes[crowds], crowd=truth.regions[crowds])
        same = found.classes[free, None] == truth.classes[crowds]
        free = free[~((inside >= CONFUSION_IOU) & same).any(axis=1)]
        taken = partner[partner >= 0]
        np.add.at(matrix, (truth.classes[boxes[taken]], found.classes[d[partner >= 0]]), 1)
        np.add.at(matrix, (K, found.classes[free]), 1)
        np.add.at(matrix, (np.delete(truth.classes[boxes], taken), K), 1)
    return matrix


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
