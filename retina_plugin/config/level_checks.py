"""Pyramid levels and anchors of a config: levels that exist, in order, and the same number of anchors on each."""

import re
from collections.abc import Iterator

from detectron2.config import CfgNode

from ..errors import SetupError
from ..findings import Finding, finding
from .rules import get_value

__all__ = ["EXTRA_LEVELS", "check_anchors", "check_levels"]

# Levels that a backbone adds above its last input: P6 by max pooling, or P6 and P7 by convolution.
EXTRA_LEVELS = {
    "build_resnet_fpn_backbone": 1,
    "build_retinanet_resnet_fpn_backbone": 2,
    "build_retinanet_p5_resnet_fpn_backbone": 2,
}
_GENERATORS = ("DefaultAnchorGenerator", "OctaveAnchorGenerator", "TorchvisionAnchorGenerator")


def _backbone_levels(cfg: CfgNode) -> list[str] | None:
    """The feature maps of Detectron2's own ResNet backbones; None for another backbone."""
    name = cfg.MODEL.BACKBONE.NAME
    if name == "build_resnet_backbone":
        return list(cfg.MODEL.RESNETS.OUT_FEATURES)
    if name not in EXTRA_LEVELS:
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
    return [f"p{stage}" for stage in [*stages, *(stages[-1] + 1 + i for i in range(EXTRA_LEVELS[name]))]]


def check_levels(cfg: CfgNode) -> Iterator[Finding]:
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
    fpn = cfg.MODEL.BACKBONE.NAME in EXTRA_LEVELS
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


def check_anchors(cfg: CfgNode) -> Iterator[Finding]:
    generator = cfg.MODEL.ANCHOR_GENERATOR
    if generator.NAME not in _GENERATORS:
        return
    per_level = {"ASPECT_RATIOS": _per_level(cfg, "ASPECT_RATIOS", "ratios")}
    if generator.NAME != "OctaveAnchorGenerator":
        per_level["SIZES"] = _per_level(cfg, "SIZES", "sizes in pixels")
        if not isinstance(generator.SIZES[0], (list, tuple)) and len(cfg.MODEL.RETINANET.IN_FEATURES) > 1:
            yield finding(
                "anchor-sizes-flat",
                "MODEL.ANCHOR_GENERATOR.SIZES",
                f"MODEL.ANCHOR_GENERATOR.SIZES is one flat list, so every level gets all of {list(generator.SIZES)}",
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
            yield finding(
                "anchor-twice",
                f"MODEL.ANCHOR_GENERATOR.{name}",
                f"MODEL.ANCHOR_GENERATOR.{name} has a value twice in {repeated}: the same anchors stand there twice",
            )
