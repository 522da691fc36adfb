"""The hooks of a training that a config asks for, in the order in which they have to stand."""

from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine.hooks import EvalHook, HookBase, PeriodicCheckpointer, PeriodicWriter
from detectron2.utils import comm
from torch import nn

from ..modeling import TrainingState
from ..weights.checkpointer import build_checkpointer
from .determinism import IterationSeed, ProcessStates
from .hooks.averaging import WeightAverage
from .hooks.best_checkpoint import HISTORY_FILE, BestMetric, EarlyStoppingHook, MetricHistory, MissedEvaluation
from .hooks.interruption import InterruptionHook
from .hooks.loss_shares import LossShareHook
from .hooks.validation import ValidationLossHook

__all__ = ["assemble_hooks"]


def assemble_hooks(
    cfg: CfgNode,
    inherited: list[HookBase | None],
    *,
    state: TrainingState,
    average: WeightAverage | None,
    evaluated: nn.Module,
    evaluate: Callable[[], dict],
    interruption: InterruptionHook,
) -> list[HookBase]:
    """Detectron2's hooks with the plugin's among them.

    Args:
        inherited: of ``DefaultTrainer``: timer, schedule, PreciseBN, checkpoints, evaluation, writers.
        state: what each process has for itself.
        average: of the weights; None without one.
        evaluated: the model that evaluations look at.
        evaluate: takes the place of what Detectron2's EvalHook calls, which evaluates the trained weights.
        interruption: the last of the hooks.

    Returns:
        what looks at a step, Detectron2's in their order, what looks at an evaluation, the writers, and the hook that
        may end the run.
    """
    writers = [hook for hook in inherited if isinstance(hook, PeriodicWriter)]
    first: list[HookBase] = [IterationSeed(cfg.SEED)] if cfg.SEED >= 0 else []
    if cfg.ANALYSIS.LOSS_CDF_PERIOD > 0 and cfg.MODEL.META_ARCHITECTURE == "FocalRetinaNet":
        first.append(LossShareHook(cfg.ANALYSIS.LOSS_CDF_PERIOD))
    middle: list[HookBase] = []
    for hook in inherited:
        if hook is None or isinstance(hook, PeriodicWriter):
            continue
        # Before what saves and evaluates it, after PreciseBN, whose statistics it copies.
        if average and average not in middle and isinstance(hook, (PeriodicCheckpointer, EvalHook)):
            middle.append(average)
        middle.append(EvalHook(cfg.TEST.EVAL_PERIOD, evaluate) if isinstance(hook, EvalHook) else hook)
    if comm.get_world_size() > 1:
        first.append(ProcessStates(state, cfg.SOLVER.CHECKPOINT_PERIOD))
    evaluations = [hook for hook in middle if isinstance(hook, EvalHook)]
    return [*first, *middle, *_after_evaluation(cfg, evaluated, evaluations), *writers, interruption]


def _after_evaluation(cfg: CfgNode, evaluated: nn.Module, evaluations: list[HookBase]) -> list[HookBase]:
    hooks: list[HookBase] = []
    if cfg.TEST.LOSS_PERIOD > 0:
        hooks.append(ValidationLossHook(cfg, evaluated))
    if not cfg.TEST.BEST_METRIC:
        return hooks
    # Metrics are computed in the main process alone.
    main = comm.is_main_process()
    history = MetricHistory(cfg.TEST.BEST_METRIC, Path(cfg.OUTPUT_DIR, HISTORY_FILE) if main else None)
    if main:
        checkpointer = build_checkpointer(cfg, evaluated, cfg.OUTPUT_DIR, tag_last=False)
        hooks.append(BestMetric(checkpointer, history))
    hooks.append(MissedEvaluation(history, [*evaluations, *hooks]))
    if cfg.SOLVER.EARLY_STOPPING.PATIENCE > 0:
        stopping = cfg.SOLVER.EARLY_STOPPING
        hooks.append(EarlyStoppingHook(history, patience=stopping.PATIENCE, min_delta=stopping.MIN_DELTA))
    return hooks
