"""The detector's parts, registered in Detectron2's registries on import."""

from .anchor_generator import OctaveAnchorGenerator
from .execution import build_inference_model, fold_batch_norms
from .losses import (
    CLASSIFICATION_LOSS_REGISTRY,
    ClassificationLoss,
    CrossEntropyLoss,
    FocalLoss,
    FocalLossStar,
    OHEMLoss,
    build_classification_loss,
)
from .matcher import SafeMatcher
from .meta_arch import FocalRetinaNet
from .mining import HardExampleMiner
from .normalizer import LossNormalizer, TrainingState
from .torchvision_parts import TorchvisionAnchorGenerator

__all__ = [
    "CLASSIFICATION_LOSS_REGISTRY", "ClassificationLoss", "CrossEntropyLoss", "FocalLoss", "FocalLossStar",
    "FocalRetinaNet", "HardExampleMiner", "LossNormalizer", "OHEMLoss", "OctaveAnchorGenerator", "SafeMatcher",
    "TorchvisionAnchorGenerator", "TrainingState", "build_classification_loss", "build_inference_model",
    "fold_batch_norms",
]  # fmt: skip
