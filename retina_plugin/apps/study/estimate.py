"""Estimates time and disk space of a study: seconds from a few training steps, megabytes from the model's size."""

import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from ...config.load import load_config
from ...evaluation.evaluator import device_time
from ...prepare import prepare, usable_processors
from ...training.trainer import RetinaTrainer
from .plan import PlannedRun

__all__ = ["checkpoint_megabytes", "measure_seconds"]

# The first step allocates memory and is slow; two more are enough for an estimate in minutes.
WARM_UP_STEPS, TIMED_STEPS = 1, 2
# Size of a checkpoint in units of the weights: the weights, and the moments (two of AdamW, one of SGD).
CHECKPOINT_COPIES = {"AdamW": 3, "SGD": 2}


def measure_seconds(run: PlannedRun) -> float:
    """Estimate the training time of ``run`` on this machine from three steps, without start-up and evaluation.

    Nothing is written, and the weights are random.

    Raises:
        SetupError: the data set cannot be used.
    """
    # As in a training; torch warns of more workers than cores.
    workers = min(load_config(run.config_file, run.opts).DATALOADER.NUM_WORKERS, usable_processors())
    cfg = prepare(run.config_file, [*run.opts, "SEED", run.seed, "DATALOADER.NUM_WORKERS", workers], use="model").cfg
    model = RetinaTrainer.build_model(cfg)
    with EventStorage():
        batches = iter(RetinaTrainer.build_train_loader(cfg))
        for _ in range(WARM_UP_STEPS):
            _step(model, next(batches))
        start = device_time()
        for _ in range(TIMED_STEPS):
            _step(model, next(batches))
    return (device_time() - start) / TIMED_STEPS * run.max_iter


def checkpoint_megabytes(run: PlannedRun) -> float:
    """Estimate the size of a checkpoint of ``run``: weights and the optimiser's state. The model takes no memory."""
    cfg = load_config(run.config_file, run.opts)
    cfg.MODEL.DEVICE = "meta"
    for node in (cfg.MODEL.RETINANET, cfg.MODEL.ROI_HEADS):
        node.NUM_CLASSES = node.NUM_CLASSES or 1  # 0 means "as in the data"; a small part of the model
    with torch.device("meta"):
        model = build_model(cfg)
    num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return num_bytes * CHECKPOINT_COPIES[cfg.SOLVER.OPTIMIZER] / 1e6


def _step(model: torch.nn.Module, batch: list[dict]) -> None:
    """Run forward and backward; the optimiser takes little time, and some rows would diverge with it."""
    model.zero_grad()
    sum(model(batch).values()).backward()
