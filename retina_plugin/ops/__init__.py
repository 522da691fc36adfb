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
    term_weights,
)
from .loss_cdf import LossCDF, focal_loss_cdf, negative_terms, positive_terms
from .octave_sizes import octave_sizes

__all__ = [
    "LossCDF",
    "anchor_losses",
    "cross_entropy",
    "cross_entropy_derivative",
    "dense_classification_loss",
    "focal",
    "focal_derivative",
    "focal_star",
    "focal_star_derivative",
    "focal_loss_cdf",
    "negative_terms",
    "octave_sizes",
    "positive_terms",
    "select_hard_examples",
    "term_weights",
]
