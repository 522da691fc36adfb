"""The values of a config, checked before anything is built: ranges, lengths, names, and keys that must fit together."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import ANCHOR_GENERATOR_REGISTRY, BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.utils import comm

from ..errors import SetupError
from ..modeling.precision import bfloat16_is_fast
from .config_rules import COMMON_RULES, RETINANET_RULES, get_value, image_channels, one_of
from .training_checks import check_training

__all__ = ["check_config"]

_RETINANETS = ("RetinaNet", "FocalRetinaNet")
# Levels that a backbone adds above its last input: P6 by max pooling, or P6 and P7 by convolution.
_EXTRA_LEVELS = {
    "build_resnet_fpn_backbone": 1,
    "build_retinanet_resnet_fpn_backbone": 2,
    "build_retinanet_p5_resnet_fpn_backbone": 2,
}
_GENERATORS = ("DefaultAnchorGenerator", "OctaveAnchorGenerator", "TorchvisionAnchorGenerator")
_RESNETS = ("build_resnet_backbone", *_EXTRA_LEVELS)
# The paper's 0.01 for 16 images (Sec. 4.1), scaled linearly. The margin is a guard: it lets a bold choice pass and
# finds a rate that was meant for a larger batch.
_RULE_LR, _RULE_BATCH, _LR_MARGIN = 0.01, 16, 4


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
    is_retinanet = cfg.MODEL.META_ARCHITECTURE in _RETINANETS
    rules = COMMON_RULES + (RETINANET_RULES if is_retinanet else ())
    if is_retinanet and known_losses is not None:
        rules += (one_of("MODEL.RETINANET.CLS_LOSS_NAME", *sorted(known_losses)),)
    for rule in rules:
        rule.check(cfg)
    checks = _COMMON_CHECKS + (_RETINANET_CHECKS if is_retinanet else ())
    return [warning for check in checks for warning in check(cfg)]


def _check_names(cfg: CfgNode) -> Iterator[str]:
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


def _check_pixels(cfg: CfgNode) -> Iterator[str]:
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


def _check_schedule(cfg: CfgNode) -> Iterator[str]:
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
            yield f"SOLVER.STEPS {tuple(beyond)} are beyond SOLVER.MAX_ITER {last}: these decays never happen."
    if solver.WARMUP_ITERS > last:
        yield f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is above SOLVER.MAX_ITER {last}: BASE_LR is never reached."
    rule_lr = _RULE_LR * solver.IMS_PER_BATCH / _RULE_BATCH
    if solver.BASE_LR > _LR_MARGIN * rule_lr:
        yield (
            f"SOLVER.BASE_LR {solver.BASE_LR:g} is high for IMS_PER_BATCH {solver.IMS_PER_BATCH}: the linear rule "
            f"({_RULE_LR} for {_RULE_BATCH} images) gives {rule_lr:g}; the loss may diverge."
        )


def _check_batch(cfg: CfgNode) -> Iterator[str]:
    batch, workers = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    # With a REFERENCE_WORLD_SIZE Detectron2 scales the batch to the workers.
    if batch % workers and not cfg.SOLVER.REFERENCE_WORLD_SIZE:
        raise SetupError(
            f"SOLVER.IMS_PER_BATCH must be a multiple of the number of GPUs {workers}, got {batch}: "
            f"take {max(workers, batch // workers * workers)}."
        )
    if cfg.TEST.EVAL_PERIOD > 0 and not cfg.DATASETS.TEST:
        yield f"TEST.EVAL_PERIOD is {cfg.TEST.EVAL_PERIOD}, but DATASETS.TEST is empty: nothing will be evaluated."


def _check_sampler(cfg: CfgNode) -> Iterator[str]:
    if cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler" and cfg.DATALOADER.REPEAT_THRESHOLD == 0:
        raise SetupError(
            "DATALOADER.REPEAT_THRESHOLD is 0, so SAMPLER_TRAIN RepeatFactorTrainingSampler repeats nothing: "
            "set it to the part of the images below which a class is rare, such as 0.1."
        )
    yield from ()


def _check_output_dir(cfg: CfgNode) -> Iterator[str]:
    if not cfg.OUTPUT_DIR:
        raise SetupError("OUTPUT_DIR must be a folder, got '': name one, such as ./output.")
    path = Path(cfg.OUTPUT_DIR)
    existing = next(p for p in (path, *path.absolute().parents) if p.exists() or p.is_symlink())
    if not existing.is_dir():
        raise SetupError(f"OUTPUT_DIR {cfg.OUTPUT_DIR} must be a folder, but {existing} is a file: name another.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SetupError(f"OUTPUT_DIR {cfg.OUTPUT_DIR} must be writable, but {existing} is not: name another.")
    yield from ()


def _check_precision(cfg: CfgNode) -> Iterator[str]:
    precision, device = cfg.MODEL.PRECISION, cfg.MODEL.DEVICE
    if precision == "bf16" and not bfloat16_is_fast(device):
        yield (
            f"MODEL.PRECISION bf16: {device} has no instructions for it, so it will be several times slower than fp32. "
            "Take fp32."
        )
    if precision == "winograd" and device != "cpu":
        yield f"MODEL.PRECISION winograd does nothing on {device}: it is for a CPU."


def _check_matcher(cfg: CfgNode) -> Iterator[str]:
    thresholds, labels = list(cfg.MODEL.RETINANET.IOU_THRESHOLDS), list(cfg.MODEL.RETINANET.IOU_LABELS)
    if thresholds != sorted(thresholds):
        raise SetupError(f"MODEL.RETINANET.IOU_THRESHOLDS must increase, got {thresholds}: write {sorted(thresholds)}.")
    if len(labels) != len(thresholds) + 1:
        raise SetupError(
            f"MODEL.RETINANET.IOU_LABELS must have {len(thresholds) + 1} labels, one more than IOU_THRESHOLDS "
            f"{thresholds}, got {labels}."
        )
    if 1 not in labels:
        yield f"MODEL.RETINANET.IOU_LABELS {labels} has no 1: hardly any anchor will be positive."


def _check_resnet(cfg: CfgNode) -> Iterator[str]:
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
        yield (
            "MODEL.WEIGHTS is empty and MODEL.RESNETS.NORM is FrozenBN: training from scratch with FrozenBN diverges; "
            "use configs/Base-Retina-Scratch.yaml."
        )


def _backbone_levels(cfg: CfgNode) -> list[str] | None:
    """The feature maps of Detectron2's own ResNet backbones; None for another backbone."""
    name = cfg.MODEL.BACKBONE.NAME
    if name == "build_resnet_backbone":
        return list(cfg.MODEL.RESNETS.OUT_FEATURES)
    if name not in _EXTRA_LEVELS:
        return None
    inputs = list(cfg.MODEL.FPN.IN_FEATURES)
    outputs = list(cfg.MODEL.RESNETS.OUT_FEATURES)
    needed = inputs + ["res5"] * (name == "build_retinanet_resnet_fpn_backbone")  # P6 comes from C5
    if not inputs or any(feature not in outputs for feature in needed):
        raise SetupError(
            f"MODEL.RESNETS.OUT_FEATURES must have all of {sorted({*needed})} for MODEL.FPN.IN_FEATURES {inputs}, "
            f"got {outputs}: set both, for example to ['res3', 'res4', 'res5']."
        )
    if not all(re.fullmatch(r"res\d", feature) for feature in inputs):
        return None
    stages = [int(feature[len("res") :]) for feature in inputs]
    return [f"p{stage}" for stage in [*stages, *(stages[-1] + 1 + i for i in range(_EXTRA_LEVELS[name]))]]


def _check_levels(cfg: CfgNode) -> Iterator[str]:
    key, features = "MODEL.RETINANET.IN_FEATURES", list(cfg.MODEL.RETINANET.IN_FEATURES)
    available = _backbone_levels(cfg)
    if not features:
        raise SetupError(f"{key} must name at least one level" + (f" of {available}." if available else "."))
    unknown = [feature for feature in features if available is not None and feature not in available]
    if unknown:
        raise SetupError(f"{key} must be among {available}, the levels of {cfg.MODEL.BACKBONE.NAME}, got {unknown}.")
    if available is not None:
        order = [feature for feature in available if feature in features]
        if features != order:
            raise SetupError(f"{key} must have strides that grow, each level once, got {features}: write {order}.")
    fpn = cfg.MODEL.BACKBONE.NAME in _EXTRA_LEVELS
    for norm_key in ("MODEL.RETINANET.NORM", "MODEL.FPN.NORM"):
        if fpn and get_value(cfg, norm_key) == "GN" and cfg.MODEL.FPN.OUT_CHANNELS % 32:
            raise SetupError(
                f"{norm_key} 'GN' has 32 groups, so MODEL.FPN.OUT_CHANNELS must be a multiple of 32, "
                f"got {cfg.MODEL.FPN.OUT_CHANNELS}."
            )
    yield from ()


def _per_level(cfg: CfgNode, name: str, unit: str) -> list[list[float]]:
    """A list of anchor sizes or ratios for each level, with Detectron2's rule for one list or a flat one."""
    key, value = f"MODEL.ANCHOR_GENERATOR.{name}", list(getattr(cfg.MODEL.ANCHOR_GENERATOR, name))
    num_levels = len(cfg.MODEL.RETINANET.IN_FEATURES)
    nested = [isinstance(item, (list, tuple)) for item in value]
    lists = [list(item) for item in value] if value and all(nested) else [value]
    if any(nested) and not all(nested):
        raise SetupError(f"{key} must be one list of {unit}, or a list of lists, not both mixed, got {value}.")
    numbers = [number for items in lists for number in items]
    if not all(lists) or not all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and 0 < n < float("inf") for n in numbers
    ):
        raise SetupError(f"{key} must hold {unit} that are finite and above 0, got {value}.")
    if len(lists) not in (1, num_levels):
        raise SetupError(
            f"{key} must have 1 list or {num_levels}, one a level of MODEL.RETINANET.IN_FEATURES "
            f"{list(cfg.MODEL.RETINANET.IN_FEATURES)}, got {len(lists)}."
        )
    return lists if len(lists) == num_levels else lists * num_levels


def _check_anchors(cfg: CfgNode) -> Iterator[str]:
    generator = cfg.MODEL.ANCHOR_GENERATOR
    if generator.NAME not in _GENERATORS:
        return
    per_level = {"ASPECT_RATIOS": _per_level(cfg, "ASPECT_RATIOS", "ratios")}
    if generator.NAME != "OctaveAnchorGenerator":
        per_level["SIZES"] = _per_level(cfg, "SIZES", "sizes in pixels")
        if not isinstance(generator.SIZES[0], (list, tuple)) and len(cfg.MODEL.RETINANET.IN_FEATURES) > 1:
            yield (
                f"MODEL.ANCHOR_GENERATOR.SIZES is one flat list, so every level gets all of {list(generator.SIZES)}; "
                "one list a level gives each its own."
            )
    counts = [len(ratios) for ratios in per_level["ASPECT_RATIOS"]]
    for level, sizes in enumerate(per_level.get("SIZES", [])):
        counts[level] *= len(sizes)
    if len(set(counts)) > 1:
        raise SetupError(
            f"MODEL.ANCHOR_GENERATOR must give every level the same number of anchors, because they share one head, "
            f"got sizes x ratios = {counts}."
        )
    for name, lists in per_level.items():
        repeated = next((items for items in lists if len(set(items)) < len(items)), None)
        if repeated:
            yield f"MODEL.ANCHOR_GENERATOR.{name} has a value twice in {repeated}: the same anchors stand there twice."


def _check_other_heads(cfg: CfgNode) -> Iterator[str]:
    """Keys of the two-stage detectors that look like RetinaNet's and do nothing here."""
    default = get_cfg()
    for name in ("NUM_CLASSES", "SCORE_THRESH_TEST", "NMS_THRESH_TEST"):
        value = cfg.MODEL.ROI_HEADS[name]
        if value != default.MODEL.ROI_HEADS[name]:
            yield (
                f"MODEL.ROI_HEADS.{name} {value} has no effect on RetinaNet: set MODEL.RETINANET.{name} "
                f"(now {cfg.MODEL.RETINANET[name]})."
            )


_COMMON_CHECKS = (
    _check_names,
    _check_pixels,
    _check_schedule,
    _check_batch,
    _check_sampler,
    _check_output_dir,
    check_training,
)
_RETINANET_CHECKS = (_check_precision, _check_matcher, _check_resnet, _check_levels, _check_anchors, _check_other_heads)
