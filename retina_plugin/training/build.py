"""Build the optimizer and the hooks of a config, for ``RetinaTrainer`` and for your own trainer."""

import logging
from functools import partial
from pathlib import Path

import torch
from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.engine.hooks import EvalHook, HookBase, PeriodicCheckpointer, PeriodicWriter
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import nn

from ..data.class_names import config_class_names
from ..modeling import TrainingState
from ..modeling.trainer_keys import claim_keys
from ..weights.checkpointer import build_checkpointer
from .determinism import IterationSeed, ProcessStates
from .hooks.averaging import WeightAverage
from .hooks.best_checkpoint import HISTORY_FILE, BestMetric, MetricHistory, MissedEvaluation
from .hooks.curves import CurveHook
from .hooks.early_stopping import EarlyStoppingHook
from .hooks.interruption import InterruptionHook
from .hooks.loss_shares import LossShareHook
from .hooks.step_guard import StepGuard
from .hooks.validation import ValidationLossHook, build_validation_loader
from .hooks.wall_time import WallTimeHook

__all__ = ["build_hooks", "build_optimizer"]

logger = logging.getLogger(__name__)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD as Detectron2 does, or AdamW (SOLVER.OPTIMIZER), with the same rates, decays and clipping."""
    claim_keys(model, "build_optimizer")
    if cfg.SOLVER.OPTIMIZER == "SGD":
        return solver.build_optimizer(cfg, model)
    parameters = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    adamw = torch.optim.AdamW(parameters, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
    return maybe_add_gradient_clipping(cfg, adamw)


def build_hooks(cfg: CfgNode, trainer: DefaultTrainer, hooks: list[HookBase | None]) -> list[HookBase]:
    """Add the hooks of a config to those of a ``DefaultTrainer``.

        class Trainer(DefaultTrainer):
            def build_hooks(self):
                return build_hooks(self.cfg, self, super().build_hooks())

    Args:
        cfg: a config with the plugin's keys.
        trainer: a trainer with its model and checkpointer; the state of the hooks is added to the checkpointer.
        hooks: the trainer's own hooks: timer, schedule, PreciseBN, checkpoints, evaluation, writers.

    Returns:
        in this order: hooks of a step, the trainer's own, those of an evaluation, the writers, and the hook that may
        end the run. With SOLVER.EMA_DECAY the trainer evaluates the averaged weights.
    """
    model = getattr(trainer.model, "module", trainer.model)  # under DistributedDataParallel
    claim_keys(model, "build_hooks")
    is_focal = cfg.MODEL.META_ARCHITECTURE == "FocalRetinaNet"
    state = TrainingState(model)
    trainer.checkpointer.add_checkpointable("training_state", state)
    average = WeightAverage(model, cfg.SOLVER.EMA_DECAY, trainer.checkpointer) if cfg.SOLVER.EMA_DECAY > 0 else None
    evaluated = average.model if average else model

    faults = cfg.SOLVER.FAULTS
    out_of_memory = "stop" if faults.OUT_OF_MEMORY == "stop" else "skip"  # "split" was removed
    found: list[HookBase] = [IterationSeed(cfg.SEED)] if cfg.SEED >= 0 else []
    if cfg.ANALYSIS.LOSS_CDF_PERIOD > 0 and is_focal:
        found.append(LossShareHook(cfg.ANALYSIS.LOSS_CDF_PERIOD))
    if comm.get_world_size() > 1:
        found.append(ProcessStates(state, cfg.SOLVER.CHECKPOINT_PERIOD))
    found += [WallTimeHook(), StepGuard(nonfinite_loss=faults.NONFINITE_LOSS, out_of_memory=out_of_memory)]

    def evaluate() -> dict:
        trainer._last_eval_results = trainer.test(cfg, evaluated)
        return trainer._last_eval_results

    writers = [hook for hook in hooks if isinstance(hook, PeriodicWriter)]
    for hook in hooks:
        if hook is None or hook in writers:
            continue
        # Before the hooks that save and evaluate the average, and after PreciseBN, whose statistics it copies.
        if average and average not in found and isinstance(hook, (PeriodicCheckpointer, EvalHook)):
            found.append(average)
        found.append(EvalHook(cfg.TEST.EVAL_PERIOD, evaluate) if average and isinstance(hook, EvalHook) else hook)

    if cfg.TEST.LOSS_PERIOD > 0 and is_focal:
        loaders = {name: partial(build_validation_loader, cfg, name) for name in cfg.DATASETS.TEST}
        found.append(ValidationLossHook(cfg.TEST.LOSS_PERIOD, loaders, evaluated))
    if cfg.TEST.BEST_METRIC:
        # Metrics are computed in the main process alone.
        main, stopping = comm.is_main_process(), cfg.SOLVER.EARLY_STOPPING
        warn_of_no_evaluator(cfg.TEST.BEST_METRIC, type(trainer))
        history = MetricHistory(cfg.TEST.BEST_METRIC, Path(cfg.OUTPUT_DIR, HISTORY_FILE) if main else None)
        if main:
            checkpointer = build_checkpointer(
                cfg, evaluated, cfg.OUTPUT_DIR, classes=config_class_names(cfg), tag_last=False
            )
            found.append(BestMetric(checkpointer, history))
        found.append(MissedEvaluation(history))
        if stopping.PATIENCE > 0:
            found.append(EarlyStoppingHook(history, patience=stopping.PATIENCE, min_delta=stopping.MIN_DELTA))
    if writers:  # in the main process
        writers.append(CurveHook(Path(cfg.OUTPUT_DIR)))
    return [*found, *writers, InterruptionHook()]


def warn_of_no_evaluator(metric: str, trainer_class: type) -> None:
    """Warn of a trainer that measures no ``metric``: Detectron2's own has no evaluator, and says so only later."""
    inherits = all(
        getattr(getattr(trainer_class, name, None), "__func__", None) is getattr(DefaultTrainer, name).__func__
        for name in ("build_evaluator", "test")
    )
    if inherits and not metric.startswith("validation/"):
        logger.warning(
            "TEST.BEST_METRIC %s will not be measured, so no checkpoint is kept as the best and nothing stops early: "
            "give %s a class method build_evaluator(cls, cfg, name), which returns "
            "retina_plugin.evaluation.evaluator.build_evaluator(cfg, name, cfg.OUTPUT_DIR).",
            metric, trainer_class.__name__,
        )  # fmt: skip
