"""RetinaNet and focal loss as a Detectron2 plugin: importing it registers every part in Detectron2."""

__version__ = "0.1.0"  # first: modules imported below read it

from . import compat

compat.apply()  # before the imports below, which import Detectron2

from .apps.predict.predictor import RetinaPredictor
from .config import add_retina_config, get_retina_cfg
from .config.load import load_config
from .config.shipped import find_config
from .data.register import register_boxes
from .data.sample.catalog import register_sample_datasets
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
    build_inference_model,
    fold_batch_norms,
)
from .training import RetinaTrainer, build_hooks, build_optimizer

__all__ = [
    "CLASSIFICATION_LOSS_REGISTRY", "ClassificationLoss", "CrossEntropyLoss", "FocalLoss", "FocalLossStar",
    "FocalRetinaNet", "LossNormalizer", "OHEMLoss", "OctaveAnchorGenerator", "RetinaPredictor", "RetinaTrainer",
    "SafeMatcher", "SetupError", "TrainingState", "add_retina_config", "build_hooks", "build_inference_model",
    "build_optimizer", "find_config", "fold_batch_norms", "get_retina_cfg", "load_config", "register_boxes",
]  # fmt: skip

register_sample_datasets()
