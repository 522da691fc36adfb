"""Measures the share of boxes that anchors reach, by size and aspect ratio, and the cost of the anchors."""

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from .anchor_layout import AnchorLayout

__all__ = ["THRESHOLDS", "AnchorCoverage", "box_groups", "measure_coverage"]

THRESHOLDS = (0.4, 0.5, 0.7)  # the paper's bounds for background and foreground (Sec. 4), and that of the RPN
COCO_AREAS = (32**2, 96**2)  # limits of small, medium and large in COCO's evaluation, original pixels
# Height / width. The paper's ratios 1/2, 1 and 2 fall into the middle bins; beyond 3 no default anchor fits well.
RATIO_EDGES = (1 / 3, 2**-0.5, 2**0.5, 3)
RATIO_NAMES = ("h/w < 0.33", "h/w 0.33-0.71", "h/w 0.71-1.41", "h/w 1.41-3", "h/w >= 3")


@dataclass(frozen=True)
class AnchorCoverage:
    """Best anchors of M boxes under one config."""

    name: str
    layout: AnchorLayout
    best: np.ndarray  # (M,) best IoU
    shapes: np.ndarray  # (M,) index of the anchor shape with the best IoU
    grids: Tensor  # (N, L, 2) rows and columns of each image's levels
    lower_iou: float  # IOU_THRESHOLDS[0]; an anchor with a lower IoU is background
    num_classes: int

    @property
    def unreached(self) -> np.ndarray:
        """(U,) indices of boxes whose best IoU is below ``lower_iou``."""
        return np.flatnonzero(self.best < self.lower_iou)

    @property
    def anchors_per_image(self) -> float:
        """Mean number of anchors over the images."""
        points = self.grids.prod(dim=2).double()  # (N, L)
        per_point = points.new_tensor([len(cells) for cells in self.layout.cell_anchors])
        return float((points * per_point).sum(dim=1).mean())

    @property
    def class_layer_macs(self) -> float:
        """Multiply-adds of the last class layer per image: 3 x 3, from C channels to a score per anchor and class."""
        return self.anchors_per_image * self.num_classes * 9 * self.layout.channels

    def unused_shapes(self) -> list[dict]:
        """List the anchor shapes that are not the best for any box."""
        used = set(self.shapes.tolist())
        return [
            {"level": self.layout.level_names[level], "width": round(width, 1), "height": round(height, 1)}
            for s, (level, width, height) in enumerate(self.layout.shapes())
            if s not in used
        ]

    def rows(self, groups: dict[str, np.ndarray]) -> list[dict]:
        """Number, mean best IoU and share at each of ``THRESHOLDS`` for each group of boxes; None for empty groups."""
        found = []
        for name, mask in groups.items():
            best = self.best[mask]
            shares = {f"coverage_{t:g}": float((best >= t).mean()) if len(best) else None for t in THRESHOLDS}
            mean = float(best.mean()) if len(best) else None
            found.append({"config": self.name, "group": name, "boxes": len(best), "mean_best_iou": mean, **shares})
        return found

    def as_dict(self, groups: dict[str, np.ndarray]) -> dict:
        """Return all numbers for JSON."""
        return {
            "anchors_per_point": self.layout.per_point,
            "anchors_per_image": round(self.anchors_per_image, 1),
            "class_layer_multiply_adds_per_image": round(self.class_layer_macs),
            "num_classes": self.num_classes,
            "lower_iou": self.lower_iou,
            "unreached_boxes": len(self.unreached),
            "shapes": len(self.layout.shapes()),
            "unused_shapes": self.unused_shapes(),
            "groups": {row["group"]: {k: v for k, v in row.items() if k not in ("config", "group")}
                       for row in self.rows(groups)},
        }  # fmt: skip


def measure_coverage(
    name: str, cfg: CfgNode, layout: AnchorLayout, images: np.ndarray, frame: tuple[Tensor, Tensor]
) -> AnchorCoverage:
    """Measure how well the anchors of a config cover boxes.

    Args:
        name, cfg, layout: the config and its anchors.
        images: (M,) index of each box's image.
        frame: (M, 4) boxes and (N, 2) heights and widths after the resize, from ``resize_boxes``.
    """
    boxes, sizes = frame
    grids = layout.grid_sizes(sizes)
    best, shapes = layout.best_anchors(boxes, grids[torch.from_numpy(images)])
    retinanet = cfg.MODEL.RETINANET
    return AnchorCoverage(
        name, layout, best.numpy(), shapes.numpy(), grids, min(retinanet.IOU_THRESHOLDS), retinanet.NUM_CLASSES
    )


def box_groups(boxes: np.ndarray) -> dict[str, np.ndarray]:
    """Group (M, 4) XYXY boxes of the original images by COCO's sizes and by aspect ratio: name -> (M,) bool."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    size = np.digitize(width * height, COCO_AREAS)
    ratio = np.digitize(height / width, RATIO_EDGES)
    return {
        "all": np.ones(len(boxes), bool),
        **{name: size == k for k, name in enumerate(("small", "medium", "large"))},
        **{name: ratio == k for k, name in enumerate(RATIO_NAMES)},
    }
