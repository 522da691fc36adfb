"""The mathematics: tensors and numbers in, tensors out. Nothing here imports Detectron2 or reads a config."""

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
    "cross_entropy",
    "cross_entropy_derivative",
    "dense_classification_loss",
    "focal",
    "focal_derivative",
    "focal_star",
    "focal_star_derivative",
    "octave_sizes",
    "select_hard_examples",
]
