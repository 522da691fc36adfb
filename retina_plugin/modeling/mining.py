"""Online hard example mining: the anchors of a batch that are trained on (paper Sec. 5.1, Table 1d)."""

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from .. import ops
from ..errors import require

__all__ = ["HardExampleMiner"]


class HardExampleMiner:
    """Keeps the hardest examples that do not overlap; both losses ignore the others.

    The divisor of the losses then counts the examples kept, as in the OHEM paper's code, where a minibatch is averaged.
    """

    @configurable
    def __init__(
        self, *, batch_size: int, nms_thresh: float, neg_pos_ratio: float | None, score: str, nms_boxes: str, scope: str
    ):
        """
        Args:
            batch_size: examples kept, >= 1, per image or per batch (``scope``).
            nms_thresh: in (0, 1].
            neg_pos_ratio: negatives per positive, > 0; None for no ratio.
            score: "cls" ranks examples by classification loss, "total" by that plus the box loss.
            nms_boxes: "anchors", or "decoded" for the predicted boxes.
            scope: "image" or "batch".
        """
        has_ratio = neg_pos_ratio is None or neg_pos_ratio > 0
        for key, value, holds, rule in (
            ("BATCH_SIZE", batch_size, batch_size >= 1, "in [1, inf)"),
            ("NMS_THRESH", nms_thresh, 0 < nms_thresh <= 1, "in (0, 1]"),
            ("NEG_POS_RATIO", neg_pos_ratio, has_ratio, "in [0, inf), where 0 (None in code) sets no ratio"),
            ("SCORE", score, score in ("cls", "total"), "one of 'cls', 'total'"),
            ("NMS_BOXES", nms_boxes, nms_boxes in ("anchors", "decoded"), "one of 'anchors', 'decoded'"),
            ("SCOPE", scope, scope in ("image", "batch"), "one of 'image', 'batch'"),
        ):
            require(holds, f"MODEL.RETINANET.OHEM.{key}", rule, value)
        self.settings = {"batch_size": batch_size, "nms_thresh": nms_thresh, "neg_pos_ratio": neg_pos_ratio}
        self.score, self.nms_boxes, self.scope = score, nms_boxes, scope

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        ohem = cfg.MODEL.RETINANET.OHEM
        return {
            "batch_size": ohem.BATCH_SIZE,
            "nms_thresh": ohem.NMS_THRESH,
            "neg_pos_ratio": ohem.NEG_POS_RATIO or None,
            "score": ohem.SCORE,
            "nms_boxes": ohem.NMS_BOXES,
            "scope": ohem.SCOPE,
        }

    @torch.no_grad()
    def __call__(self, labels: Tensor, losses: Tensor, boxes: Tensor, *, num_classes: int) -> Tensor:
        """Ignore all examples but the hardest.

        Args:
            labels: (N, R) in [0, K), K for background, negative for ignored.
            losses: (N, R) score of each example.
            boxes: (N, R, 4) XYXY boxes that NMS compares.
            num_classes: K.

        Returns:
            (N, R) labels with -1 for the examples left out.
        """
        if self.scope == "image":
            picked = [
                ops.select_hard_examples(losses[i], labels[i], boxes[i], num_classes=num_classes, **self.settings)
                for i in range(len(labels))
            ]
            picked = torch.stack(picked)
        else:
            image = torch.arange(len(labels), device=labels.device).unsqueeze(1).expand_as(labels)
            picked = ops.select_hard_examples(
                losses.flatten(), labels.flatten(), boxes.flatten(0, 1), num_classes=num_classes,
                groups=image.flatten(), **self.settings,
            ).view_as(labels)  # fmt: skip
        return labels.masked_fill(~picked, -1)
