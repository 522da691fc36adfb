"""The manifest of a checkpoint: its classes, its anchors, and the config keys that describe the model.

With it the weights are a detector by themselves: no config file, data set or loss class is needed to use them. It is
compared with the config on loading: nine anchors of 32 px and nine of 24 px give layers of the same shape, and so do
BGR and RGB. Detectron2 loads one in place of the other without a warning, and the detections are wrong.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..config.load import config_values
from ..run_record import versions

__all__ = ["anchors_of", "build_manifest", "describes_model", "disagreements", "manifest_fault"]

# Weights that were trained with other values of these keys do not fit.
PART_OF_THE_WEIGHTS = (
    "MODEL.BACKBONE.NAME", "INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.RETINANET.BBOX_REG_WEIGHTS",
)  # fmt: skip
# The keys that a file of somebody else may set: they describe the model, its input and the choice of its detections.
# Permissions (MODEL.LOAD, DATASETS.ALLOW_OUTSIDE_PATHS) and places to read from or write to are not among them
# (docs/security.md).
DESCRIBES_MODEL = (
    "MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.", "MODEL.RESNETS.", "MODEL.FPN.", "MODEL.ANCHOR_GENERATOR.",
    "MODEL.RETINANET.", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.MASK_ON", "MODEL.KEYPOINT_ON",
    "MODEL.LOAD_PROPOSALS", "MODEL.PROPOSAL_GENERATOR.", "MODEL.RPN.", "MODEL.ROI_", "MODEL.SEM_SEG_HEAD.",
    "MODEL.PANOPTIC_FPN.", "MODEL.PRECISION",
    "INPUT.FORMAT", "INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST",
    "INPUT.MASK_FORMAT", "TEST.DETECTIONS_PER_IMAGE", "TEST.AUG.",
)  # fmt: skip
PACKAGES = ("retina_plugin", "detectron2", "torch")
# Relative tolerance between two notations of a number: 50.8 differs from 32 * 2^(2/3) by 8e-5.
TOLERANCE = 1e-3
# Shallower ResNets have no 1x1 convolution with a stride.
FIRST_BOTTLENECK_DEPTH = 50


def build_manifest(cfg: CfgNode, model: nn.Module, classes: Sequence[str] | None) -> dict[str, Any]:
    """Build the manifest of a model from plain lists, numbers and strings.

    Args:
        cfg: config of the model.
        classes: class names by class id; None if unknown.

    Returns:
        ``classes``: as given. ``anchors``: see :func:`anchors_of`. ``config``: see :func:`model_values`. ``versions``:
        package -> version.
    """
    config = {key: _plain(value) for key, value in model_values(cfg).items()}
    if cfg.MODEL.RESNETS.DEPTH < FIRST_BOTTLENECK_DEPTH:
        config.pop("MODEL.RESNETS.STRIDE_IN_1X1")
    known = versions()
    return {
        "classes": classes and list(classes),
        "anchors": anchors_of(model),
        "config": config,
        "versions": {package: str(known[package]) for package in PACKAGES},
    }


def describes_model(key: str) -> bool:
    """Return True if the dotted config key describes a model, so that a checkpoint may set it."""
    return any(key == name or (name[-1] in "._" and key.startswith(name)) for name in DESCRIBES_MODEL)


def model_values(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a config that describe the model: dotted key -> value."""
    return {key: value for key, value in config_values(cfg).items() if describes_model(key)}


def anchors_of(model: nn.Module) -> dict[str, Any] | None:
    """Return the anchors of a dense detector; None for a model without an anchor generator of Detectron2's kind.

    Returns:
        ``sizes`` (square root of the area, pixels) and ``aspect_ratios`` (h / w): one list for each level, one value
        for each anchor, in the order of the head's channels. ``strides``: pixels, for each level. ``offset``: in
        strides.
    """
    generator = getattr(model, "anchor_generator", None)
    if not hasattr(generator, "cell_anchors") or not hasattr(generator, "offset"):
        return None
    sides = [(cells[:, 2:] - cells[:, :2]).tolist() for cells in generator.cell_anchors]
    return {
        "sizes": [[round(math.sqrt(w * h), 3) for w, h in level] for level in sides],
        "aspect_ratios": [[round(h / w, 4) for w, h in level] for level in sides],
        "strides": [int(stride) for stride in generator.strides],
        "offset": float(generator.offset),
    }


def manifest_fault(manifest: Any) -> str:
    """Name a part of a manifest that ``build_manifest`` never writes, as the end of a sentence; "" for none."""
    if manifest is None:
        return ""
    if not isinstance(manifest, dict):
        return f"is {type(manifest).__name__}, not a table"
    classes, config, anchors = (manifest.get(key) for key in ("classes", "config", "anchors"))
    if classes is not None and not (
        isinstance(classes, list) and all(isinstance(name, str) and name and "\n" not in name for name in classes)
    ):
        return "has classes that are not a list of names"
    if config is not None and not (
        isinstance(config, dict) and all(isinstance(key, str) and _is_plain(value) for key, value in config.items())
    ):
        return "has a config that is not KEY: VALUE pairs of numbers, text and lists"
    if anchors is None:
        return ""
    parts = [anchors.get(part) for part in ("sizes", "aspect_ratios")] if isinstance(anchors, dict) else []
    levels = [len(part) for part in parts if isinstance(part, list) and all(map(_are_numbers, part))]
    if len(levels) != 2 or levels[0] != levels[1] or not _are_numbers([anchors.get("offset")]):
        return "has anchors without sizes and aspect ratios of each level"
    return "" if _are_numbers(anchors.get("strides")) else "has anchors without strides"


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 10 and all(_is_plain(item, depth + 1) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) in (int, float) and abs(value) < 2**53 for value in values)


def disagreements(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """List the contradictions between a checkpoint and the config, other than shapes and classes.

    Args:
        found: manifest of the checkpoint; keys that it lacks are not compared.
        expected: manifest of the config.

    Returns:
        one clause for each contradiction, with both values.
    """
    clauses = []
    theirs, ours = found.get("config") or {}, expected["config"]
    for key in PART_OF_THE_WEIGHTS:
        if key in theirs and key in ours and not _same(theirs[key], ours[key]):
            clauses.append(f"{key} is {theirs[key]} in the checkpoint and {ours[key]} in the config")
    theirs, ours, key = found.get("anchors"), expected["anchors"], "MODEL.ANCHOR_GENERATOR"
    if not theirs or not ours:
        return clauses
    if len(theirs["sizes"]) != len(ours["sizes"]):
        levels = f"{len(theirs['sizes'])} levels in the checkpoint and {len(ours['sizes'])} in the config"
        return [*clauses, f"{key} has {levels}"]
    if list(map(len, theirs["sizes"])) != list(map(len, ours["sizes"])):
        return clauses  # a different number of anchors already fails by its shape
    for part, words in (("sizes", "anchor sizes"), ("aspect_ratios", "aspect ratios")):
        for level, (a, b) in enumerate(zip(theirs[part], ours[part], strict=True)):
            if not _same(a, b):
                where = f"{key}: {words} of level {level + 1}"
                clauses.append(f"{where} are {_distinct(a)} in the checkpoint and {_distinct(b)} in the config")
                break
    for part in ("strides", "offset"):
        if not _same(theirs[part], ours[part]):
            clauses.append(f"{key}: {part} {theirs[part]} in the checkpoint and {ours[part]} in the config")
    return clauses


def _distinct(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in dict.fromkeys(values))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return a == b


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
