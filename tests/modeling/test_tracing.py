"""A trace of ``FocalRetinaNet``, as Detectron2's ``tools/deploy/export_model.py`` makes it, equals eager."""

import warnings

import pytest
import torch
from detectron2.export import TracingAdapter
from detectron2.modeling import build_model
from detectron2.utils.analysis import flop_count_operators
from torch import nn
from torch.testing import assert_close

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
PLAIN = torch.full((3, 128, 160), 110.0)  # below the threshold of test_trace_of_another_number_of_candidates


@pytest.fixture
def model(tiny_cfg):
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 1000
    model = build_model(tiny_cfg).eval()
    nn.init.normal_(model.head.cls_score.weight, std=0.02)  # scores without ties at 1.0
    nn.init.constant_(model.head.cls_score.bias, -1.0)
    return model


def detect(model, image):
    return model.forward([{"image": image}])[0]["instances"]


def eager_and_traced(model, traced_on, run_on):
    adapter = TracingAdapter(model, (traced_on,), detect)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(adapter, (traced_on,), check_trace=False)
        return detect(model, run_on), adapter.outputs_schema(traced(run_on))


def assert_same_detections(eager, traced):
    assert len(traced) == len(eager)
    # Not bit for bit: the executor of a trace may fuse and reorder.
    assert_close(traced.scores, eager.scores, rtol=1e-5, atol=1e-6)
    assert_close(traced.pred_boxes.tensor, eager.pred_boxes.tensor, rtol=1e-5, atol=1e-3)
    assert torch.equal(traced.pred_classes, eager.pred_classes)


@pytest.mark.parametrize("generator", ["DefaultAnchorGenerator", "OctaveAnchorGenerator", "TorchvisionAnchorGenerator"])
def test_trace_of_another_size(tiny_cfg, request, generator):
    tiny_cfg.MODEL.ANCHOR_GENERATOR.NAME = generator
    model = request.getfixturevalue("model")
    eager, traced = eager_and_traced(model, 255 * torch.rand(3, 128, 160), 255 * torch.rand(3, 288, 320))
    assert (eager.pred_boxes.get_centers()[:, 0] > 160).sum() > 20
    assert_same_detections(eager, traced)


@pytest.mark.parametrize("busy_first", [False, True], ids=["plain_then_busy", "busy_then_plain"])
def test_trace_of_another_number_of_candidates(model, busy_first):
    busy = 255 * torch.rand(3, 128, 160)
    with torch.no_grad():
        model.test_score_thresh = (detect(model, PLAIN).scores.max() + detect(model, busy).scores.max()).item() / 2
    traced_on, run_on = (busy, PLAIN) if busy_first else (PLAIN, busy)
    eager, traced = eager_and_traced(model, traced_on, run_on)
    assert (len(eager) == 0) is busy_first
    assert_same_detections(eager, traced)


def test_flops_are_counted_with_winograd_as_without(tiny_cfg, make_batch):
    tiny_cfg.MODEL.FPN.OUT_CHANNELS = 128  # wide enough for Winograd's algorithm
    counts = []
    for precision in ("fp32", "winograd"):
        tiny_cfg.MODEL.PRECISION = precision
        counts.append(flop_count_operators(build_model(tiny_cfg).eval(), make_batch((256, 256, 0))))
    assert counts[0]["conv"] == counts[1]["conv"] > 1  # 10^9
