"""Anchor labelling: Detectron2's ``Matcher`` with a low-quality rule that is safe (paper Sec. 4)."""

from collections.abc import Sequence

import torch
from detectron2.modeling.matcher import Matcher
from torch import Tensor

from ..errors import require
from ..ops.matching import AnchorTiles, BestOverlaps, best_overlaps

__all__ = ["SafeMatcher"]


class SafeMatcher(Matcher):
    """Gives each anchor the ground-truth box it overlaps most, or background, or neither.

    Equal to Detectron2's ``Matcher`` except in the low-quality rule: the best anchors of a ground-truth box become
    positive only if they overlap it at all, and by at least ``low_quality_min_iou``. Where the best IoU is 0 (a
    degenerate box, one outside the image, one between anchors), Detectron2's rule makes every anchor positive.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        *,
        allow_low_quality_matches: bool,
        low_quality_min_iou: float,
    ):
        """
        Args:
            thresholds: increasing IoU bounds, each in (0, 1]; the paper's are 0.4 and 0.5, half-open.
            labels: one more than thresholds: 0 background, -1 ignored, 1 positive.
            allow_low_quality_matches: a ground-truth box keeps its best anchors below the upper bound.
            low_quality_min_iou: least IoU for that, in [0, 1]; 0 for any overlap.
        """
        floor = low_quality_min_iou
        require(0 <= floor <= 1, "MODEL.RETINANET.LOW_QUALITY_MIN_IOU", "in [0, 1]", floor)
        super().__init__(list(thresholds), list(labels), allow_low_quality_matches)
        self.low_quality_min_iou = low_quality_min_iou

    def match_boxes(self, tiles: AnchorTiles, gt_boxes: Tensor) -> tuple[BestOverlaps, Tensor]:
        """Match as a call with the (M, R) matrix of IoU does, in memory linear in R.

        Args:
            tiles: the R anchors of an image.
            gt_boxes: (M, 4) XYXY, same frame; M may be 0.

        Returns:
            The overlaps, whose ``box`` is Detectron2's ``matches``; and the (R,) int8 ``match_labels``, all the first
            of the labels without boxes.
        """
        min_iou = self.low_quality_min_iou if self.allow_low_quality_matches else None
        overlaps = best_overlaps(tiles, gt_boxes, min_iou=min_iou)
        match_labels = overlaps.box.new_ones(overlaps.box.shape, dtype=torch.int8)
        for label, low, high in zip(self.labels, self.thresholds[:-1], self.thresholds[1:], strict=True):
            match_labels[(overlaps.iou >= low) & (overlaps.iou < high)] = label
        match_labels[overlaps.best_mask] = 1
        return overlaps, match_labels

    def set_low_quality_matches_(self, match_labels: Tensor, match_quality_matrix: Tensor) -> None:
        """Label the best anchors of each eligible ground-truth box 1, in place: Detectron2's hook for a matrix of IoU.

        Args:
            match_labels: (R,) int8.
            match_quality_matrix: (M, R) IoU of ground-truth boxes with anchors, M >= 1.
        """
        best = match_quality_matrix.max(dim=1, keepdim=True).values
        eligible = (best > 0) & (best >= self.low_quality_min_iou)
        match_labels[((match_quality_matrix == best) & eligible).any(dim=0)] = 1
