"""A detector that exports in seconds: FPN over a few convolutions, trained by nobody, with scores of all heights."""

import numpy as np
import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_model
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from torch import nn

from retina_plugin import get_retina_cfg
from retina_plugin.apps.export.detector import ExportableDetector

CHANNELS = 8
CLASSES = 4
# Logits of this mean and deviation: a hundredth or so of the pairs is above the threshold of 0.05.
LOGIT_MEAN, LOGIT_DEVIATION = -5.5, 1.2
DELTA_DEVIATION = 0.3


class TinyBottomUp(Backbone):
    """Strides 16 and 32, by one convolution each."""

    def __init__(self):
        super().__init__()
        self.res4 = Conv2d(3, CHANNELS, 17, stride=16, padding=8, bias=False, norm=FrozenBatchNorm2d(CHANNELS))
        self.res5 = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)

    def forward(self, images):
        res4 = self.res4(images).relu()
        return {"res4": res4, "res5": self.res5(res4)}

    def output_shape(self):
        return {name: ShapeSpec(channels=CHANNELS, stride=stride) for name, stride in (("res4", 16), ("res5", 32))}


@BACKBONE_REGISTRY.register()
def build_tiny_export_backbone(cfg, input_shape):
    top = LastLevelP6P7(CHANNELS, CHANNELS)
    return FPN(TinyBottomUp(), in_features=["res4", "res5"], out_channels=CHANNELS, top_block=top)


def make_config():
    cfg = get_retina_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "FocalRetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_tiny_export_backbone"
    # Two levels, the finest and the coarsest: tracing one takes seconds.
    cfg.MODEL.RETINANET.IN_FEATURES = ["p4", "p7"]
    cfg.MODEL.RETINANET.NUM_CLASSES = CLASSES
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[stride * 2.0, stride * 3.0] for stride in (16, 128)]
    # Few enough to bind: a level has more pairs, an image more detections.
    cfg.MODEL.RETINANET.TOPK_CANDIDATES_TEST = 60
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 128, 200
    return cfg


@torch.no_grad()
def make_model(cfg):
    """FocalRetinaNet whose logits and deltas have the statistics above on noise."""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    model.backbone.bottom_up.res4.norm.running_var.fill_(0.7)  # so that folding has something to do
    images = model.preprocess_image([{"image": torch.from_numpy(noise(1, 128, 160)[0])}]).tensor
    maps = model.backbone(images)
    features = [maps[name] for name in model.head_in_features]
    logits, deltas = (torch.cat([level.flatten() for level in levels]) for levels in model.head(features))
    model.head.cls_score.weight *= LOGIT_DEVIATION / logits.std()
    model.head.cls_score.bias.fill_(LOGIT_MEAN)
    model.head.bbox_pred.weight *= DELTA_DEVIATION / deltas.std()
    return model


def noise(num_images: int, height: int, width: int) -> np.ndarray:
    """(N, 3, H, W) uint8, smooth enough that neighbours are alike, from the size alone."""
    generator = np.random.default_rng(num_images * 10**6 + height * 1000 + width)
    coarse = generator.integers(0, 256, (num_images, 3, -(-height // 8), -(-width // 8)), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 2).repeat(8, 3)[:, :, :height, :width])


@pytest.fixture(scope="module")
def model():
    return make_model(make_config())


@pytest.fixture(scope="module")
def detector(model):
    return ExportableDetector(model).eval()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    """A trained folder: model_final.pth and config.yaml."""
    folder = tmp_path_factory.mktemp("trained")
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(make_config().dump())
    return folder / "model_final.pth"
