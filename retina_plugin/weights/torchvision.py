"""Convert torchvision's ``retinanet_resnet50_fpn`` (v1) to the keys of Detectron2's RetinaNet, with equal outputs.

The result fits configs/retina_R50_FPN_torchvision.yaml. An ImageNet ResNet of torchvision becomes the backbone alone.
"""

import logging
import re
from types import SimpleNamespace
from typing import Any

import torch
from detectron2.data import MetadataCatalog
from torch import Tensor
from torchvision.models._meta import _COCO_CATEGORIES

from ..errors import SetupError
from ..modeling import TorchvisionAnchorGenerator
from .manifest import anchors_of

__all__ = ["convert_torchvision", "is_torchvision"]

logger = logging.getLogger(__name__)

# Patterns of torchvision's keys and their replacements in Detectron2's, applied in this order. Before version 2 of
# torchvision's module the convolutions were named conv.0, conv.2, ...; since then conv.0.0, conv.1.0, ...
_NAMES = (
    (r"^backbone\.body\.conv1\.", "backbone.bottom_up.stem.conv1."),
    (r"^backbone\.body\.bn1\.", "backbone.bottom_up.stem.conv1.norm."),
    (r"^backbone\.body\.layer(\d)\.", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?", lambda m: f"backbone.fpn_lateral{int(m[1]) + 3}."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?", lambda m: f"backbone.fpn_output{int(m[1]) + 3}."),
    (r"^backbone\.fpn\.extra_blocks\.", "backbone.top_block."),
    (r"^head\.classification_head\.conv\.(\d)\.0\.", lambda m: f"head.cls_subnet.{2 * int(m[1])}."),
    (r"^head\.regression_head\.conv\.(\d)\.0\.", lambda m: f"head.bbox_subnet.{2 * int(m[1])}."),
    (r"^head\.classification_head\.conv\.(\d)\.", r"head.cls_subnet.\1."),
    (r"^head\.regression_head\.conv\.(\d)\.", r"head.bbox_subnet.\1."),
    (r"^head\.classification_head\.cls_logits\.", "head.cls_score."),
    (r"^head\.regression_head\.bbox_reg\.", "head.bbox_pred."),
)
_RESNET_KEYS = ("conv1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight", "fc.weight")
_RETINANET_KEYS = ("backbone.body.conv1.weight", "head.classification_head.cls_logits.weight")
# torchvision's default anchor generator: 3 sizes x 3 ratios.
_SIZES = [[x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))] for x in (32, 64, 128, 256, 512)]
_RATIOS = [0.5, 1.0, 2.0]
_NUM_SIZES, _NUM_RATIOS = len(_SIZES[0]), len(_RATIOS)
# Detectron2's FrozenBatchNorm2d adds this to the variance; torchvision adds 0 for its COCO weights (overwrite_eps).
_FROZEN_EPS = 1e-5
# Config values that the weights need: torchvision takes RGB in [0, 1] with ImageNet's mean and standard deviation.
TORCHVISION_KEYS = {
    "MODEL.BACKBONE.NAME": "build_retinanet_p5_resnet_fpn_backbone",
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [round(255 * x, 3) for x in (0.485, 0.456, 0.406)],
    "MODEL.PIXEL_STD": [round(255 * x, 3) for x in (0.229, 0.224, 0.225)],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
}


def is_torchvision(state: dict[str, Tensor]) -> bool:
    """Return True for the keys of torchvision's RetinaNet or of one of its ResNets."""
    return any(all(key in state for key in keys) for keys in (_RETINANET_KEYS, _RESNET_KEYS))


def convert_torchvision(state: dict[str, Tensor], num_classes: int | None = None) -> tuple[dict, dict[str, Any]]:
    """Return a state dict for Detectron2's RetinaNet, or its backbone from a ResNet, and a manifest.

    Args:
        state: state dict of torchvision's ``retinanet_resnet50_fpn``, or of a ResNet; not changed. Of 91 classes, which
            are COCO's with its unused ids, the 80 that exist are kept.
        num_classes: K of the config. If the checkpoint has K + 1, class 0 is the background row of torchvision's
            recipes and is left out. None keeps all.

    Raises:
        SetupError: the weights are of version 2, or of a head with other anchors.
    """
    if _RESNET_KEYS[0] in state:
        body = {f"backbone.body.{key}": value for key, value in state.items() if not key.startswith("fc.")}
        kept = ("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.RESNETS.STRIDE_IN_1X1")
        remedy = "Set these keys as configs/retina_R50_FPN_torchvision.yaml does"
        return _rename_all(body), {"config": {key: TORCHVISION_KEYS[key] for key in kept}, "remedy": remedy}
    if any(key.startswith("head.classification_head.conv.0.1.") for key in state):
        raise SetupError(
            "These are weights of torchvision's retinanet_resnet50_fpn_v2, whose head has group norms. Only "
            "retinanet_resnet50_fpn can be converted."
        )
    converted = _rename_all(state)
    if not any(key.endswith("num_batches_tracked") for key in state):  # norms are frozen, with epsilon 0
        for key in [key for key in converted if key.endswith("running_var")]:
            converted[key] = converted[key] - _FROZEN_EPS
    num_anchors = converted["head.bbox_pred.bias"].numel() // 4
    if num_anchors != _NUM_SIZES * _NUM_RATIOS:
        raise SetupError(
            f"This RetinaNet of torchvision has {num_anchors} anchors per location; only the default of "
            f"{_NUM_SIZES * _NUM_RATIOS} can be converted."
        )
    rows, names = _classes(converted["head.cls_score.bias"].numel() // num_anchors, num_classes)
    for part in ("weight", "bias"):
        converted[f"head.cls_score.{part}"] = _reordered(converted[f"head.cls_score.{part}"])[:, rows].flatten(0, 1)
        converted[f"head.bbox_pred.{part}"] = _reordered(converted[f"head.bbox_pred.{part}"]).flatten(0, 1)
    generator = TorchvisionAnchorGenerator(
        sizes=_SIZES, aspect_ratios=[_RATIOS], strides=[8, 16, 32, 64, 128], offset=0.0
    )
    manifest = {
        "classes": names,
        "anchors": anchors_of(SimpleNamespace(anchor_generator=generator)),
        "config": dict(TORCHVISION_KEYS),
        "versions": {},
        "remedy": "Build on configs/retina_R50_FPN_torchvision.yaml",
    }
    return converted, manifest


def _rename_all(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):  # no output depends on it
            for pattern, replacement in _NAMES:
                key = re.sub(pattern, replacement, key)
            renamed[key] = torch.as_tensor(value)
    return renamed


def _reordered(value: Tensor) -> Tensor:
    """Reorder (A * X, ...) with the ratios outermost (torchvision) to (A, X, ...) with the sizes outermost."""
    by_anchor = value.unflatten(0, (_NUM_RATIOS, _NUM_SIZES, -1))
    return by_anchor.transpose(0, 1).flatten(0, 1)


def _classes(num_found: int, num_wanted: int | None) -> tuple[list[int], list[str] | None]:
    """Choose the rows of the class layer to keep; also return the names of their classes, None if unknown."""
    if num_found == len(_COCO_CATEGORIES) and num_found != num_wanted:
        names = list(MetadataCatalog.get("coco_2017_val").thing_classes)
        return [_COCO_CATEGORIES.index(name) for name in names], names
    if num_wanted is not None and num_found == num_wanted + 1:
        logger.warning("class 0 of %d is left out: it is the background in torchvision's recipes", num_found)
        return list(range(1, num_found)), None
    return list(range(num_found)), None
