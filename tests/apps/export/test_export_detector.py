"""The exportable detector finds what FocalRetinaNet finds."""

import copy

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from tiny_export import noise
from torch.testing import assert_close

from retina_plugin.apps.export.detector import PADDING_CLASS, ExportableDetector, keep_best_of_class
from retina_plugin.apps.export.onnx_operator import keep_by_operator
from retina_plugin.apps.export.runtime import detections_differ
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_export",)

# Exact multiples of the padding, sizes one off, thin ones, one smaller than a cell of P7, batches.
SIZES = [(1, 128, 160), (1, 129, 97), (3, 64, 200), (1, 33, 31), (2, 20, 250), (1, 1, 1), (1, 300, 280)]


@torch.no_grad()
def run_model(model, images: np.ndarray) -> list:
    return [item["instances"] for item in model([{"image": torch.from_numpy(image)} for image in images])]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("keep", [keep_best_of_class, keep_by_operator], ids=["torchvision", "operator"])
@torch.no_grad()
def test_detector_equals_the_model(model, detector, monkeypatch, size, keep):
    monkeypatch.setattr(detector, "keep", keep)
    images = noise(*size)
    boxes, scores, classes, counts = detector(torch.from_numpy(images))
    expected = run_model(model, images)
    assert boxes.shape == (size[0], 20, 4) and counts.tolist() == [len(item) for item in expected]
    for i, item in enumerate(expected):
        n = len(item)
        # Folding the batch norm rounds otherwise: 1e-5 of logits of 10, of boxes of 300 pixels.
        assert_close(boxes[i, :n], item.pred_boxes.tensor, atol=1e-3, rtol=0)
        assert_close(scores[i, :n], item.scores, atol=1e-5, rtol=0)
        assert torch.equal(classes[i, :n], item.pred_classes)
        assert (boxes[i, n:] == 0).all() and (scores[i, n:] == 0).all() and (classes[i, n:] == PADDING_CLASS).all()


def test_sizes_of_the_comparison_bind_every_limit(model):
    found = [item for size in SIZES for item in run_model(model, noise(*size))]
    assert max(map(len, found)) == 20 and any(0 < len(item) < 20 for item in found)
    assert len({int(label) for item in found for label in item.pred_classes}) > 1


@torch.no_grad()
def test_detector_without_detections_gives_padding_alone(model):
    model = ExportableDetector(model).eval()
    model.score_thresh = 0.999999
    boxes, scores, classes, counts = model(torch.from_numpy(noise(2, 90, 70)))
    assert counts.tolist() == [0, 0] and not boxes.any() and not scores.any() and (classes == PADDING_CLASS).all()


@torch.no_grad()
def test_detector_takes_floats_as_integers(detector):
    images = torch.from_numpy(noise(1, 70, 90))
    for a, b in zip(detector(images), detector(images.float()), strict=True):
        assert torch.equal(a, b)


def test_detector_lays_its_weights_out_row_by_row(model):
    channels_last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    weights = ExportableDetector(channels_last).state_dict()
    assert {len(value.shape) for value in weights.values()} >= {1, 4}
    assert all(value.stride() == torch.empty(value.shape).stride() for value in weights.values())


def test_detector_leaves_the_model_as_it_is(model):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ExportableDetector(model)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("keep", [keep_best_of_class, keep_by_operator], ids=["torchvision", "operator"])
def test_nms_is_of_one_class_in_one_image(keep):
    box, beside = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]  # IoU 0.9
    boxes = torch.tensor([[box, beside, beside, box], [beside, box, box, box]])
    scores = torch.tensor([[0.9, 0.8, 0.7, -1.0], [0.3, -1.0, 0.6, 0.5]])
    classes = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1]])
    # First image: the second box goes under the first, the third is of another class, the last is none.
    kept = keep(boxes, scores, classes, 0.5, 2, 10)
    assert kept.tolist() == [[True, False, True, False], [False, False, True, True]]
    assert not keep(boxes, scores - 2, classes, 0.5, 2, 10).any()  # none is a candidate


def test_nms_keeps_apart_what_is_far_away():
    # Of 1,000 classes moved apart in fp32, boxes of half a pixel at 10,000 would all be one.
    boxes = torch.tensor([[[9999.0, 0.0, 9999.5, 0.5], [9999.5, 0.0, 10000.0, 0.5]]])
    kept = keep_best_of_class(boxes, torch.tensor([[0.9, 0.8]]), torch.tensor([[999, 999]]), 0.5, 1000, 10)
    assert kept.tolist() == [[True, True]]


def test_detector_refuses_another_model(tiny_cfg):
    with pytest.raises(SetupError, match="A Linear cannot be exported: MODEL.META_ARCHITECTURE must be a RetinaNet"):
        ExportableDetector(torch.nn.Linear(1, 1))
    model = build_model(tiny_cfg)
    model.backbone._square_pad = 256
    with pytest.raises(SetupError, match="square images cannot be exported"):
        ExportableDetector(model)


def detections(boxes, scores, classes, count):
    return np.array([boxes]), np.array([scores]), np.array([classes]), np.array([count])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"scores": [0.50005, 0.4]}, ""),
        ({"scores": [0.51, 0.4]}, "only exported finds class 1"),
        ({"boxes": [[0.0, 0, 9, 9.04], [5.0, 5, 9, 9]]}, ""),
        ({"boxes": [[0.0, 0, 9, 9.06], [5.0, 5, 9, 9]]}, "only exported finds class 1"),
        ({"classes": [2, 0]}, "only exported finds class 2"),
        ({"count": 1}, "only PyTorch finds class 0"),
        ({"boxes": [[5.0, 5, 9, 9], [0.0, 0, 9, 9]], "scores": [0.4, 0.5], "classes": [0, 1]}, ""),
    ],
    ids=["same", "score near", "score", "box near", "box", "class", "one fewer", "order"],
)
def test_detections_differ(changes, message):
    same = {"boxes": [[0.0, 0, 9, 9], [5.0, 5, 9, 9]], "scores": [0.5, 0.4], "classes": [1, 0], "count": 2}
    expected = detections(*{**same, "boxes": [*same["boxes"], [0.0] * 4], "scores": [0.5, 0.4, 0.0],
                            "classes": [1, 0, -1]}.values())  # fmt: skip
    found = detections(*{**same, **changes}.values())
    assert message in detections_differ(found, expected, max_box=0.05, max_score=1e-4, threshold=0.05)
    assert bool(message) == bool(detections_differ(found, expected, max_box=0.05, max_score=1e-4, threshold=0.05))
