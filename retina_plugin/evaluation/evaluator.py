"""The evaluator of a data set, and a timer of the model during evaluation."""

import os
import statistics
import time
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, LVISEvaluator, PascalVOCDetectionEvaluator
from detectron2.utils import comm

from ..errors import SetupError
from .coco_evaluator import BoxEvaluator

__all__ = ["InferenceTimer", "build_evaluator", "device_time", "scoring_package"]

# COCO's evaluator scores at most this many detections of an image by default.
COCO_MAX_DETECTIONS = 100


def _coco(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    if not hasattr(MetadataCatalog.get(dataset_name), "json_file"):
        # Detectron2 would score against its conversion of an earlier set of the same name (v0.6 cannot refuse it).
        if comm.is_main_process():
            Path(output_dir, f"{dataset_name}_coco_format.json").unlink(missing_ok=True)
        comm.synchronize()
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    return BoxEvaluator(
        dataset_name,
        output_dir=output_dir,
        # Given any limit, Detectron2 leaves the official evaluator, so the default is not passed.
        max_dets_per_image=None if limit == COCO_MAX_DETECTIONS else limit,
    )


def _lvis(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    return LVISEvaluator(dataset_name, tasks=("bbox",), output_dir=output_dir)


def _pascal_voc(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    return PascalVOCDetectionEvaluator(dataset_name)


# By the data set's metadata.evaluator_type; a set without one is converted to COCO's format.
EVALUATORS = {"": _coco, "coco": _coco, "lvis": _lvis, "pascal_voc": _pascal_voc}


def build_evaluator(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    """Build the evaluator of a registered data set, which writes into ``output_dir``.

    Raises:
        SetupError: the data set's evaluator_type is unknown, or not for boxes.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "")
    if kind not in EVALUATORS:
        known = sorted(filter(None, EVALUATORS))
        raise SetupError(f"data set {dataset_name}: evaluator_type must be one of {known}, got {kind!r}")
    os.makedirs(output_dir, exist_ok=True)
    return EVALUATORS[kind](cfg, dataset_name, output_dir)


def scoring_package(evaluator: DatasetEvaluator) -> str:
    """Name the package and version that compute the metrics, or else the evaluator's class, for the run record."""
    return getattr(evaluator, "package", type(evaluator).__name__)


class InferenceTimer:
    """Times each call of a model in evaluation, images in to detections out (Table 1e's "time"); not in training."""

    def __init__(self, model: torch.nn.Module):
        self._model = model
        self._per_image: list[float] = []

    def __enter__(self) -> "InferenceTimer":
        self._hooks = [
            self._model.register_forward_pre_hook(self._begin),
            self._model.register_forward_hook(self._end),
        ]
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()

    @property
    def ms_per_image(self) -> float | None:
        """Median over the calls; None without a call."""
        return 1000 * statistics.median(self._per_image) if self._per_image else None

    def _begin(self, model: torch.nn.Module, inputs: tuple) -> None:
        if not model.training:
            self._started = device_time()

    def _end(self, model: torch.nn.Module, inputs: tuple, outputs: list) -> None:
        if not model.training:
            self._per_image.append((device_time() - self._started) / max(len(inputs[0]), 1))


def device_time() -> float:
    """Read a clock, in seconds, after the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
