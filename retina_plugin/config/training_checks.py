"""The checks of the keys that say how to train and evaluate: schedule, batch, sampler, crops, metrics.

In the form of ``checks.py``, which runs them: generators of findings, for a config whose single values are in range.
"""

from collections.abc import Iterator

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..findings import WARNING, Finding, finding
from .rules import get_value, value_error

__all__ = ["RULE_BATCH", "RULE_LR", "TRAINING_CHECKS"]

# Norms that compute their statistics over one pass.
_BATCH_NORMS = ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
# Keys that need FocalRetinaNet -> the value that works without it.
_FOCAL_ONLY = {"SOLVER.ACCUMULATION_STEPS": 1, "TEST.LOSS_PERIOD": 0}
# The paper's 0.01 for 16 images (Sec. 4.1), scaled linearly. The margin is a guard: it allows a
# bold choice and catches a rate that was meant for a larger batch.
RULE_LR, RULE_BATCH, _LR_MARGIN = 0.01, 16, 4


def _warning(text: str) -> Finding:
    """Make the warning for a training key that is probably not meant; the sentence must name its key first."""
    return finding("training-keys", value_error(text).where, text, "")


def check_schedule(cfg: CfgNode) -> Iterator[Finding]:
    solver = cfg.SOLVER
    steps, last = list(solver.STEPS), solver.MAX_ITER
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        if any(step <= 0 for step in steps) or any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
            yield value_error(f"SOLVER.STEPS must be iterations above 0 that increase, got {tuple(steps)}.")
            return
        if last in steps:
            yield value_error(
                f"SOLVER.STEPS must lie below SOLVER.MAX_ITER {last}, got {tuple(steps)}: "
                f"leave {last} out, the run ends there."
            )
            return
        if beyond := [step for step in steps if step > last]:
            text = f"SOLVER.STEPS {tuple(beyond)} are beyond SOLVER.MAX_ITER {last}: these decays never happen"
            yield finding("steps-beyond-end", "SOLVER.STEPS", text)
    if solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR" and solver.NUM_DECAYS < 1:
        yield value_error(
            f"SOLVER.NUM_DECAYS must be 1 or more with WarmupStepWithFixedGammaLR, got {solver.NUM_DECAYS}."
        )
        return
    end = solver.get("BASE_LR_END", 0.0)
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and not 0 <= end <= solver.BASE_LR:
        yield value_error(f"SOLVER.BASE_LR_END must be in [0, BASE_LR {solver.BASE_LR:g}], got {end:g}: 0 is usual.")
        return
    if solver.WARMUP_ITERS > last:
        text = f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is above SOLVER.MAX_ITER {last}: BASE_LR is never reached"
        yield finding("warmup-beyond-end", "SOLVER.WARMUP_ITERS", text)
    rule_lr = RULE_LR * solver.IMS_PER_BATCH / RULE_BATCH
    if solver.BASE_LR > _LR_MARGIN * rule_lr:
        text = (
            f"SOLVER.BASE_LR {solver.BASE_LR:g} is high for IMS_PER_BATCH {solver.IMS_PER_BATCH}: the linear rule "
            f"({RULE_LR} for {RULE_BATCH} images) gives {rule_lr:g}; the loss may diverge"
        )
        yield finding("lr-high", "SOLVER.BASE_LR", text, f"Set SOLVER.BASE_LR {rule_lr:g}.")


def check_batch(cfg: CfgNode) -> Iterator[Finding]:
    batch, workers = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    # With a REFERENCE_WORLD_SIZE Detectron2 scales the batch to the workers.
    if batch % workers and not cfg.SOLVER.REFERENCE_WORLD_SIZE:
        yield value_error(
            f"SOLVER.IMS_PER_BATCH must be a multiple of the number of GPUs {workers}, got {batch}: "
            f"take {max(workers, batch // workers * workers)}."
        )
        return
    if (reference := cfg.SOLVER.REFERENCE_WORLD_SIZE) not in (0, workers) and batch % reference:
        yield value_error(
            f"SOLVER.IMS_PER_BATCH must be a multiple of SOLVER.REFERENCE_WORLD_SIZE {reference}, got {batch}: take "
            f"{max(1, batch // reference) * reference}."
        )
        return
    if cfg.TEST.EVAL_PERIOD > 0 and not cfg.DATASETS.TEST:
        text = f"TEST.EVAL_PERIOD is {cfg.TEST.EVAL_PERIOD}, but DATASETS.TEST is empty: nothing will be evaluated"
        yield finding("nothing-evaluated", "DATASETS.TEST", text, severity=WARNING)


# Sampler of Detectron2's -> the keys of DATALOADER or DATASETS that it reads, which not every release has.
_SAMPLER_KEYS = {
    "RandomSubsetTrainingSampler": ("DATALOADER.RANDOM_SUBSET_RATIO",),
    "WeightedTrainingSampler": ("DATASETS.TRAIN_REPEAT_FACTOR",),
    "WeightedCategoryTrainingSampler": ("DATASETS.TRAIN_REPEAT_FACTOR",),
}


def check_sampler(cfg: CfgNode) -> Iterator[Finding]:
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    for key in _SAMPLER_KEYS.get(sampler, ()):
        group, name = key.split(".")
        if name not in cfg[group]:
            yield value_error(
                f"DATALOADER.SAMPLER_TRAIN {sampler} reads {key}, which is no key of this Detectron2's config: add it "
                "in Python, or take TrainingSampler or RepeatFactorTrainingSampler."
            )
            return
    if cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler" and cfg.DATALOADER.REPEAT_THRESHOLD == 0:
        yield value_error(
            "DATALOADER.REPEAT_THRESHOLD is 0, so SAMPLER_TRAIN RepeatFactorTrainingSampler repeats nothing: "
            "set it to the part of the images below which a class is rare, such as 0.1."
        )


def check_crop(cfg: CfgNode) -> Iterator[Finding]:
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return
    low, high = crop.SIZE
    if crop.TYPE.startswith("relative"):
        if max(low, high) > 1:
            yield value_error(
                f"INPUT.CROP.SIZE must be parts of the image in (0, 1] with INPUT.CROP.TYPE {crop.TYPE}, got "
                f"{list(crop.SIZE)}: TYPE absolute takes pixels."
            )
    elif low != int(low) or high != int(high):
        yield value_error(f"INPUT.CROP.SIZE must be whole pixels with TYPE {crop.TYPE}, got {list(crop.SIZE)}.")
    elif crop.TYPE == "absolute_range" and low > high:
        yield value_error(f"INPUT.CROP.SIZE must be (least, most) with TYPE absolute_range, got {list(crop.SIZE)}.")


def check_training(cfg: CfgNode) -> Iterator[Finding]:
    for key, off in _FOCAL_ONLY.items():
        if get_value(cfg, key) != off and cfg.MODEL.META_ARCHITECTURE != "FocalRetinaNet":
            yield value_error(
                f"{key} {get_value(cfg, key)} needs MODEL.META_ARCHITECTURE FocalRetinaNet, got "
                f"{cfg.MODEL.META_ARCHITECTURE}: set that, or {key} {off}."
            )
            return
    if cfg.SOLVER.FAULTS.OUT_OF_MEMORY == "split":
        yield _warning(
            "SOLVER.FAULTS.OUT_OF_MEMORY split was removed and acts as skip: SOLVER.ACCUMULATION_STEPS takes every "
            "batch in parts."
        )
    if cfg.SOLVER.FAULTS.OUT_OF_MEMORY != "stop" and comm.get_world_size() > 1:
        yield _warning(
            "SOLVER.FAULTS.OUT_OF_MEMORY skip works in one process: with several, a process that runs out of memory "
            "ends the run, and --resume goes on."
        )
    decay = cfg.SOLVER.EMA_DECAY
    if decay > 0 and 1 / (1 - decay) > cfg.SOLVER.MAX_ITER:
        yield _warning(
            f"SOLVER.EMA_DECAY {decay:g} averages over the last {1 / (1 - decay):.0f} iterations or so, MAX_ITER is "
            f"{cfg.SOLVER.MAX_ITER}: the average will be mostly the weights of the start."
        )
    steps, batch, workers = cfg.SOLVER.ACCUMULATION_STEPS, cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if steps == 1:
        return
    if batch % (steps * workers) and not cfg.SOLVER.REFERENCE_WORLD_SIZE:
        yield value_error(
            f"SOLVER.IMS_PER_BATCH must be a multiple of ACCUMULATION_STEPS {steps}"
            + (f" x {workers} GPUs" if workers > 1 else "")
            + f", got {batch}: take {max(1, batch // (steps * workers)) * steps * workers}."
        )
        return
    if cfg.MODEL.RETINANET.CLS_LOSS_NAME == "OHEMLoss" and cfg.MODEL.RETINANET.OHEM.SCOPE == "batch":
        yield value_error(
            "MODEL.RETINANET.OHEM.SCOPE must be 'image' with SOLVER.ACCUMULATION_STEPS above 1, got 'batch': the "
            "hardest examples of a batch cannot be found part by part."
        )
        return
    if found := sorted({cfg.MODEL.RESNETS.NORM, cfg.MODEL.FPN.NORM, cfg.MODEL.RETINANET.NORM} & set(_BATCH_NORMS)):
        yield _warning(
            f"SOLVER.ACCUMULATION_STEPS {steps} with {found[0]}: batch norms see {batch // steps} images a pass, not "
            f"{batch}. FrozenBN and GN do not depend on it."
        )


def check_evaluation(cfg: CfgNode) -> Iterator[Finding]:
    test, patience = cfg.TEST, cfg.SOLVER.EARLY_STOPPING.PATIENCE
    if test.LOSS_PERIOD > 0 and not cfg.DATASETS.TEST:
        yield _warning(f"TEST.LOSS_PERIOD is {test.LOSS_PERIOD}, but DATASETS.TEST is empty: nothing will be measured.")
    if test.EXPECTED_RESULTS and len(cfg.DATASETS.TEST) != 1:
        yield value_error(
            f"TEST.EXPECTED_RESULTS needs one set in DATASETS.TEST to compare with, got {list(cfg.DATASETS.TEST)}: "
            "name one, or set it to []."
        )
        return
    if not test.BEST_METRIC:
        if patience > 0:
            yield value_error(
                f"SOLVER.EARLY_STOPPING.PATIENCE is {patience}, but TEST.BEST_METRIC is empty: set it to a metric, "
                "such as bbox/AP."
            )
        return
    if not cfg.DATASETS.TEST:
        yield value_error(
            f"TEST.BEST_METRIC is {test.BEST_METRIC}, but DATASETS.TEST is empty: name a data set, or set it to ''."
        )
        return
    period = "LOSS_PERIOD" if test.BEST_METRIC.startswith("validation/") else "EVAL_PERIOD"
    if test[period] == 0 and (patience > 0 or period == "LOSS_PERIOD"):
        yield value_error(
            f"TEST.BEST_METRIC is {test.BEST_METRIC}, but TEST.{period} is 0, so that it is not measured while "
            f"training: set TEST.{period} to a number of iterations."
        )


TRAINING_CHECKS = (check_schedule, check_batch, check_sampler, check_crop, check_training, check_evaluation)
