"""The checks of a config, made before anything is built: ranges, lengths, names, and keys that must fit together.

Every check is a generator of findings (``findings.py``): a training stops at the first error, ``retina doctor`` prints
all of them.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import ANCHOR_GENERATOR_REGISTRY, BACKBONE_REGISTRY, META_ARCH_REGISTRY

from ..errors import SetupError
from ..findings import Finding, finding, raise_first_error
from ..modeling import FocalLoss, FocalLossStar, LossNormalizer, OctaveAnchorGenerator, SafeMatcher
from ..modeling.execution import bfloat16_is_fast
from ..modeling.mining import HardExampleMiner
from .rules import COMMON_RULES, RETINANET_RULES, get_value, image_channels, one_of, value_error
from .training_checks import TRAINING_CHECKS

__all__ = ["check_config", "find_config_faults"]

_RETINANETS = ("RetinaNet", "FocalRetinaNet")
# Levels that a backbone adds above its last input: P6 by max pooling, or P6 and P7 by convolution.
_EXTRA_LEVELS = {
    "build_resnet_fpn_backbone": 1,
    "build_retinanet_resnet_fpn_backbone": 2,
    "build_retinanet_p5_resnet_fpn_backbone": 2,
}
_RESNETS = ("build_resnet_backbone", *_EXTRA_LEVELS)
_GENERATORS = ("DefaultAnchorGenerator", "OctaveAnchorGenerator", "TorchvisionAnchorGenerator")


def check_config(cfg: CfgNode, known_losses: Sequence[str] | None = None) -> list[str]:
    """Refuse values that cannot work; nothing is built or written.

    Args:
        cfg: a config with the plugin's keys. Keys of RetinaNet are checked if META_ARCHITECTURE is one.
        known_losses: the allowed values of CLS_LOSS_NAME; None allows any.

    Returns:
        sentences about values that work and are probably not meant.

    Raises:
        SetupError: with key, rule, value and remedy, for the first value that cannot work.
    """
    return [str(found) for found in raise_first_error(find_config_faults(cfg, known_losses))]


def find_config_faults(cfg: CfgNode, known_losses: Sequence[str] | None = None) -> Iterator[Finding]:
    """Yield every fault of a config. Keys are compared with each other once each is in its own range.

    Args:
        cfg, known_losses: see :func:`check_config`.
    """
    is_retinanet = cfg.MODEL.META_ARCHITECTURE in _RETINANETS
    rules = COMMON_RULES + (RETINANET_RULES if is_retinanet else ())
    if is_retinanet and known_losses is not None:
        rules += (one_of("MODEL.RETINANET.CLS_LOSS_NAME", *sorted(known_losses)),)
    faults = [value_error(text) for text in (rule.fault(cfg) for rule in rules) if text]
    if is_retinanet:
        faults += _check_parts(cfg)
    yield from faults
    if faults:
        return
    for check in _COMMON_CHECKS + (_RETINANET_CHECKS if is_retinanet else ()):
        yield from check(cfg)


def _check_parts(cfg: CfgNode) -> list[Finding]:
    """Build the parts that check their own keys, and collect the first fault of each."""
    retinanet, generator = cfg.MODEL.RETINANET, cfg.MODEL.ANCHOR_GENERATOR
    octaves = {"base_size": generator.BASE_SIZE, "scales_per_octave": generator.SCALES_PER_OCTAVE}
    faults = []
    for build in (
        lambda: FocalLoss(cfg),
        lambda: FocalLossStar(cfg),
        lambda: HardExampleMiner(cfg),
        lambda: LossNormalizer(cfg),
        lambda: SafeMatcher(
            [0.5], [0, 1], allow_low_quality_matches=True, low_quality_min_iou=retinanet.LOW_QUALITY_MIN_IOU
        ),
        lambda: OctaveAnchorGenerator(**octaves, aspect_ratios=[[1.0]], strides=[8], offset=0.5),
    ):
        try:
            build()
        except SetupError as error:
            faults.append(value_error(str(error)))
        except TypeError:  # a word in place of a number, in a config that was filled by Python
            words = [f"{key}: {value!r}" for key, value in retinanet.items() if isinstance(value, str)]
            faults.append(value_error(f"MODEL.RETINANET must have numbers where its defaults are numbers, got {words}"))
    return list({str(fault): fault for fault in faults}.values())


def check_names(cfg: CfgNode) -> Iterator[Finding]:
    for key, registry in (
        ("MODEL.META_ARCHITECTURE", META_ARCH_REGISTRY),
        ("MODEL.BACKBONE.NAME", BACKBONE_REGISTRY),
        ("MODEL.ANCHOR_GENERATOR.NAME", ANCHOR_GENERATOR_REGISTRY),
    ):
        name = get_value(cfg, key)
        if name not in registry:
            known = ", ".join(sorted(known for known, _ in registry))
            yield value_error(f"{key} {name!r} is not registered: import its module, or take one of {known}.")


def check_pixels(cfg: CfgNode) -> Iterator[Finding]:
    channels = image_channels(cfg.INPUT.FORMAT)
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            yield value_error(
                f"MODEL.{key} must have {channels} numbers, one a channel of INPUT.FORMAT {cfg.INPUT.FORMAT}, "
                f"got {len(cfg.MODEL[key])}: {list(cfg.MODEL[key])}."
            )
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(cfg.INPUT.MIN_SIZE_TRAIN) != 2:
        yield value_error(
            "INPUT.MIN_SIZE_TRAIN must be 2 numbers, the ends of the range, with MIN_SIZE_TRAIN_SAMPLING 'range', "
            f"got {tuple(cfg.INPUT.MIN_SIZE_TRAIN)}."
        )


def check_output_dir(cfg: CfgNode) -> Iterator[Finding]:
    if not cfg.OUTPUT_DIR:
        yield value_error("OUTPUT_DIR must be a folder, got '': name one, such as ./output.")
        return
    path = Path(cfg.OUTPUT_DIR)
    existing = next(p for p in (path, *path.absolute().parents) if p.exists() or p.is_symlink())
    if not existing.is_dir():
        yield value_error(f"OUTPUT_DIR {cfg.OUTPUT_DIR} must be a folder, but {existing} is a file: name another.")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield value_error(f"OUTPUT_DIR {cfg.OUTPUT_DIR} must be writable, but {existing} is not: name another.")


def check_precision(cfg: CfgNode) -> Iterator[Finding]:
    precision, device = cfg.MODEL.PRECISION, cfg.MODEL.DEVICE
    if precision == "bf16" and not bfloat16_is_fast(device):
        text = (
            f"MODEL.PRECISION bf16: {device} has no instructions for it, so it will be several times slower than fp32"
        )
        yield finding("precision-slow", "MODEL.PRECISION", text)
    if precision == "winograd" and device != "cpu":
        yield finding(
            "precision-unused", "MODEL.PRECISION", f"MODEL.PRECISION winograd does nothing on {device}: it is for a CPU"
        )


def check_matcher(cfg: CfgNode) -> Iterator[Finding]:
    thresholds, labels = list(cfg.MODEL.RETINANET.IOU_THRESHOLDS), list(cfg.MODEL.RETINANET.IOU_LABELS)
    if thresholds != sorted(thresholds):
        yield value_error(
            f"MODEL.RETINANET.IOU_THRESHOLDS must increase, got {thresholds}: write {sorted(thresholds)}."
        )
        return
    if len(labels) != len(thresholds) + 1:
        yield value_error(
            f"MODEL.RETINANET.IOU_LABELS must have {len(thresholds) + 1} labels, one more than IOU_THRESHOLDS "
            f"{thresholds}, got {labels}."
        )
        return
    if 1 not in labels:
        text = f"MODEL.RETINANET.IOU_LABELS {labels} has no 1: hardly any anchor will be positive"
        yield finding("no-positive-label", "MODEL.RETINANET.IOU_LABELS", text)


def check_resnet(cfg: CfgNode) -> Iterator[Finding]:
    resnets = cfg.MODEL.RESNETS
    if cfg.MODEL.BACKBONE.NAME not in _RESNETS:
        return
    if fault := one_of("MODEL.RESNETS.DEPTH", 18, 34, 50, 101, 152).fault(cfg):
        yield value_error(fault)
        return
    if resnets.DEPTH in (18, 34) and resnets.RES2_OUT_CHANNELS != 64:
        yield value_error(
            f"MODEL.RESNETS.RES2_OUT_CHANNELS must be 64 with MODEL.RESNETS.DEPTH {resnets.DEPTH}, "
            f"got {resnets.RES2_OUT_CHANNELS}."
        )
        return
    if not cfg.MODEL.WEIGHTS and resnets.NORM == "FrozenBN":
        text = "MODEL.WEIGHTS is empty and MODEL.RESNETS.NORM is FrozenBN: training from scratch with FrozenBN diverges"
        yield finding("frozen-bn-from-scratch", "MODEL.RESNETS.NORM", text)


def check_other_heads(cfg: CfgNode) -> Iterator[Finding]:
    """Warn of keys of the two-stage detectors that look like RetinaNet's but have no effect."""
    default = get_cfg()
    for name in ("NUM_CLASSES", "SCORE_THRESH_TEST", "NMS_THRESH_TEST"):
        value = cfg.MODEL.ROI_HEADS[name]
        if value != default.MODEL.ROI_HEADS[name]:
            text = (
                f"MODEL.ROI_HEADS.{name} {value} has no effect on RetinaNet: set MODEL.RETINANET.{name} "
                f"(now {cfg.MODEL.RETINANET[name]})"
            )
            yield finding("other-head-key", f"MODEL.ROI_HEADS.{name}", text, "")


def _backbone_levels(cfg: CfgNode) -> list[str] | None:
    """Return the feature maps of Detectron2's ResNet backbones; None for another backbone."""
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


def check_levels(cfg: CfgNode) -> Iterator[Finding]:
    key, features = "MODEL.RETINANET.IN_FEATURES", list(cfg.MODEL.RETINANET.IN_FEATURES)
    try:
        available = _backbone_levels(cfg)
    except SetupError as error:
        yield value_error(str(error))
        return
    if not features:
        yield value_error(f"{key} must name at least one level" + (f" of {available}." if available else "."))
        return
    unknown = [feature for feature in features if available is not None and feature not in available]
    if unknown:
        yield value_error(f"{key} must be among {available}, the levels of {cfg.MODEL.BACKBONE.NAME}, got {unknown}.")
        return
    if available is not None:
        order = [feature for feature in available if feature in features]
        if features != order:
            yield value_error(f"{key} must have strides that grow, each level once, got {features}: write {order}.")
            return
    fpn = cfg.MODEL.BACKBONE.NAME in _EXTRA_LEVELS
    for norm_key in ("MODEL.RETINANET.NORM", "MODEL.FPN.NORM"):
        if fpn and get_value(cfg, norm_key) == "GN" and cfg.MODEL.FPN.OUT_CHANNELS % 32:
            yield value_error(
                f"{norm_key} 'GN' has 32 groups, so MODEL.FPN.OUT_CHANNELS must be a multiple of 32, "
                f"got {cfg.MODEL.FPN.OUT_CHANNELS}."
            )


def _per_level(cfg: CfgNode, name: str, unit: str) -> list[list[float]]:
    """Return a list of anchor sizes or ratios for each level; one list, nested or flat, applies to all levels."""
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


def check_anchors(cfg: CfgNode) -> Iterator[Finding]:
    generator = cfg.MODEL.ANCHOR_GENERATOR
    if generator.NAME not in _GENERATORS:
        return
    try:
        per_level = {"ASPECT_RATIOS": _per_level(cfg, "ASPECT_RATIOS", "ratios")}
        if generator.NAME != "OctaveAnchorGenerator":
            per_level["SIZES"] = _per_level(cfg, "SIZES", "sizes in pixels")
    except SetupError as error:
        yield value_error(str(error))
        return
    if "SIZES" in per_level:
        if not isinstance(generator.SIZES[0], (list, tuple)) and len(cfg.MODEL.RETINANET.IN_FEATURES) > 1:
            text = f"MODEL.ANCHOR_GENERATOR.SIZES is one flat list, so every level gets all of {list(generator.SIZES)}"
            yield finding("anchor-sizes-flat", "MODEL.ANCHOR_GENERATOR.SIZES", text)
    counts = [len(ratios) for ratios in per_level["ASPECT_RATIOS"]]
    for level, sizes in enumerate(per_level.get("SIZES", [])):
        counts[level] *= len(sizes)
    if len(set(counts)) > 1:
        yield value_error(
            f"MODEL.ANCHOR_GENERATOR must give every level the same number of anchors, because they share one head, "
            f"got sizes x ratios = {counts}."
        )
        return
    for name, lists in per_level.items():
        repeated = next((items for items in lists if len(set(items)) < len(items)), None)
        if repeated:
            text = f"MODEL.ANCHOR_GENERATOR.{name} has a value twice in {repeated}: the same anchors stand there twice"
            yield finding("anchor-twice", f"MODEL.ANCHOR_GENERATOR.{name}", text)


_COMMON_CHECKS = (check_names, check_pixels, check_output_dir, *TRAINING_CHECKS)
_RETINANET_CHECKS = (check_precision, check_matcher, check_resnet, check_levels, check_anchors, check_other_heads)
