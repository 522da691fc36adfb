"""What the tests share: fixed seeds, a detector that builds in half a second, and images to feed it."""

import logging
import random

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from retina_plugin import get_retina_cfg

NUM_CLASSES = 3


@pytest.fixture(autouse=True)
def fixed_seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def quiet_about_closed_streams(monkeypatch):
    # Detectron2's handlers stay from the first test that sets them up, with the stream that pytest closed after it;
    # logging would print that into the output of a later test.
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture
def tiny_cfg() -> CfgNode:
    return make_tiny_cfg()


def make_tiny_cfg() -> CfgNode:
    """The paper's detector on R-18 with thin layers; keys that are not named keep the plugin's defaults."""
    cfg = get_retina_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "FocalRetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)] for x in (32, 64, 128, 256, 512)]
    cfg.MODEL.RETINANET.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.RETINANET.NUM_CONVS = 2
    cfg.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA = 0.0
    return cfg


def make_image(height: int, width: int, num_boxes: int) -> dict:
    """A random image with random boxes of 12 to 60 pixels, as a data loader hands it over."""
    corners = torch.rand(num_boxes, 2) * torch.tensor([width - 30.0, height - 30.0])
    boxes = torch.cat([corners, corners + 12 + 48 * torch.rand(num_boxes, 2)], dim=1)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_boxes.clip((height, width))
    instances.gt_classes = torch.randint(NUM_CLASSES, (num_boxes,))
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": height, "width": width, "file_name": f"{width}.jpg"}


@pytest.fixture
def make_batch():
    """Function from (height, width, number of boxes) of each image to a batch."""
    return lambda *images: [make_image(*image) for image in images]


@pytest.fixture
def batch(make_batch) -> list[dict]:
    """Three images of different sizes, one without objects."""
    return make_batch((96, 128, 3), (80, 90, 0), (128, 70, 2))
