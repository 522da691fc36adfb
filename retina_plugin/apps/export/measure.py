"""Measures exported files and their model: AP, time and size."""

import argparse
import importlib.metadata
import json
import shlex
import sys
import tempfile
from pathlib import Path

from ...files import write_whole
from ...prepare import prepare
from ...run_record import git_state, hardware, versions
from ...training.trained_model import evaluation_config, load_trained_model
from .scoring import score_detectors

__all__ = ["measure"]

# Largest differences that an fp32 export may have from PyTorch: box in pixels, and score.
MAX_BOX, MAX_SCORE = 0.05, 1e-4
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def measure(args: argparse.Namespace) -> None:
    """Score exported files on the config's test set, print a line for each and write the record."""
    cfg = evaluation_config(args.weights, args.config_file or None, ["MODEL.DEVICE", "cpu", *args.opts])
    cfg = prepare(cfg, ["MODEL.PRECISION", "fp32"], use="model").cfg
    model, _, _ = load_trained_model(cfg)
    with tempfile.TemporaryDirectory() as folder:
        rows = score_detectors(cfg, model, args.files, Path(folder), max_box=MAX_BOX, max_score=MAX_SCORE)
    record = {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "git": git_state(),
        "versions": {**versions(), **{package: importlib.metadata.version(package) for package in PACKAGES}},
        "hardware": hardware(),
        "seed": cfg.SEED,
        "data": list(cfg.DATASETS.TEST),
        "tolerance": {"box_pixels": MAX_BOX, "score": MAX_SCORE},
        "rows": rows,
    }
    write_whole(args.output, json.dumps(record, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['name']:24} AP {_text(row['AP'])}  AP50 {_text(row['AP50'])}  {row['ms_per_image']:7.1f} ms  "
            f"{row['megabytes']:6.1f} MB  same detections on {row['images_equal']} of {row['images']} images"
        )


def _text(metric: float | None) -> str:
    return "  n/a" if metric is None else f"{metric:5.2f}"
