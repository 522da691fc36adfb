"""Config keys that a trainer reads and not the model: the warning when a trainer of one's own ignores them."""

import functools
import logging

from detectron2.config import CfgNode
from torch import nn

__all__ = ["TRAINER_KEYS", "claim_keys", "set_trainer_keys", "warn_of_unread_keys"]

logger = logging.getLogger(__name__)

# Reader -> its keys and the values (the defaults) with which nothing is lost without it.
TRAINER_KEYS = {
    "build_optimizer": {"SOLVER.OPTIMIZER": "SGD"},
    "build_hooks": {
        "SOLVER.EMA_DECAY": 0.0,
        "SOLVER.EARLY_STOPPING.PATIENCE": 0,
        "SOLVER.FAULTS.NONFINITE_LOSS": "stop",
        "SOLVER.FAULTS.OUT_OF_MEMORY": "stop",
        "TEST.LOSS_PERIOD": 0,
        "TEST.BEST_METRIC": "",
        "ANALYSIS.LOSS_CDF_PERIOD": 0,
    },
    "RetinaTrainer": {
        "SOLVER.REFERENCE_BATCH": 0,
        "SOLVER.ACCUMULATION_STEPS": 1,
        "SOLVER.KEEP_CHECKPOINTS": 0,
        "SOLVER.DETERMINISTIC": False,
    },
}


def set_trainer_keys(cfg: CfgNode) -> dict[str, str]:
    """The keys of TRAINER_KEYS that ``cfg`` sets, such as "SOLVER.OPTIMIZER AdamW" -> "build_optimizer"."""
    found = {}
    for reader, keys in TRAINER_KEYS.items():
        for key, default in keys.items():
            value = functools.reduce(lambda node, name: node[name], key.split("."), cfg)
            if value != default:
                found[f"{key} {value}"] = reader
    return found


def claim_keys(model: nn.Module, *readers: str) -> None:
    """Note that ``readers`` have read their keys for ``model``, also in DistributedDataParallel."""
    model = getattr(model, "module", model)
    for name, reader in list(getattr(model, "unread_keys", {}).items()):
        if reader in readers:
            del model.unread_keys[name]


def warn_of_unread_keys(unread: dict[str, str]) -> None:
    """Name the keys that nobody has read, once, as the first training step begins; ``unread`` is emptied."""
    remedy = "Train with retina_plugin.RetinaTrainer"
    if readers := sorted(set(unread.values()) - {"RetinaTrainer"}):
        remedy += f", or add {' and '.join(f'retina_plugin.{reader}' for reader in readers)} to yours"
        if only := [name for name, reader in unread.items() if reader == "RetinaTrainer"]:
            remedy += f", which does not cover {', '.join(only)}"
    logger.warning("%s: this trainer does not read what the config sets. %s.", ", ".join(unread), remedy)
    unread.clear()
