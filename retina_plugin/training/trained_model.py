"""Load a trained model for programs that use one, and refuse incomplete weights."""

import os
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..data.class_names import config_class_names
from ..errors import SetupError
from ..weights.checkpointer import LoadReport, build_checkpointer, check_weights
from .trainer import RetinaTrainer

__all__ = ["config_beside", "load_trained_model"]


def config_beside(weights: str | os.PathLike) -> Path:
    """Return the path of the ``config.yaml`` that a training writes beside its checkpoints.

    Raises:
        SetupError: it does not exist.
    """
    path = Path(weights).with_name("config.yaml")
    if not path.is_file():
        raise SetupError(f"There is no {path} beside the weights: give the config they were trained with.")
    return path


def load_trained_model(cfg: CfgNode) -> tuple[nn.Module, LoadReport, dict[str, Any]]:
    """Return the model of ``MODEL.WEIGHTS`` in eval mode, the report of loading it, and the rest of the checkpoint.

    Raises:
        SetupError: no weights are named, they cannot be read, or they lack part of the model.
    """
    if not cfg.MODEL.WEIGHTS:
        raise SetupError("No weights: give a trained checkpoint, by --weights or MODEL.WEIGHTS.")
    check_weights(cfg.MODEL.WEIGHTS)
    model = RetinaTrainer.build_model(cfg)
    checkpointer = build_checkpointer(cfg, model, classes=config_class_names(cfg))
    rest = checkpointer.load(cfg.MODEL.WEIGHTS)
    report = checkpointer.report
    if report.missing:
        raise SetupError(f"Part of the model would have random weights: {report}.\nGive a trained checkpoint.")
    return model.eval(), report, rest
