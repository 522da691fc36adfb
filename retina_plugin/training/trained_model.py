"""Open a trained model from its checkpoint alone: the manifest in it describes the model (docs/security.md)."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from ..config.keys import get_retina_cfg
from ..config.lazy import read_lazy_config
from ..config.load import config_difference, load_config, load_saved_config, set_values
from ..data.class_names import config_class_names, find_class_names
from ..data.register import as_paths
from ..errors import SetupError, first_line
from ..modeling import CLASSIFICATION_LOSS_REGISTRY
from ..prepare import prepare
from ..weights.checkpointer import LoadReport, build_checkpointer, check_weights, loading_rules, read_checkpoint
from ..weights.files import newest_checkpoint
from ..weights.manifest import describes_model
from .trainer import RetinaTrainer

__all__ = [
    "TrainedModel", "build_described", "describe_model", "evaluation_config", "load_trained_model",
    "open_model", "run_config",
]  # fmt: skip

# The keys of a run's config.yaml that say where its test set is. They are followed by ``retina evaluate`` and
# ``compare`` alone; a set is then read as any other, inside its folder.
NAMES_DATA = (
    "DATASETS.TRAIN", "DATASETS.TEST", "DATASETS.TRAIN_PATH", "DATASETS.VAL_PATH", "DATASETS.TRAIN_JSON",
    "DATASETS.VAL_JSON", "DATASETS.TRAIN_IMAGES", "DATASETS.VAL_IMAGES", "DATASETS.FORMAT", "DATASETS.CLASSES",
    "DATASETS.VAL_FRACTION", "DATASETS.SPLIT_SEED", "DATASETS.SPLIT_GROUP",
)  # fmt: skip
# Of these, the keys that choose a set by themselves.
NAMES_SET = ("DATASETS.TEST", "DATASETS.TRAIN_PATH", "DATASETS.VAL_PATH", "DATASETS.TRAIN_JSON", "DATASETS.VAL_JSON")


@dataclass(frozen=True)
class TrainedModel:
    """A model in eval mode, ready for images."""

    cfg: CfgNode  # frozen
    model: nn.Module
    class_names: tuple[str, ...]  # by class id
    report: LoadReport


def find_weights(path: str | os.PathLike) -> str:
    """Return the checkpoint that ``path`` means: a file, an address, or a run's folder (its best one, else its last).

    Raises:
        SetupError: it does not exist, or the folder has no checkpoint.
    """
    path = os.path.expanduser(os.fspath(path))
    if "://" in path or os.path.isfile(path):
        return path
    if not os.path.exists(path):
        raise SetupError(
            f"{path} does not exist: give a checkpoint, such as output/mine/model_final.pth, or its folder."
        )
    found = newest_checkpoint(Path(path)) if os.path.isdir(path) else None
    if found is None:
        raise SetupError(
            f"{path} has no model_best.pth, model_final.pth or model_0000999.pth: give a checkpoint or a run's folder."
        )
    return str(found)


def describe_model(
    weights: str | os.PathLike, config: str | os.PathLike | CfgNode | None = None, opts: Sequence[str] = ()
) -> tuple[CfgNode, dict[str, Any]]:
    """Return the config of a checkpoint for using its model, and the content of the file.

    Nothing about the training is needed: no data set (``NUM_CLASSES`` 0 is replaced by the checkpoint's number) and no
    loss (a loss that is not registered here is replaced by FocalLoss, which an inference does not compute).

    Args:
        weights: as for ``find_weights``.
        config: a YAML file or a cfg of the user's, which then describes the model; None for the manifest in the
            checkpoint, or for the keys of a ``config.yaml`` beside it that describe a model.
        opts: KEY VALUE pairs of the user's, over both.

    Raises:
        SetupError: the checkpoint cannot be read, or does not describe its model.
    """
    weights = find_weights(weights)
    cfg = load_config(get_retina_cfg() if config is None else config, opts)
    content = read_checkpoint(weights, trust="trust" in loading_rules(cfg))
    if config is None:
        values = _description(weights, content)
        if not torch.cuda.is_available():  # Detectron2's default; the checkpoint names no device
            values["MODEL.DEVICE"] = "mps" if torch.backends.mps.is_available() else "cpu"
        _set_but(cfg, values, opts, weights)
    cfg.MODEL.WEIGHTS = weights
    classes = (content.get("manifest") or {}).get("classes")
    for node in (cfg.MODEL.RETINANET, cfg.MODEL.ROI_HEADS):
        if node.NUM_CLASSES == 0 and classes:
            node.NUM_CLASSES = len(classes)
    if cfg.MODEL.RETINANET.CLS_LOSS_NAME not in CLASSIFICATION_LOSS_REGISTRY:
        cfg.MODEL.RETINANET.CLS_LOSS_NAME = "FocalLoss"
    return cfg, content


def _set_but(cfg: CfgNode, values: dict[str, Any], opts: Sequence[str], source: str) -> None:
    """Set dotted keys of ``cfg`` that a file has, except for those of the command line, which stand over them."""
    set_values(cfg, [(key, value) for key, value in values.items() if key not in opts[::2]], lambda key: source)


def _description(weights: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that describe the model of a checkpoint: dotted key -> value."""
    manifest = content.get("manifest")
    values = manifest.get("config") if isinstance(manifest, dict) else None
    if isinstance(values, dict) and "MODEL.META_ARCHITECTURE" in values:  # not in checkpoints of version 0.1
        known = dict.fromkeys(config_difference(CfgNode(), get_retina_cfg()))
        return {key: value for key, value in values.items() if key in known and describes_model(key)}
    beside = Path(weights).with_name("config.yaml")
    if "://" in weights or not beside.is_file():
        raise SetupError(
            f"{weights} does not describe its model, and there is no config.yaml beside it: give the config with "
            "--config-file, such as configs/retina_R50_FPN.yaml, or your own."
        )
    return read_lazy_config(beside) or load_saved_config(beside, describes_model)


def run_config(config_yaml: Path) -> CfgNode:
    """Return the model and the data sets of a run by its ``config.yaml``; its other keys are not read.

    Raises:
        SetupError: for the reasons of ``load_saved_config``.
    """
    cfg = get_retina_cfg()
    values = load_saved_config(config_yaml, lambda key: describes_model(key) or key in NAMES_DATA)
    set_values(cfg, values.items(), lambda key: str(config_yaml))
    return cfg


def evaluation_config(
    weights: str | os.PathLike, config: str | os.PathLike | CfgNode | None = None, opts: Sequence[str] = ()
) -> CfgNode:
    """Return the config for scoring a checkpoint: the description of its model, and a test set.

    The test set is that of ``opts`` or of ``config``, else that of the run, by ``config.yaml`` beside the checkpoint.

    Args:
        weights, config, opts: as for ``describe_model``.

    Raises:
        SetupError: for the reasons of ``describe_model``; or the run's data sets are not on this machine.
    """
    cfg, _ = describe_model(weights, config, opts)
    beside = Path(cfg.MODEL.WEIGHTS).with_name("config.yaml")
    if any(key in NAMES_SET for key in opts[::2]):
        forget_data(cfg, keep=opts[::2])  # of a config file: what is named beside these words is another set
    elif config is None and beside.is_file() and read_lazy_config(beside) is None:
        saved = load_saved_config(beside, NAMES_DATA.__contains__)
        classes = saved.get("DATASETS.CLASSES")
        if isinstance(classes, list | tuple) and len(classes) == 1 and Path(str(classes[0])).suffix:
            del saved["DATASETS.CLASSES"]  # a file anywhere, whose lines would be shown; the weights know their classes
        _set_but(cfg, saved, opts, str(beside))
        paths = [path for key in NAMES_SET[1:] for path in as_paths(cfg.DATASETS[key.split(".")[1]] or ())]
        if paths and not any(path.exists() for path in paths):
            raise SetupError(
                f"The test set of this run is not here: {beside} names {paths[-1]}. Name one: DATASETS.VAL_PATH FOLDER."
            )
    return cfg


def open_model(
    weights: str | os.PathLike,
    config: str | os.PathLike | CfgNode | None = None,
    opts: Sequence[str] = (),
    fixed: Iterable[Any] = (),
) -> TrainedModel:
    """Open a trained model for images that are at hand; see ``describe_model`` for the arguments.

    Args:
        fixed: KEY VALUE pairs over all others.

    Raises:
        SetupError: a mistake in the config or the weights, or weights that lack part of the model.
    """
    return build_described(*describe_model(weights, config, opts), fixed)


def build_described(cfg: CfgNode, content: dict[str, Any], fixed: Iterable[Any] = ()) -> TrainedModel:
    """Open the model of a config and a checkpoint's content, as ``describe_model`` returns them."""
    if (content.get("manifest") or {}).get("classes"):
        forget_data(cfg)
    cfg = prepare(cfg, fixed, use="model").cfg  # its warnings are about training
    model, report, rest = load_trained_model(cfg, content)
    return TrainedModel(cfg, model, find_class_names(cfg, rest), report)


def forget_data(cfg: CfgNode, keep: Sequence[str] = ()) -> None:
    """Empty the keys of ``cfg`` that name data sets, except for ``keep``; a model with class names needs none."""
    defaults = get_retina_cfg().DATASETS
    for key in (name.removeprefix("DATASETS.") for name in NAMES_DATA if name not in keep):
        cfg.DATASETS[key] = defaults[key]


def load_trained_model(
    cfg: CfgNode, content: dict[str, Any] | None = None
) -> tuple[nn.Module, LoadReport, dict[str, Any]]:
    """Return the model of ``MODEL.WEIGHTS`` in eval mode, the report of loading it, and the rest of the checkpoint.

    Args:
        content: content of the file, if it has been read already; changed in place.

    Raises:
        SetupError: no weights are named, they cannot be read, or they lack part of the model.
    """
    if not cfg.MODEL.WEIGHTS:
        raise SetupError("No weights: give a trained checkpoint, by --weights or MODEL.WEIGHTS.")
    if content is None:
        check_weights(cfg.MODEL.WEIGHTS)
    try:
        model = RetinaTrainer.build_model(cfg)
    except SetupError:
        raise
    except Exception as error:  # the parts of Detectron2 raise errors of any type on values that do not fit together
        raise SetupError(
            f"The model of {cfg.MODEL.WEIGHTS} cannot be built: {type(error).__name__}: {first_line(error)}. Give the "
            "config that it was trained with (--config-file)."
        ) from error
    checkpointer = build_checkpointer(cfg, model, classes=config_class_names(cfg))
    rest = checkpointer.load(cfg.MODEL.WEIGHTS, content=content)
    report = checkpointer.report
    if report.missing:
        raise SetupError(f"Part of the model would have random weights: {report}.\nGive a trained checkpoint.")
    return model.eval(), report, rest
