"""The detectors that are timed: the plugin's and Detectron2's RetinaNet with the same weights, and random inputs."""

import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from retina_plugin.config.keys import get_retina_cfg

__all__ = [
    "DELTA_DEVIATION",
    "LOGIT_DEVIATION",
    "LOGIT_MEAN",
    "build_pair",
    "random_boxes",
    "random_image",
    "retinanet_config",
]

# Pixels of the input to the statistics of the batch norms.
CALIBRATION_SIZE = 256
# Logits of mean -7 and deviation 1.2 have 0.036 % above the threshold 0.05: 3,500 of the 9.8 million (anchor, class)
# pairs of an 800 x 1088 image. A deviation of 0.2 moves a box by 0.2 of its side.
LOGIT_MEAN, LOGIT_DEVIATION, DELTA_DEVIATION = -7.0, 1.2, 0.2


def retinanet_config(depth: int, device: str) -> CfgNode:
    """Detectron2's Base-RetinaNet.yaml with a ResNet of ``depth``: 80 classes, 9 anchors a location."""
    cfg = get_retina_cfg()
    cfg.MODEL.DEVICE = device
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.NORM = "BN"
    if depth < 50:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64  # Detectron2 asks for it with ResNet-18 and 34
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [
        [size, size * 2 ** (1 / 3), size * 2 ** (2 / 3)] for size in (32, 64, 128, 256, 512)
    ]
    return cfg


def build_pair(depth: int, device: str) -> tuple[nn.Module, nn.Module]:
    """The plugin's detector and Detectron2's, with the same random weights and frozen batch norms.

    Statistics of the norms, logits and deltas are set from a random image: without that random activations grow from
    block to block, and scores are all 0 or 1.
    """
    torch.manual_seed(0)
    cfg = retinanet_config(depth, device)
    theirs = build_model(cfg)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    _calibrate(theirs, theirs.preprocess_image([random_image(CALIBRATION_SIZE, CALIBRATION_SIZE)]).tensor)
    cfg.MODEL.META_ARCHITECTURE = "FocalRetinaNet"
    ours = build_model(cfg)
    ours.load_state_dict(theirs.state_dict())
    return FrozenBatchNorm2d.convert_frozen_batchnorm(ours), FrozenBatchNorm2d.convert_frozen_batchnorm(theirs)


@torch.no_grad()
def _calibrate(model: nn.Module, images: Tensor) -> None:
    features = list(model.train().backbone(images).values())
    logits, deltas = (torch.cat([level.flatten() for level in levels]) for levels in model.head(features))
    model.head.cls_score.weight *= LOGIT_DEVIATION / logits.std()
    model.head.cls_score.bias.fill_(LOGIT_MEAN)
    model.head.bbox_pred.weight *= DELTA_DEVIATION / deltas.std()


def random_image(height: int, width: int, num_boxes: int = 0) -> dict:
    """An image of noise in Detectron2's input format; with ``num_boxes`` > 0, of random boxes and 80 classes."""
    generator = torch.Generator().manual_seed(height * width + num_boxes)
    image = {"image": torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)}
    if num_boxes:
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(random_boxes(num_boxes, height, width, generator))
        instances.gt_classes = torch.randint(80, (num_boxes,), generator=generator)
        image["instances"] = instances
    return image


def random_boxes(num_boxes: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """(M, 4) XYXY inside an image, sides from a sixteenth to a half of its own."""
    size = torch.tensor([width, height])
    sides = size * (torch.rand(num_boxes, 2, generator=generator) * 7 + 1) / 16
    corners = torch.rand(num_boxes, 2, generator=generator) * (size - sides)
    return torch.cat([corners, corners + sides], dim=1)
