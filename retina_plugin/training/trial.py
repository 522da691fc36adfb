"""Build the parts of a training on trial, to find the config values that Detectron2 refuses before anything is written.

``rules.py`` has the values of single keys that are known to fail. What it does not know fails here, in one sentence,
and not in the middle of a training's start.
"""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_anchor_generator
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.solver import build_lr_scheduler
from torch import nn

from ..errors import SetupError, first_line
from .build import build_optimizer

__all__ = ["build_on_trial", "build_without_weights"]


def build_on_trial(cfg: CfgNode) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build the model, its optimizer and its schedule; those of a RetinaNet take no memory (torch's "meta" device).

    Raises:
        SetupError: a part cannot be built; the message names it and its keys.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    model = build_part("model", "MODEL", lambda: build_without_weights(cfg))
    optimizer = build_part("optimizer", "SOLVER", lambda: build_optimizer(cfg, model))
    build_part("schedule", "SOLVER", lambda: build_lr_scheduler(cfg, optimizer))
    return model, optimizer


def build_without_weights(cfg: CfgNode) -> nn.Module:
    """Build a RetinaNet without memory for its weights (torch's "meta" device); other models as they are.

    Its anchor generator and matcher work; the network cannot run.
    """
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    # Some parts of other detectors compute with values while they are built, and "meta" tensors have none.
    if not (isinstance(architecture, type) and issubclass(architecture, RetinaNet)):
        return architecture(cfg)
    with torch.device("meta"):
        model = architecture(cfg)
    shapes = [model.backbone.output_shape()[name] for name in model.head_in_features]
    model.anchor_generator = build_anchor_generator(cfg, shapes)
    return model


def build_part(name: str, keys: str, build: Callable[[], Any]) -> Any:
    """Return ``build()``; any error but a SetupError becomes one that names the part and the group of its keys."""
    try:
        return build()
    except SetupError:
        raise
    except Exception as error:  # the parts of Detectron2 raise errors of any type on values that do not fit together
        raise SetupError(
            f"The {name} cannot be built: {type(error).__name__}: {first_line(error)}. Change the key of {keys} that "
            "asks for it."
        ) from error
