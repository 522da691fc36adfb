"""Turn a config file and overrides into a complete, checked config; all programs start here.

load -> scale -> register data sets -> device -> NUM_CLASSES -> seed -> check values, weights and data sets -> freeze.
"""

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from .config.batch_scaling import scale_to_batch
from .config.checks import check_config
from .config.keys import get_retina_cfg
from .config.load import config_difference, load_config
from .data.checks import DataSummary, check_datasets
from .data.register import fill_num_classes, register_config_datasets
from .errors import SetupError
from .modeling import CLASSIFICATION_LOSS_REGISTRY
from .weights.checkpointer import check_weights, loading_rules, read_checkpoint
from .weights.files import ResumePoint, find_resume_point

__all__ = ["prepare", "refuse_unknown_device", "refuse_unread_keys", "usable_processors"]

logger = logging.getLogger(__name__)

# Each use includes the steps of those before it.
USES = ("look", "model", "data", "run")
# Keys that only FocalRetinaNet reads.
KEYS_OF_THE_MODEL = tuple(
    f"MODEL.RETINANET.{key}"
    for key in ("CLS_LOSS_NAME", "FOCAL_STAR", "OHEM", "NORMALIZER", "ALLOW_LOW", "LOW_QUALITY", "USE_PRIOR")
) + ("ANALYSIS.LOSS_CDF_PERIOD", "MODEL.PRECISION")


@dataclass(frozen=True)
class Prepared:
    """A config that is ready for its use."""

    cfg: CfgNode  # frozen, except for "look"
    warnings: list[str] = field(default_factory=list)  # about values that work and are probably not meant
    data: DataSummary | None = None  # in the main process only
    resumed: ResumePoint | None = None  # checkpoint from which a run resumes


def prepare(
    config: str | CfgNode,
    opts: Sequence[Any] = (),
    *,
    use: str,
    split: str = "both",
    resume: bool = False,
) -> Prepared:
    """Load a config, set the values that depend on the data and the machine, and check it. No output is written.

    Args:
        config: a YAML file, or a cfg, which is not changed.
        opts: KEY VALUE KEY VALUE ..., which override the config.
        use: "look" only registers the data sets; "model" also picks the device, counts the classes and checks the
            values; "data" also checks the data sets; "run", for a training or an evaluation, also scales the schedule,
            chooses the seed and checks the weights.
        split: data sets that "data" and "run" check: "train", "test" or "both". "train" empties DATASETS.TEST.
        resume: True resumes from the newest checkpoint of OUTPUT_DIR, if there is one.

    Raises:
        SetupError: a mistake in the config, the data sets or the weights.
    """
    level = USES.index(use)
    is_run = use == "run"
    cfg = load_config(config, opts)
    if is_run:
        cfg = scale_to_batch(cfg)
    evaluates = is_run and split == "test"
    register_config_datasets(
        cfg, weights_classes=classes_of_weights(cfg) if evaluates else (), defer_faults=use == "look"
    )
    if use == "look":
        return Prepared(cfg)
    pick_device(cfg)
    fill_num_classes(cfg)
    if split == "train":
        cfg.DATASETS.TEST = ()
    resumed = data = None
    if is_run:
        # torch warns of more workers than cores.
        cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, usable_processors())
        if resume:
            resumed = find_resume_point(Path(cfg.OUTPUT_DIR), trust="trust" in loading_rules(cfg))
        if cfg.SEED < 0:
            cfg.SEED = choose_seed(resumed)
    warnings = check_config(cfg, known_losses=[name for name, _ in CLASSIFICATION_LOSS_REGISTRY])
    if level >= USES.index("data"):
        refuse_unread_keys(cfg)
        if is_run and not resumed:
            check_weights(cfg.MODEL.WEIGHTS)
        if comm.is_main_process():  # not in every process: a large data set takes a while
            data = check_datasets(cfg, train=split != "test")
    cfg.freeze()
    return Prepared(cfg, warnings, data, resumed)


def classes_of_weights(cfg: CfgNode) -> list[str]:
    """Return the classes that MODEL.WEIGHTS names; [] if none are known, or others may be loaded (MODEL.LOAD)."""
    rules, path = loading_rules(cfg), cfg.MODEL.WEIGHTS
    if not path.endswith(".pth") or not os.path.isfile(path) or rules - {"trust"}:
        return []
    with contextlib.suppress(SetupError):  # the checkpoint is looked at later
        classes = (read_checkpoint(path, trust="trust" in rules).get("manifest") or {}).get("classes")
        if classes and cfg.MODEL.RETINANET.NUM_CLASSES in (0, len(classes)):
            return list(classes)
    return []


def usable_processors() -> int:
    """Count the processors that this process may use, which in a container or a job are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_seed(resumed: ResumePoint | None) -> int:
    """Return the seed of a resumed run, or draw one; Detectron2 would draw one without recording it."""
    return resumed.seed if resumed and resumed.seed >= 0 else comm.shared_random_seed()


def refuse_unknown_device(name: str) -> None:
    """Refuse a MODEL.DEVICE that torch does not know.

    Raises:
        SetupError: naming it.
    """
    try:
        torch.device(name)
    except RuntimeError as error:
        raise SetupError(f"MODEL.DEVICE {name!r} is not one of torch's: give cpu, cuda or mps.") from error


def pick_device(cfg: CfgNode) -> None:
    """Replace an unavailable MODEL.DEVICE by CUDA, MPS or the CPU, and log it.

    Raises:
        SetupError: torch does not know the device.
    """
    wanted = cfg.MODEL.DEVICE
    refuse_unknown_device(wanted)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not available.get(wanted.split(":")[0], True):
        cfg.MODEL.DEVICE = next(device for device, is_available in available.items() if is_available)
        logger.info("MODEL.DEVICE %s is not there: running on %s", wanted, cfg.MODEL.DEVICE)
    if cfg.SOLVER.AMP.ENABLED and not cfg.MODEL.DEVICE.startswith("cuda"):
        cfg.SOLVER.AMP.ENABLED = False
        logger.warning("SOLVER.AMP.ENABLED needs CUDA: running on %s without", cfg.MODEL.DEVICE)


def refuse_unread_keys(cfg: CfgNode) -> None:
    """Refuse keys of the plugin that Detectron2's own RetinaNet would silently ignore.

    Raises:
        SetupError: such keys are set; the message names them.
    """
    if cfg.MODEL.META_ARCHITECTURE != "RetinaNet":
        return
    changed = [key for key in config_difference(cfg, get_retina_cfg()) if key.startswith(KEYS_OF_THE_MODEL)]
    if changed:
        raise SetupError(
            f"{', '.join(changed)} is set, but MODEL.META_ARCHITECTURE is Detectron2's RetinaNet, which does not read "
            "it. Set MODEL.META_ARCHITECTURE FocalRetinaNet."
        )
