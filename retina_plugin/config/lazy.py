"""Read the LazyConfig that Detectron2 leaves beside weights, as values of config keys; nothing in it is called.

``LazyConfig.save`` writes calls by name (``_target_``) and Python objects (``!!python``). Here they are data: the calls
of a RetinaNet with a ResNet and a pyramid are known, and a config with another call or argument is refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SetupError
from ..reading import read_text
from .safe_yaml import MAX_CHARACTERS, parse_yaml

__all__ = ["read_lazy_config"]

# Call -> names it may have; the last part of ``_target_``.
_CALLS = {
    "model": ("FocalRetinaNet", "RetinaNet"),
    "model.backbone": ("FPN",),
    "model.backbone.bottom_up": ("ResNet",),
    "model.backbone.bottom_up.stem": ("BasicStem",),
    "model.backbone.bottom_up.stages": ("make_default_stages",),
    "model.backbone.top_block": ("LastLevelP6P7",),
    "model.head": ("RetinaNetHead",),
    "model.anchor_generator": ("OctaveAnchorGenerator", "DefaultAnchorGenerator"),
    "model.box2box_transform": ("Box2BoxTransform",),
}
# Argument -> config key that has the same value.
_KEYS = {
    "model.input_format": "INPUT.FORMAT",
    "model.pixel_mean": "MODEL.PIXEL_MEAN",
    "model.pixel_std": "MODEL.PIXEL_STD",
    "model.num_classes": "MODEL.RETINANET.NUM_CLASSES",
    "model.head_in_features": "MODEL.RETINANET.IN_FEATURES",
    "model.test_score_thresh": "MODEL.RETINANET.SCORE_THRESH_TEST",
    "model.test_nms_thresh": "MODEL.RETINANET.NMS_THRESH_TEST",
    "model.test_topk_candidates": "MODEL.RETINANET.TOPK_CANDIDATES_TEST",
    "model.max_detections_per_image": "TEST.DETECTIONS_PER_IMAGE",
    "model.backbone.in_features": "MODEL.FPN.IN_FEATURES",
    "model.backbone.out_channels": "MODEL.FPN.OUT_CHANNELS",
    "model.backbone.norm": "MODEL.FPN.NORM",
    "model.backbone.fuse_type": "MODEL.FPN.FUSE_TYPE",
    "model.backbone.bottom_up.out_features": "MODEL.RESNETS.OUT_FEATURES",
    "model.backbone.bottom_up.freeze_at": "MODEL.BACKBONE.FREEZE_AT",
    "model.backbone.bottom_up.stem.out_channels": "MODEL.RESNETS.STEM_OUT_CHANNELS",
    "model.backbone.bottom_up.stages.depth": "MODEL.RESNETS.DEPTH",
    "model.backbone.bottom_up.stages.norm": "MODEL.RESNETS.NORM",
    "model.backbone.bottom_up.stages.stride_in_1x1": "MODEL.RESNETS.STRIDE_IN_1X1",
    "model.head.norm": "MODEL.RETINANET.NORM",
    "model.head.prior_prob": "MODEL.RETINANET.PRIOR_PROB",
    "model.anchor_generator.base_size": "MODEL.ANCHOR_GENERATOR.BASE_SIZE",
    "model.anchor_generator.scales_per_octave": "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE",
    "model.anchor_generator.offset": "MODEL.ANCHOR_GENERATOR.OFFSET",
    "model.box2box_transform.weights": "MODEL.RETINANET.BBOX_REG_WEIGHTS",
}
# Read below, or by a training alone, or made from the other values.
_OTHER = (
    "model.anchor_matcher", "model.cls_loss", "model.loss_normalizer", "model.box_reg_loss_type",
    "model.smooth_l1_beta", "model.focal_loss_alpha", "model.focal_loss_gamma", "model.vis_period",
    "model.head.conv_dims", "model.head.input_shape", "model.head.num_anchors", "model.head.num_classes",
    "model.anchor_generator.aspect_ratios", "model.anchor_generator.sizes", "model.anchor_generator.strides",
    "model.backbone.bottom_up.stem.in_channels", "model.backbone.bottom_up.stem.norm",
    "model.backbone.top_block.in_channels", "model.backbone.top_block.out_channels",
)  # fmt: skip


def read_lazy_config(path: Path) -> dict[str, Any] | None:
    """Return the config keys that describe the model and its input: dotted key -> value; None for another config.

    Raises:
        SetupError: the file cannot be read, or its model is not the one that config keys describe.
    """
    text = read_text(path, MAX_CHARACTERS)
    if "_target_" not in text:
        return None
    _, tree = parse_yaml(text, str(path), plain=True)
    model = tree.get("model") if isinstance(tree, dict) else None
    if not isinstance(model, dict) or "_target_" not in model:
        return None
    try:
        return _describe(tree, model)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SetupError(
            f"{path} is a LazyConfig that config keys cannot describe ({error}): give the config with --config-file, "
            "such as configs/retina_R50_FPN.yaml with KEY VALUE pairs."
        ) from error


def _describe(tree: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Translate a config; an argument that has no config key, or a value of another type, is an error of Python's."""
    given = dict(_arguments(model, "model"))
    for place, value in given.items():
        call = place.removesuffix("._target_")
        is_known = value.rpartition(".")[2] in _CALLS[call] if call != place else place in _KEYS or place in _OTHER
        if not is_known or (place in _KEYS and "${" in str(value)):
            raise ValueError(f"{place} is {str(value)[:80]}")
    values = {key: given[place] for place, key in _KEYS.items() if place in given}
    dims, norm = given.get("model.head.conv_dims", [256] * 4), given.get("model.backbone.bottom_up.stages.norm")
    width = given.get("model.backbone.out_channels")
    if set(dims) != {width} or given.get("model.backbone.bottom_up.stem.norm", norm) != norm:
        raise ValueError(f"the head has {dims} channels for {width}, or the stem another norm than {norm}")
    values["MODEL.RETINANET.NUM_CONVS"] = len(dims)
    values["MODEL.META_ARCHITECTURE"] = model["_target_"].rpartition(".")[2]
    values["MODEL.BACKBONE.NAME"] = "build_retinanet_resnet_fpn_backbone"
    anchors = "model.anchor_generator"
    values["MODEL.ANCHOR_GENERATOR.NAME"] = given[f"{anchors}._target_"].rpartition(".")[2]
    for name in ("aspect_ratios", "sizes"):
        if f"{anchors}.{name}" in given:
            listed = given[f"{anchors}.{name}"]
            values[f"MODEL.ANCHOR_GENERATOR.{name.upper()}"] = listed if isinstance(listed[0], list) else [listed]
    (resize,) = tree["dataloader"]["test"]["mapper"]["augmentations"]
    sides = resize["short_edge_length"], resize["max_size"]
    if not resize["_target_"].endswith(".ResizeShortestEdge") or any(type(side) is not int for side in sides):
        raise ValueError("its test images are not resized by one ResizeShortestEdge")
    values["INPUT.MIN_SIZE_TEST"], values["INPUT.MAX_SIZE_TEST"] = sides
    return values


def _arguments(call: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted place, value) for the arguments of a call and of the known calls within it."""
    for name, value in call.items():
        inner = f"{place}.{name}"
        if inner in _CALLS and isinstance(value, dict):
            yield from _arguments(value, inner)
        else:
            yield inner, value
