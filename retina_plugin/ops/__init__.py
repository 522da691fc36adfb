"""The mathematics: tensors and numbers in, tensors out. Nothing here imports Detectron2 or reads a config."""

from .dense_loss import anchor_losses, dense_classification_loss, term_weights
from .example_mining import select_hard_examples
from .focal_loss import background_focal, background_focal_star, cross_entropy, focal, focal_star
from .loss_cdf import LossCDF, focal_loss_cdf, negative_terms, positive_terms
from .octave_sizes import octave_sizes

__all__ = [
    "LossCDF",
    "anchor_losses",
    "background_focal",
    "background_focal_star",
    "cross_entropy",
    "dense_classification_loss",
    "focal",
    "focal_star",
    "focal_loss_cdf",
    "negative_terms",
    "octave_sizes",
    "positive_terms",
    "select_hard_examples",
    "term_weights",
]
