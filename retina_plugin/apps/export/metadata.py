"""Builds the metadata of an exported file: classes, input, sizes, thresholds, versions and the whole config."""

import json
import os
from pathlib import Path

import detectron2
import torch
from detectron2.config import CfgNode

import retina_plugin

from ...config.load import with_values
from .detector import PADDING_CLASS, ExportableDetector

__all__ = ["build_metadata", "metadata_as_text", "sidecar_path"]


def build_metadata(cfg: CfgNode, detector: ExportableDetector, class_names: list[str], *, weights: str) -> dict:
    """Build the metadata, the same for every format; unknown values are None, never guessed.

    Args:
        class_names: K names in the order of the class ids.
        weights: path of the checkpoint; only its file name is kept.
    """
    # The config without the folders of the machine that trained the model.
    portable = with_values(cfg, {"MODEL.WEIGHTS": os.path.basename(cfg.MODEL.WEIGHTS), "OUTPUT_DIR": ""})
    return {
        "model": cfg.MODEL.META_ARCHITECTURE,
        "classes": class_names,
        "num_classes": detector.num_classes,
        "input": {
            "name": "images",
            "shape": ["N", 3, "H", "W"],
            "channels": cfg.INPUT.FORMAT,
            "range": [0, 255],
            "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
            "pixel_std": list(cfg.MODEL.PIXEL_STD),
            "normalised_inside": True,
        },
        # The caller resizes: min_size is the shorter side (0 for no resizing), max_size the limit of the longer one.
        "resize": {"min_size": cfg.INPUT.MIN_SIZE_TEST, "max_size": cfg.INPUT.MAX_SIZE_TEST, "filter": "bilinear"},
        "output": {
            "names": ["boxes", "scores", "classes", "counts"],
            "boxes": "XYXY in pixels of the input image",
            "padding_class": PADDING_CLASS,
        },
        "thresholds": {
            "score": detector.score_thresh,
            "nms_iou": detector.nms_thresh,
            "topk_candidates": detector.topk_candidates,
            "detections_per_image": detector.max_detections,
        },
        "licence": None,  # a checkpoint does not state one
        "weights": os.path.basename(weights),
        "versions": {
            "retina_plugin": retina_plugin.__version__,
            "torch": torch.__version__,
            "detectron2": detectron2.__version__,
        },
        "config": portable.dump(),
    }


def metadata_as_text(metadata: dict) -> dict[str, str]:
    """Convert each value to text, as JSON unless it is text already: ONNX and safetensors store only text."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}


def sidecar_path(path: Path) -> Path:
    """Path of the JSON file for a format without metadata of its own: model.pt -> model.pt.json."""
    return path.with_name(f"{path.name}.json")
