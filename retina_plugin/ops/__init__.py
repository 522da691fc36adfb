"""The mathematics: tensors and numbers in, tensors out. Nothing here imports Detectron2 or reads a config."""

from .anchor_overlap import best_anchors, grid_sizes, nearest_anchors, paired_iou
from .example_mining import select_hard_examples
from .focal_loss import (
    anchor_losses,
    cross_entropy,
    cross_entropy_derivative,
    dense_classification_loss,
    focal,
    focal_derivative,
    focal_star,
    focal_star_derivative,
)
from .octave_sizes import octave_sizes

__all__ = [
    "anchor_losses",
    "best_anchors",
    "cross_entropy",
    "cross_entropy_derivative",
    "dense_classification_loss",
    "focal",
    "focal_derivative",
    "focal_star",
    "focal_star_derivative",
    "grid_sizes",
    "nearest_anchors",
    "octave_sizes",
    "paired_iou",
    "select_hard_examples",
]
