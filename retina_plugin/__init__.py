"""RetinaNet and focal loss as a Detectron2 plugin: importing it registers every part."""

from . import compat  # noqa: F401  (first: it prepares the import of Detectron2)
from .config import add_retina_config, get_retina_cfg
from .data.sample_catalog import register_sample_datasets
from .errors import SetupError
from .modeling import (
    CLASSIFICATION_LOSS_REGISTRY,
    ClassificationLoss,
    CrossEntropyLoss,
    FocalLoss,
    FocalLossStar,
    FocalRetinaNet,
    LossNormalizer,
    OctaveAnchorGenerator,
    OHEMLoss,
    SafeMatcher,
    TrainingState,
    fold_batch_norms,
)

__version__ = "0.1.0"

register_sample_datasets()

__all__ = [
    "CLASSIFICATION_LOSS_REGISTRY",
    "ClassificationLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "FocalLossStar",
    "FocalRetinaNet",
    "LossNormalizer",
    "OHEMLoss",
    "OctaveAnchorGenerator",
    "SafeMatcher",
    "SetupError",
    "TrainingState",
    "add_retina_config",
    "fold_batch_norms",
    "get_retina_cfg",
]
