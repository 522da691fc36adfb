"""Test-time augmentation of a RetinaNet: boxes back where they belong, and found once."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import nn

from retina_plugin.evaluation.augmented_inference import RetinaNetWithTTA
from retina_plugin.training.run import original_sizes


class SpotDetector(nn.Module):
    """Finds the white rectangle of a black image, the score being the mean of its first channel."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, batch):
        (one,) = batch
        image = one["image"].float()
        self.seen.append(tuple(image.shape[1:]))
        ys, xs = (image[0] > 127).nonzero(as_tuple=True)
        found = Instances(tuple(image.shape[1:]))
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else None
        found.pred_boxes = Boxes(torch.tensor([box], dtype=torch.float32) if box else torch.zeros(0, 4))
        found.scores = torch.full((len(found.pred_boxes),), 0.5 + image.shape[1] / 1000)
        found.pred_classes = torch.zeros(len(found.pred_boxes), dtype=torch.long)
        return [{"instances": found}]


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.TEST.AUG.MIN_SIZES, tiny_cfg.TEST.AUG.MAX_SIZE, tiny_cfg.TEST.AUG.FLIP = (100, 200), 1000, True
    return tiny_cfg


@pytest.fixture
def spot():
    """A black image of 100 x 160 with a white rectangle left of the middle."""
    image = torch.zeros(3, 100, 160, dtype=torch.uint8)
    image[:, 20:60, 10:40] = 255
    return {"image": image, "height": 100, "width": 160}


def test_sizes_and_mirror_images_agree_on_one_box(cfg, spot):
    detector = SpotDetector()
    (result,) = RetinaNetWithTTA(cfg, detector)([spot])
    assert detector.seen == [(100, 160), (100, 160), (200, 320), (200, 320)]
    found = result["instances"]
    assert found.image_size == (100, 160) and len(found) == 1
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([[10.0, 20.0, 40.0, 60.0]]), rtol=0, atol=0.6)
    assert found.scores.item() == pytest.approx(0.7), "the best of the four"


def test_image_that_was_resized_already_gets_boxes_of_the_original(cfg, spot):
    spot["height"], spot["width"] = 50, 80
    found = RetinaNetWithTTA(cfg, SpotDetector())([spot])[0]["instances"]
    assert found.image_size == (50, 80)
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([[5.0, 10.0, 20.0, 30.0]]), rtol=0, atol=0.3)


def test_image_without_objects_has_no_detections(cfg, spot):
    spot["image"].zero_()
    assert len(RetinaNetWithTTA(cfg, SpotDetector())([spot])[0]["instances"]) == 0


def test_one_copy_of_the_same_size_adds_nothing(cfg, batch):
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP = (96,), False
    model = build_model(cfg).eval()
    nn.init.normal_(model.head.cls_score.weight, std=0.02)
    image = {key: batch[0][key] for key in ("image", "height", "width")}
    with torch.no_grad():
        expected = model([image])[0]["instances"]
    found = RetinaNetWithTTA(cfg, model)([image])[0]["instances"]
    # The detector's own NMS is before its boxes are clipped to the image, the last one behind.
    rows = {tuple(row) for row in expected.pred_boxes.tensor.tolist()}
    assert 10 < len(found) <= len(expected)
    assert all(tuple(row) in rows for row in found.pred_boxes.tensor.tolist())
    assert torch.equal(found.pred_boxes.tensor[0], expected.pred_boxes.tensor[0])


def test_number_of_detections_is_the_config_s(cfg, batch):
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    model = build_model(cfg).eval()
    nn.init.normal_(model.head.cls_score.weight, std=0.02)
    found = RetinaNetWithTTA(cfg, model)([{"image": batch[0]["image"]}])[0]["instances"]
    assert len(found) == 5
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_test_images_are_read_in_their_own_size(cfg):
    cfg.freeze()
    scaled = original_sizes(cfg)
    assert scaled.INPUT.MIN_SIZE_TEST == 0 and scaled.is_frozen() and cfg.INPUT.MIN_SIZE_TEST == 800
