"""Run a checkpoint on the test sets of its config, as ``train_net.py --eval-only`` does."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detectron2.data import MetadataCatalog

from ...config.load import load_config
from ...data.register import allows_outside, source_of
from ...errors import SetupError
from ...evaluation.boxes import Detections, Truth, read_truth
from ...evaluation.coco_evaluator import RESULTS
from ...evaluation.origin import Origin, read_origin
from ...evaluation.predictions import read_detections
from ...training.run import RunArguments, evaluate, set_up
from ...training.terminal import figures_later
from ...training.trained_model import evaluation_config

__all__ = ["run_model"]


@dataclass(frozen=True)
class ModelRun:
    """Detections of one test set."""

    dataset_name: str
    weights: str
    truth: Truth
    found: Detections
    image_root: str
    limit: int  # detections of an image: TEST.DETECTIONS_PER_IMAGE
    origin: Origin | None


def run_model(config_file: str, weights: str, output: Path, opts: Sequence[str]) -> list[ModelRun]:
    """Evaluate ``weights`` on DATASETS.TEST; its files (record, log, results) go to ``output``.

    Args:
        config_file: "" takes the description in the checkpoint, and the test set of its run.
        weights: a checkpoint or a run's folder; "" takes MODEL.WEIGHTS of the config.

    Raises:
        SetupError: in the config, the data or the weights; no test set, or one that COCO's metrics are not for.
    """
    cfg = evaluation_config(weights or load_config(config_file, opts).MODEL.WEIGHTS, config_file or None, opts)
    cfg.OUTPUT_DIR = str(output)
    command = shlex.join(["python", *sys.orig_argv[1:]])
    cfg, facts, _ = set_up(RunArguments(config=cfg, config_file=config_file, eval_only=True, command=command))
    if not cfg.DATASETS.TEST:
        raise SetupError("DATASETS.TEST is empty: name a set, or give DATASETS.VAL_JSON and DATASETS.VAL_IMAGES.")
    for name in cfg.DATASETS.TEST:
        kind = MetadataCatalog.get(name).get("evaluator_type", "")
        if kind not in ("", "coco"):
            raise SetupError(f"data set {name} is scored by {kind}'s rules; this page knows COCO's alone.")
    print(f"evaluating {cfg.MODEL.WEIGHTS} on {', '.join(cfg.DATASETS.TEST)}", flush=True)
    with figures_later():
        evaluate(cfg, False, facts)
    runs = []
    for name in cfg.DATASETS.TEST:
        metadata = MetadataCatalog.get(name)
        # A set without a JSON file has got one by the evaluation, with whole paths as file names.
        root = str(metadata.get("image_root", ""))
        truth = read_truth(metadata.json_file, root, allow_outside=allows_outside(name))
        results = output / "inference_eval_only" / name / RESULTS
        limit = cfg.TEST.DETECTIONS_PER_IMAGE
        found, origin = read_detections(results, truth), read_origin(results)
        truth = replace(truth, source=source_of(name))
        runs.append(ModelRun(name, cfg.MODEL.WEIGHTS, truth, found, root, limit, origin))
    return runs
