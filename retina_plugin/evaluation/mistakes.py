"""What goes wrong from a score on: classes taken for each other, and the images with the most mistakes."""

from dataclasses import dataclass

import numpy as np
from pycocotools.mask import iou as mask_iou

from .boxes import Detections, Truth
from .coco_scores import AT_50, Scores

__all__ = ["CONFUSION_IOU", "ImageMistakes", "confusion_matrix", "mistakes_per_image"]

CONFUSION_IOU = 0.5


def confusion_matrix(truth: Truth, found: Detections, threshold: float) -> np.ndarray:
    """Count which class was predicted where which class is, whatever the classes.

    Best score first, a detection takes the free box that it overlaps most from IoU 0.5 on, of equal overlaps one of
    its own class. What is left counts as background, unless it lies in a crowd of its class.

    Returns:
        (K + 1, K + 1): rows the truth, columns the predictions; K is background, in rows a false prediction, in columns
        a missed box.
    """
    K = len(truth.class_ids)
    matrix = np.zeros((K + 1, K + 1), dtype=np.int64)
    found = found.where(found.scores >= threshold)
    bounds = np.arange(len(truth.image_ids) + 1)
    of_found, of_truth = np.searchsorted(found.images, bounds), np.searchsorted(truth.images, bounds)
    for i in range(len(truth.image_ids)):
        d, g = np.arange(of_found[i], of_found[i + 1]), np.arange(of_truth[i], of_truth[i + 1])
        boxes, crowds = g[~truth.crowd[g]], g[truth.crowd[g]]
        partner = _pair(found, d, truth, boxes)
        free = d[partner < 0]
        if len(crowds) and len(free):
            inside = mask_iou(found.boxes[free], truth.boxes[crowds], np.ones(len(crowds), dtype=np.uint8))
            same = found.classes[free, None] == truth.classes[crowds]
            free = free[~((inside >= CONFUSION_IOU) & same).any(axis=1)]
        taken = partner[partner >= 0]
        np.add.at(matrix, (truth.classes[boxes[taken]], found.classes[d[partner >= 0]]), 1)
        np.add.at(matrix, (K, found.classes[free]), 1)
        np.add.at(matrix, (np.delete(truth.classes[boxes], taken), K), 1)
    return matrix


def _pair(found: Detections, d: np.ndarray, truth: Truth, boxes: np.ndarray) -> np.ndarray:
    """For each detection ``d`` of an image the position in ``boxes`` of its box, or -1."""
    partner = np.full(len(d), -1)
    if not len(d) or not len(boxes):
        return partner
    iou = mask_iou(found.boxes[d], truth.boxes[boxes], np.zeros(len(boxes), dtype=np.uint8))
    same = found.classes[d, None] == truth.classes[boxes]
    for row in np.flatnonzero((iou >= CONFUSION_IOU).any(axis=1)).tolist():
        best = int(np.lexsort((same[row], iou[row]))[-1])
        if iou[row, best] >= CONFUSION_IOU:
            partner[row] = best
            iou[:, best] = 0
    return partner


@dataclass(frozen=True)
class ImageMistakes:
    """(N,) each: boxes without a right detection, detections that are not right, the sum of the latter's scores."""

    missed: np.ndarray
    wrong: np.ndarray
    wrong_scores: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.missed + self.wrong

    def worst(self, number: int) -> list[int]:
        """Images with mistakes, most first; of equally many, the one whose wrong detections have the higher scores."""
        order = np.lexsort((-self.wrong_scores, -self.total))
        return [i for i in order[:number].tolist() if self.total[i]]


def mistakes_per_image(truth: Truth, found: Detections, scores: Scores, threshold: float) -> ImageMistakes:
    """Count the mistakes among the detections with at least the score ``threshold``, matched by COCO at IoU 0.5."""
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
