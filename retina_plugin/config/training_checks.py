"""Keys of the training comforts that must fit together: accumulation, average, validation, early stopping."""

from collections.abc import Iterator

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..errors import SetupError
from .rules import get_value

__all__ = ["check_training"]

# Keys that need FocalRetinaNet -> the value that does not.
_FOCAL_ONLY = {
    "SOLVER.ACCUMULATION_STEPS": 1, "TEST.LOSS_PERIOD": 0,
}  # fmt: skip
# Norms whose statistics are those of one pass.
_BATCH_NORMS = ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")


def check_training(cfg: CfgNode) -> Iterator[str]:
    """Sentences about values that work and are probably not meant.

    Raises:
        SetupError: values that cannot work together.
    """
    for key, off in _FOCAL_ONLY.items():
        if get_value(cfg, key) != off and cfg.MODEL.META_ARCHITECTURE != "FocalRetinaNet":
            raise SetupError(
                f"{key} {get_value(cfg, key)} needs MODEL.META_ARCHITECTURE FocalRetinaNet, got "
                f"{cfg.MODEL.META_ARCHITECTURE}: set that, or {key} {off}."
            )
    if cfg.SOLVER.FAULTS.OUT_OF_MEMORY == "split":
        yield (
            "SOLVER.FAULTS.OUT_OF_MEMORY split was removed and acts as skip: SOLVER.ACCUMULATION_STEPS takes every "
            "batch in parts."
        )
    if cfg.SOLVER.FAULTS.OUT_OF_MEMORY != "stop" and comm.get_world_size() > 1:
        yield (
            "SOLVER.FAULTS.OUT_OF_MEMORY skip works in one process: with several, a process that runs out of memory "
            "ends the run, and --resume goes on."
        )
    yield from _check_accumulation(cfg)
    yield from _check_average(cfg)
    yield from _check_evaluation(cfg)


def _check_accumulation(cfg: CfgNode) -> Iterator[str]:
    steps, batch, workers = cfg.SOLVER.ACCUMULATION_STEPS, cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if steps == 1:
        return
    if batch % (steps * workers) and not cfg.SOLVER.REFERENCE_WORLD_SIZE:
        raise SetupError(
            f"SOLVER.IMS_PER_BATCH must be a multiple of ACCUMULATION_STEPS {steps}"
            + (f" x {workers} GPUs" if workers > 1 else "")
            + f", got {batch}: take {max(1, batch // (steps * workers)) * steps * workers}."
        )
    if cfg.MODEL.RETINANET.CLS_LOSS_NAME == "OHEMLoss" and cfg.MODEL.RETINANET.OHEM.SCOPE == "batch":
        raise SetupError(
            "MODEL.RETINANET.OHEM.SCOPE must be 'image' with SOLVER.ACCUMULATION_STEPS above 1, got 'batch': the "
            "hardest examples of a batch cannot be found part by part."
        )
    if found := sorted({cfg.MODEL.RESNETS.NORM, cfg.MODEL.FPN.NORM, cfg.MODEL.RETINANET.NORM} & set(_BATCH_NORMS)):
        yield (
            f"SOLVER.ACCUMULATION_STEPS {steps} with {found[0]}: batch norms see {batch // steps} images a pass, not "
            f"{batch}. FrozenBN and GN do not depend on it."
        )


def _check_average(cfg: CfgNode) -> Iterator[str]:
    decay = cfg.SOLVER.EMA_DECAY
    if decay > 0 and 1 / (1 - decay) > cfg.SOLVER.MAX_ITER:
        yield (
            f"SOLVER.EMA_DECAY {decay:g} averages over the last {1 / (1 - decay):.0f} iterations or so, MAX_ITER is "
            f"{cfg.SOLVER.MAX_ITER}: the average will be mostly the weights of the start."
        )


def _check_evaluation(cfg: CfgNode) -> Iterator[str]:
    test, patience = cfg.TEST, cfg.SOLVER.EARLY_STOPPING.PATIENCE
    if test.LOSS_PERIOD > 0 and not cfg.DATASETS.TEST:
        yield f"TEST.LOSS_PERIOD is {test.LOSS_PERIOD}, but DATASETS.TEST is empty: nothing will be looked at."
    if not test.BEST_METRIC:
        if patience > 0:
            raise SetupError(
                f"SOLVER.EARLY_STOPPING.PATIENCE is {patience}, but TEST.BEST_METRIC is empty: set it to what shall "
                "get better, such as bbox/AP."
            )
        return
    if not cfg.DATASETS.TEST:
        raise SetupError(
            f"TEST.BEST_METRIC is {test.BEST_METRIC}, but DATASETS.TEST is empty: name a data set, or set it to ''."
        )
    period = "LOSS_PERIOD" if test.BEST_METRIC.startswith("validation/") else "EVAL_PERIOD"
    if test[period] == 0 and (patience > 0 or period == "LOSS_PERIOD"):
        raise SetupError(
            f"TEST.BEST_METRIC is {test.BEST_METRIC}, but TEST.{period} is 0, so that it is not measured while "
            f"training: set TEST.{period} to a number of iterations."
        )
