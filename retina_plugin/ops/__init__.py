"""The mathematics: tensors and numbers in, tensors out. Nothing here imports Detectron2 or reads a config."""

from .anchors import octave_sizes
from .dense_loss import anchor_losses, dense_classification_loss, term_weights
from .loss_cdf import LossCDF, focal_loss_cdf, negative_terms, positive_terms
from .mining import select_hard_examples
from .terms import FocalTerm

__all__ = [
    "FocalTerm", "LossCDF", "anchor_losses", "dense_classification_loss", "focal_loss_cdf", "negative_terms",
    "octave_sizes", "positive_terms", "select_hard_examples", "term_weights",
]  # fmt: skip
