"""The schedule of a config, scaled to another batch by one key."""

import logging

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer

from ..errors import SetupError

__all__ = ["scale_to_batch"]

logger = logging.getLogger(__name__)


def scale_to_batch(cfg: CfgNode) -> CfgNode:
    """Scale a schedule that was written for SOLVER.REFERENCE_BATCH images to IMS_PER_BATCH, and log it.

    It is done by Detectron2's ``auto_scale_workers``, with images in place of its workers: BASE_LR times the ratio;
    MAX_ITER, STEPS, WARMUP_ITERS, CHECKPOINT_PERIOD, TEST.EVAL_PERIOD and TEST.LOSS_PERIOD divided by it.

    Returns:
        ``cfg`` itself if there is nothing to scale; else a copy whose REFERENCE_BATCH is its IMS_PER_BATCH, so that a
        second call changes nothing.

    Raises:
        SetupError: SOLVER.REFERENCE_WORLD_SIZE is set too.
    """
    reference, batch = cfg.SOLVER.REFERENCE_BATCH, cfg.SOLVER.IMS_PER_BATCH
    if reference <= 0 or batch <= 0:  # 0 is off; the check of values refuses less
        return cfg
    if cfg.SOLVER.REFERENCE_WORLD_SIZE:
        raise SetupError(
            f"SOLVER.REFERENCE_BATCH {reference} and SOLVER.REFERENCE_WORLD_SIZE {cfg.SOLVER.REFERENCE_WORLD_SIZE} "
            "must not both be set, each scales the schedule: set one of them to 0."
        )
    if reference == batch:
        return cfg
    scaled = cfg.clone()
    scaled.defrost()
    scaled.SOLVER.IMS_PER_BATCH = scaled.SOLVER.REFERENCE_WORLD_SIZE = reference
    scaled = DefaultTrainer.auto_scale_workers(scaled, batch)  # a copy; logs what it did
    scaled.SOLVER.REFERENCE_WORLD_SIZE = 0
    scaled.SOLVER.REFERENCE_BATCH = batch
    scaled.TEST.LOSS_PERIOD = int(round(cfg.TEST.LOSS_PERIOD * reference / batch))
    # Rounding must not make a period 0, which is "never".
    for key in ("EVAL_PERIOD", "LOSS_PERIOD"):
        if cfg.TEST[key] > 0:
            scaled.TEST[key] = max(scaled.TEST[key], 1)
    for key in ("CHECKPOINT_PERIOD", "MAX_ITER"):
        scaled.SOLVER[key] = max(scaled.SOLVER[key], 1)
    keys = ("BASE_LR", "MAX_ITER", "STEPS", "WARMUP_ITERS")
    changes = ", ".join(f"{key} {cfg.SOLVER[key]} -> {scaled.SOLVER[key]}" for key in keys)
    # Detectron2's own line comes before its logger is set up.
    logger.info("SOLVER.REFERENCE_BATCH %d, IMS_PER_BATCH %d: %s", reference, batch, changes)
    if cfg.is_frozen():
        scaled.freeze()
    return scaled
