"""Build the evaluator of a data set, and time the model during an evaluation."""

import logging
import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, LVISEvaluator, PascalVOCDetectionEvaluator
from detectron2.utils import comm

from ..errors import SetupError
from .boxes import read_truth
from .coco_evaluator import BoxEvaluator
from .origin import settings_of, write_origin

__all__ = ["InferenceTimer", "build_evaluator", "device_time", "scoring_package"]

logger = logging.getLogger(__name__)

# Default limit of COCO's evaluator for the detections of an image.
COCO_MAX_DETECTIONS = 100


def _coco(cfg: CfgNode, dataset_name: str, output_dir: str, weights: str) -> DatasetEvaluator:
    if not hasattr(MetadataCatalog.get(dataset_name), "json_file"):
        # Detectron2 would reuse the conversion of an earlier data set of this name (v0.6 cannot be told not to).
        if comm.is_main_process():
            Path(output_dir, f"{dataset_name}_coco_format.json").unlink(missing_ok=True)
        comm.synchronize()
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    return BoxEvaluator(
        dataset_name,
        output_dir=output_dir,
        # With any limit Detectron2 does not use the official evaluator, so the default is not passed.
        max_dets_per_image=None if limit == COCO_MAX_DETECTIONS else limit,
        note_origin=partial(_note_origin, dataset_name, settings_of(cfg), weights),
    )


def _note_origin(dataset_name: str, settings: dict[str, Any], weights: str, results: Path, ground_truth: str) -> None:
    """Write of which set and settings stored detections are; nothing for a set whose boxes are not all usable."""
    try:
        truth = read_truth(ground_truth, quiet=True)
    except SetupError as error:
        logger.debug("%s gets no origin: %s", results, error)
        return
    write_origin(results, truth, data_set=dataset_name, settings=settings, weights=weights)


# evaluator_type of the data set's metadata -> evaluator. A data set without one is converted to COCO's format.
EVALUATORS = {
    "": _coco,
    "coco": _coco,
    "lvis": lambda cfg, dataset_name, output_dir, weights: LVISEvaluator(
        dataset_name, ("bbox",), output_dir=output_dir
    ),
    "pascal_voc": lambda cfg, dataset_name, output_dir, weights: PascalVOCDetectionEvaluator(dataset_name),
}


def build_evaluator(cfg: CfgNode, dataset_name: str, output_dir: str, *, weights: str = "") -> DatasetEvaluator:
    """Build the evaluator of a registered data set, which writes into ``output_dir``.

    Args:
        weights: path of the checkpoint that is evaluated; "" for the model of a training in progress.

    Raises:
        SetupError: the data set's evaluator_type is unknown, or not for boxes.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "")
    if kind not in EVALUATORS:
        known = sorted(filter(None, EVALUATORS))
        raise SetupError(f"data set {dataset_name}: evaluator_type must be one of {known}, got {kind!r}")
    os.makedirs(output_dir, exist_ok=True)
    try:
        return EVALUATORS[kind](cfg, dataset_name, output_dir, weights)
    except ModuleNotFoundError as error:  # such as lvis
        raise SetupError(
            f"data set {dataset_name}: its evaluation needs {error.name}. Install it: pip install {error.name}"
        ) from error


def scoring_package(evaluator: DatasetEvaluator) -> str:
    """Return name and version of the scoring package, or else the evaluator's class, for the run record."""
    return getattr(evaluator, "package", type(evaluator).__name__)


class InferenceTimer:
    """Context manager that times each call of a model in eval mode, from images to detections (Table 1e's "time")."""

    def __init__(self, model: torch.nn.Module):
        self._model = model
        self._per_image: list[float] = []

    def __enter__(self) -> "InferenceTimer":
        started = 0.0

        def begin(model: torch.nn.Module, inputs: tuple) -> None:
            nonlocal started
            if not model.training:
                started = device_time()

        def end(model: torch.nn.Module, inputs: tuple, outputs: list) -> None:
            if not model.training:
                self._per_image.append((device_time() - started) / max(len(inputs[0]), 1))

        self._hooks = [self._model.register_forward_pre_hook(begin), self._model.register_forward_hook(end)]
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()

    @property
    def ms_per_image(self) -> float | None:
        """Median time over the calls, in milliseconds; None without a call."""
        return 1000 * statistics.median(self._per_image) if self._per_image else None


def device_time() -> float:
    """Read a clock, in seconds, after the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
