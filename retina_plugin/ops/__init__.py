"""The mathematics: tensors and numbers in, tensors out. Nothing here imports Detectron2 or reads a config."""

from .dense_loss import anchor_losses, dense_classification_loss, term_weights
from .example_mining import select_hard_examples
from .focal_loss import (
    cross_entropy,
    cross_entropy_and_derivative,
    focal,
    focal_and_derivative,
    focal_star,
    focal_star_and_derivative,
)
from .loss_cdf import LossCDF, focal_loss_cdf, negative_terms, positive_terms
from .octave_sizes import octave_sizes

__all__ = [
    "LossCDF",
    "anchor_losses",
    "cross_entropy",
    "cross_entropy_and_derivative",
    "dense_classification_loss",
    "focal",
    "focal_and_derivative",
    "focal_star",
    "focal_star_and_derivative",
    "focal_loss_cdf",
    "negative_terms",
    "octave_sizes",
    "positive_terms",
    "select_hard_examples",
    "term_weights",
]
