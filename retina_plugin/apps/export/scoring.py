"""Scores exported files with Detectron2's evaluation, and compares their detections with PyTorch's."""

import math
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

from ...data.checks import check_datasets
from ...errors import SetupError
from ...evaluation.evaluator import InferenceTimer, build_evaluator
from ...training.trainer import RetinaTrainer
from .detector import ExportableDetector
from .runtime import Detections, detections_differ, load_exported

__all__ = ["score_detectors"]


class ExportedDetector(nn.Module):
    """Adapts an exported file to Detectron2's evaluation."""

    def __init__(self, detect, dtype: torch.dtype):
        """
        Args:
            detect: function from NumPy images (N, 3, H, W) to detections, as returned by ``load_exported``.
            dtype: type of the images that ``detect`` takes.
        """
        super().__init__()
        self.detect, self.dtype = detect, dtype

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """Detectron2's model interface, for images that are resized already."""
        results = []
        for item in batched_inputs:
            boxes, scores, classes, (count,) = self.detect(item["image"][None].to(self.dtype).numpy())
            found = Instances(tuple(item["image"].shape[1:]))
            found.pred_boxes = Boxes(torch.from_numpy(boxes[0, :count].copy()))
            found.scores = torch.from_numpy(scores[0, :count].copy())
            found.pred_classes = torch.from_numpy(classes[0, :count].copy())
            results.append({"instances": detector_postprocess(found, item["height"], item["width"])})
        return results


def score_detectors(
    cfg: CfgNode, model: nn.Module, files: list[Path], folder: Path, *, max_box: float, max_score: float
) -> list[dict]:
    """Score PyTorch and each file, one row each: AP, ms per image, size, number of images with the same detections.

    Args:
        folder: for the files that the evaluators write.
        max_box, max_score: tolerances, see ``detections_differ``.

    Raises:
        SetupError: there is no test set.
    """
    if not cfg.DATASETS.TEST:
        raise SetupError("DATASETS.TEST is empty: name the set to score on, or DATASETS.VAL_JSON and VAL_IMAGES.")
    check_datasets(cfg, train=False)
    detectors = [load_exported(path) for path in files]  # before the long work
    reference = ExportableDetector(model).eval()
    megabytes = sum(value.numel() * value.element_size() for value in reference.state_dict().values()) / 1e6
    rows = [{"name": "PyTorch", "megabytes": megabytes, **_score(cfg, _in_numpy(reference), torch.uint8, folder)}]
    images = [item["image"][None] for batch in _loader(cfg) for item in batch]
    expected = [_in_numpy(reference)(image.numpy()) for image in images]
    rows[0]["images_equal"] = len(images)
    for path, detect in zip(files, detectors, strict=True):
        dtype = torch.uint8
        if path.suffix == ".onnx":
            import onnx

            kind = onnx.load(path).graph.input[0].type.tensor_type.elem_type
            dtype = torch.float32 if kind == onnx.TensorProto.FLOAT else torch.uint8
        row = {"name": path.name, "megabytes": path.stat().st_size / 1e6, **_score(cfg, detect, dtype, folder)}
        found = (detect(image.to(dtype).numpy()) for image in images)
        differ = [
            detections_differ(a, b, max_box=max_box, max_score=max_score, threshold=reference.score_thresh)
            for a, b in zip(found, expected, strict=True)
        ]
        rows.append({**row, "images_equal": differ.count(""), "first_difference": next(filter(None, differ), "")})
    return rows


def _loader(cfg: CfgNode):
    return RetinaTrainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])


def _in_numpy(detector: ExportableDetector):
    @torch.no_grad()
    def detect(images: np.ndarray) -> Detections:
        return tuple(output.numpy() for output in detector(torch.from_numpy(images)))

    return detect


def _score(cfg: CfgNode, detect, dtype: torch.dtype, folder: Path) -> dict:
    model = ExportedDetector(detect, dtype)
    loader = _loader(cfg)
    with InferenceTimer(model) as timer:
        results = inference_on_dataset(model, loader, build_evaluator(cfg, cfg.DATASETS.TEST[0], str(folder)))["bbox"]
    metrics = {key: results[key] for key in ("AP", "AP50", "AP75")}
    return {
        **{key: None if math.isnan(value) else value for key, value in metrics.items()},
        "ms_per_image": timer.ms_per_image,
        "images": len(loader.dataset),
    }
