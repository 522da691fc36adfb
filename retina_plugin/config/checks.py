"""The values of a config, checked before anything is built: ranges, lengths, names, and keys that must fit together."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import ANCHOR_GENERATOR_REGISTRY, BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.utils import comm

from ..errors import SetupError
from ..findings import WARNING, Finding, finding
from ..modeling.execution import bfloat16_is_fast
from .level_checks import EXTRA_LEVELS, check_anchors, check_levels
from .rules import COMMON_RULES, RETINANET_RULES, get_value, image_channels, one_of
from .training_checks import check_training

__all__ = ["RULE_BATCH", "RULE_LR", "check_config", "find_config_faults"]

_RETINANETS = ("RetinaNet", "FocalRetinaNet")
_RESNETS = ("build_resnet_backbone", *EXTRA_LEVELS)
# The paper's 0.01 for 16 images (Sec. 4.1), scaled linearly. The margin is a guard: it lets a bold choice pass and
# finds a rate that was meant for a larger batch.
RULE_LR, RULE_BATCH, _LR_MARGIN = 0.01, 16, 4


def check_config(cfg: CfgNode, known_losses: Sequence[str] | None = None) -> list[str]:
    """Refuse values that cannot work; nothing is built or written.

    Args:
        cfg: a config with the plugin's keys. Keys of RetinaNet are looked at if META_ARCHITECTURE is one.
        known_losses: what CLS_LOSS_NAME may be; None to take any.

    Returns:
        sentences about values that work and are probably not meant.

    Raises:
        SetupError: with key, rule, value and remedy, for the first value that cannot work.
    """
    warnings = []
    for found in _examine(cfg, known_losses):
        if isinstance(found, SetupError):
            raise found
        warnings.append(str(found))
    return warnings


def find_config_faults(cfg: CfgNode, known_losses: Sequence[str] | None = None) -> list[Finding]:
    """What ``check_config`` refuses and warns of, all of it. Keys are set against each other once each is in range."""
    found = _examine(cfg, known_losses)
    return [finding("config-value", _first_key(str(f)), str(f)) if isinstance(f, SetupError) else f for f in found]


def _first_key(text: str) -> str:
    key = re.search(r"[A-Z0-9_]+(\.[A-Z0-9_]+)+|OUTPUT_DIR", text)
    return key.group() if key else "config"


def _examine(cfg: CfgNode, known_losses: Sequence[str] | None) -> Iterator[Finding | SetupError]:
    is_retinanet = cfg.MODEL.META_ARCHITECTURE in _RETINANETS
    rules = COMMON_RULES + (RETINANET_RULES if is_retinanet else ())
    if is_retinanet and known_losses is not None:
        rules += (one_of("MODEL.RETINANET.CLS_LOSS_NAME", *sorted(known_losses)),)
    faulty = False
    for rule in rules:
        try:
            rule.check(cfg)
        except SetupError as error:
            faulty = True
            yield error
    if faulty:  # what follows takes each value for one that is allowed
        return
    for check in _COMMON_CHECKS + (_RETINANET_CHECKS if is_retinanet else ()):
        try:
            yield from check(cfg)
        except SetupError as error:
            yield error


def _check_names(cfg: CfgNode) -> Iterator[Finding]:
    for key, registry in (
        ("MODEL.META_ARCHITECTURE", META_ARCH_REGISTRY),
        ("MODEL.BACKBONE.NAME", BACKBONE_REGISTRY),
        ("MODEL.ANCHOR_GENERATOR.NAME", ANCHOR_GENERATOR_REGISTRY),
    ):
        name = get_value(cfg, key)
        if name not in registry:
            known = ", ".join(sorted(known for known, _ in registry))
            raise SetupError(f"{key} {name!r} is not registered: import its module, or take one of {known}.")
    yield from ()


def _check_pixels(cfg: CfgNode) -> Iterator[Finding]:
    channels = image_channels(cfg.INPUT.FORMAT)
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            raise SetupError(
                f"MODEL.{key} must have {channels} numbers, one a channel of INPUT.FORMAT {cfg.INPUT.FORMAT}, "
                f"got {len(cfg.MODEL[key])}: {list(cfg.MODEL[key])}."
            )
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(cfg.INPUT.MIN_SIZE_TRAIN) != 2:
        raise SetupError(
            "INPUT.MIN_SIZE_TRAIN must be 2 numbers, the ends of the range, with MIN_SIZE_TRAIN_SAMPLING 'range', "
            f"got {tuple(cfg.INPUT.MIN_SIZE_TRAIN)}."
        )
    yield from ()


def _check_schedule(cfg: CfgNode) -> Iterator[Finding]:
    solver = cfg.SOLVER
    steps, last = list(solver.STEPS), solver.MAX_ITER
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        if any(step <= 0 for step in steps) or any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
            raise SetupError(f"SOLVER.STEPS must be iterations above 0 that increase, got {tuple(steps)}.")
        if last in steps:
            raise SetupError(
                f"SOLVER.STEPS must lie below SOLVER.MAX_ITER {last}, got {tuple(steps)}: "
                f"leave {last} out, the run ends there."
            )
        if beyond := [step for step in steps if step > last]:
            yield finding(
                "steps-beyond-end",
                "SOLVER.STEPS",
                f"SOLVER.STEPS {tuple(beyond)} are beyond SOLVER.MAX_ITER {last}: these decays never happen",
            )
    end = solver.get("BASE_LR_END", 0.0)
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and not 0 <= end <= solver.BASE_LR:
        raise SetupError(f"SOLVER.BASE_LR_END must be in [0, BASE_LR {solver.BASE_LR:g}], got {end:g}: 0 is usual.")
    if solver.WARMUP_ITERS > last:
        yield finding(
            "warmup-beyond-end",
            "SOLVER.WARMUP_ITERS",
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is above SOLVER.MAX_ITER {last}: BASE_LR is never reached",
        )
    rule_lr = RULE_LR * solver.IMS_PER_BATCH / RULE_BATCH
    if solver.BASE_LR > _LR_MARGIN * rule_lr:
        yield finding(
            "lr-high",
            "SOLVER.BASE_LR",
            f"SOLVER.BASE_LR {solver.BASE_LR:g} is high for IMS_PER_BATCH {solver.IMS_PER_BATCH}: the linear rule "
            f"({RULE_LR} for {RULE_BATCH} images) gives {rule_lr:g}; the loss may diverge",
            f"Set SOLVER.BASE_LR {rule_lr:g}.",
        )


def _check_batch(cfg: CfgNode) -> Iterator[Finding]:
    batch, workers = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    # With a REFERENCE_WORLD_SIZE Detectron2 scales the batch to the workers.
    if batch % workers and not cfg.SOLVER.REFERENCE_WORLD_SIZE:
        raise SetupError(
            f"SOLVER.IMS_PER_BATCH must be a multiple of the number of GPUs {workers}, got {batch}: "
            f"take {max(workers, batch // workers * workers)}."
        )
    if cfg.TEST.EVAL_PERIOD > 0 and not cfg.DATASETS.TEST:
        yield finding(
            "nothing-evaluated",
            "DATASETS.TEST",
            f"TEST.EVAL_PERIOD is {cfg.TEST.EVAL_PERIOD}, but DATASETS.TEST is empty: nothing will be evaluated",
            severity=WARNING,
        )


def _check_sampler(cfg: CfgNode) -> Iterator[Finding]:
    if cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler" and cfg.DATALOADER.REPEAT_THRESHOLD == 0:
        raise SetupError(
            "DATALOADER.REPEAT_THRESHOLD is 0, so SAMPLER_TRAIN RepeatFactorTrainingSampler repeats nothing: "
            "set it to the part of the images below which a class is rare, such as 0.1."
        )
    yield from ()


def _check_output_dir(cfg: CfgNode) -> Iterator[Finding]:
    if not cfg.OUTPUT_DIR:
        raise SetupError("OUTPUT_DIR must be a folder, got '': name one, such as ./output.")
    path = Path(cfg.OUTPUT_DIR)
    existing = next(p for p in (path, *path.absolute().parents) if p.exists() or p.is_symlink())
    if not existing.is_dir():
        raise SetupError(f"OUTPUT_DIR {cfg.OUTPUT_DIR} must be a folder, but {existing} is a file: name another.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SetupError(f"OUTPUT_DIR {cfg.OUTPUT_DIR} must be writable, but {existing} is not: name another.")
    yield from ()


def _check_precision(cfg: CfgNode) -> Iterator[Finding]:
    precision, device = cfg.MODEL.PRECISION, cfg.MODEL.DEVICE
    if precision == "bf16" and not bfloat16_is_fast(device):
        yield finding(
            "precision-slow",
            "MODEL.PRECISION",
            f"MODEL.PRECISION bf16: {device} has no instructions for it, so it will be several times slower than fp32",
        )
    if precision == "winograd" and device != "cpu":
        yield finding(
            "precision-unused", "MODEL.PRECISION", f"MODEL.PRECISION winograd does nothing on {device}: it is for a CPU"
        )


def _check_training(cfg: CfgNode) -> Iterator[Finding]:
    for text in check_training(cfg):
        yield finding("training-keys", _first_key(text), text, "")


def _check_matcher(cfg: CfgNode) -> Iterator[Finding]:
    thresholds, labels = list(cfg.MODEL.RETINANET.IOU_THRESHOLDS), list(cfg.MODEL.RETINANET.IOU_LABELS)
    if thresholds != sorted(thresholds):
        raise SetupError(f"MODEL.RETINANET.IOU_THRESHOLDS must increase, got {thresholds}: write {sorted(thresholds)}.")
    if len(labels) != len(thresholds) + 1:
        raise SetupError(
            f"MODEL.RETINANET.IOU_LABELS must have {len(thresholds) + 1} labels, one more than IOU_THRESHOLDS "
            f"{thresholds}, got {labels}."
        )
    if 1 not in labels:
        yield finding(
            "no-positive-label",
            "MODEL.RETINANET.IOU_LABELS",
            f"MODEL.RETINANET.IOU_LABELS {labels} has no 1: hardly any anchor will be positive",
        )


def _check_resnet(cfg: CfgNode) -> Iterator[Finding]:
    resnets = cfg.MODEL.RESNETS
    if cfg.MODEL.BACKBONE.NAME not in _RESNETS:
        return
    one_of("MODEL.RESNETS.DEPTH", 18, 34, 50, 101, 152).check(cfg)
    if resnets.DEPTH in (18, 34) and resnets.RES2_OUT_CHANNELS != 64:
        raise SetupError(
            f"MODEL.RESNETS.RES2_OUT_CHANNELS must be 64 with MODEL.RESNETS.DEPTH {resnets.DEPTH}, "
            f"got {resnets.RES2_OUT_CHANNELS}."
        )
    if not cfg.MODEL.WEIGHTS and resnets.NORM == "FrozenBN":
        yield finding(
            "frozen-bn-from-scratch",
            "MODEL.RESNETS.NORM",
            "MODEL.WEIGHTS is empty and MODEL.RESNETS.NORM is FrozenBN: training from scratch with FrozenBN diverges",
        )


def _check_other_heads(cfg: CfgNode) -> Iterator[Finding]:
    """Keys of the two-stage detectors that look like RetinaNet's and do nothing here."""
    default = get_cfg()
    for name in ("NUM_CLASSES", "SCORE_THRESH_TEST", "NMS_THRESH_TEST"):
        value = cfg.MODEL.ROI_HEADS[name]
        if value != default.MODEL.ROI_HEADS[name]:
            yield finding(
                "other-head-key",
                f"MODEL.ROI_HEADS.{name}",
                f"MODEL.ROI_HEADS.{name} {value} has no effect on RetinaNet: set MODEL.RETINANET.{name} "
                f"(now {cfg.MODEL.RETINANET[name]})",
                "",
            )


_COMMON_CHECKS = (
    _check_names,
    _check_pixels,
    _check_schedule,
    _check_batch,
    _check_sampler,
    _check_output_dir,
    _check_training,
)
_RETINANET_CHECKS = (_check_precision, _check_matcher, _check_resnet, check_levels, check_anchors, _check_other_heads)
