"""A training step in one file: weights, batch, state of the random numbers, and what came out. ``retina replay``."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ..errors import SetupError
from ..files import write_durably
from ..modeling import LossNormalizer
from ..weights.files import damage

__all__ = ["FOLDER", "batch_of", "random_state", "read_dump", "restore_random_state", "write_dump"]

# Of OUTPUT_DIR.
FOLDER = "bad_steps"
# Keys of a dump.
KEYS = {"iteration", "process", "config", "amp", "losses", "model", "normalizers", "random_state", "batch"}
# Of an image's record, besides its tensors.
FACTS = ("file_name", "image_id", "height", "width")


def random_state() -> dict[str, Any]:
    """Of torch, CUDA where it is in use, NumPy and Python."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])


def write_dump(
    path: Path, cfg: CfgNode, model: nn.Module, batch: list[dict], *, iteration: int, process: int,
    losses: dict[str, float], random_state: dict[str, Any], in_parts: bool = False,
) -> None:  # fmt: skip
    """Write what a step began with; a file that is not whole does not stay.

    Args:
        model: a FocalRetinaNet or RetinaNet, with weights and statistics as before the step.
        batch: of this process, as the model got it.
        iteration: from 0. process: from 0.
        losses: not all finite; of a batch that may have been taken in parts those that are not.
        random_state: before the forward pass.

    Raises:
        OSError, RuntimeError: the file cannot be written.
    """
    content = {
        "iteration": iteration,
        "process": process,
        "config": cfg.dump(),
        "amp": bool(cfg.SOLVER.AMP.ENABLED),
        "losses": losses,
        "in_parts": in_parts,
        "model": model.state_dict(),
        "normalizers": {name: part.average for name, part in model.named_modules() if isinstance(part, LossNormalizer)},
        "random_state": random_state,
        "batch": [_plain(record) for record in batch],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, lambda file: torch.save(content, file))


def _plain(record: dict) -> dict[str, Any]:
    """Tensors and builtin values alone, so that the file can be read without running what is in it."""
    plain: dict[str, Any] = {key: record[key] for key in FACTS if key in record}
    plain["image"] = record["image"]
    if "instances" in record:
        instances = record["instances"]
        plain["image_size"] = list(instances.image_size)
        plain["boxes"] = instances.gt_boxes.tensor
        plain["classes"] = instances.gt_classes
    return plain


def read_dump(path: Path) -> dict[str, Any]:
    """A dump on the CPU.

    Raises:
        SetupError: there is no such file, or it is no dump.
    """
    if not path.is_file():
        raise SetupError(f"{path} is not a file. Give a dump that a training wrote into OUTPUT_DIR/{FOLDER}.")
    if reason := damage(path):
        raise SetupError(f"{path} cannot be read as a dump: {reason}. Copy it again.")
    try:
        dump = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a file that is none raises whatever its bytes ask for
        raise SetupError(f"{path} cannot be read as a dump ({type(error).__name__}). Copy it again.") from error
    if not isinstance(dump, dict) or not set(dump) >= KEYS:
        raise SetupError(f"{path} is no dump of a training step. Give one that a training wrote into {FOLDER}.")
    return dump


def batch_of(dump: dict[str, Any]) -> list[dict]:
    """The batch of a dump as the model takes it."""
    return [_record(plain) for plain in dump["batch"]]


def _record(plain: dict[str, Any]) -> dict:
    record: dict[str, Any] = {key: plain[key] for key in (*FACTS, "image") if key in plain}
    if "boxes" in plain:
        instances = Instances(tuple(plain["image_size"]))
        instances.gt_boxes, instances.gt_classes = Boxes(plain["boxes"]), plain["classes"]
        record["instances"] = instances
    return record


def not_finite_inputs(record: dict) -> list[str]:
    """Which of ``image`` and ``boxes`` of a record hold NaN or infinity."""
    tensors: dict[str, Tensor] = {"image": record["image"]}
    if "instances" in record:
        tensors["boxes"] = record["instances"].gt_boxes.tensor
    return [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
