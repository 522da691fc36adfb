"""RetinaNet and focal loss as a Detectron2 plugin: importing it registers every part.

The import itself takes no time: parts are loaded when they are asked for, and all of them with Detectron2.
"""

import importlib

from .errors import SetupError
from .registration import register_with_detectron2

__version__ = "0.1.0"

# Public name -> the module that has it.
_HOMES = {
    "CLASSIFICATION_LOSS_REGISTRY": ".modeling",
    "ClassificationLoss": ".modeling",
    "CrossEntropyLoss": ".modeling",
    "FocalLoss": ".modeling",
    "FocalLossStar": ".modeling",
    "FocalRetinaNet": ".modeling",
    "LossNormalizer": ".modeling",
    "OHEMLoss": ".modeling",
    "OctaveAnchorGenerator": ".modeling",
    "RetinaPredictor": ".apps.predict.predictor",
    "SafeMatcher": ".modeling",
    "TrainingState": ".modeling",
    "add_retina_config": ".config",
    "build_inference_model": ".modeling",
    "fold_batch_norms": ".modeling",
    "get_retina_cfg": ".config",
}
_MODULES = ("config", "data", "modeling", "ops")

__all__ = ["SetupError", *_HOMES]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


register_with_detectron2()
