"""Winograd's convolution beside PyTorch's, and which layers of a model take it."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn
from torch.testing import assert_close

from retina_plugin import build_inference_model
from retina_plugin.modeling.execution import WinogradConv2d, use_winograd
from retina_plugin.ops.winograd import transform_kernel, winograd_conv2d


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("height, width", [(4, 4), (1, 1), (3, 9), (13, 17), (32, 20)])
@pytest.mark.parametrize("images", [1, 3])
def test_winograd_is_the_convolution(images, height, width, channels_last):
    image = torch.randn(images, 5, height, width)
    if channels_last:
        image = image.to(memory_format=torch.channels_last)
    weight, bias = torch.randn(7, 5, 3, 3), torch.randn(7)
    expected = F.conv2d(image.double(), weight.double(), bias.double(), padding=1)
    found = winograd_conv2d(image, weight, bias)
    assert found.shape == expected.shape
    assert_close(found.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert_close(winograd_conv2d(image, weight), found - bias[:, None, None], rtol=0, atol=1e-5)


@pytest.mark.parametrize("height, width", [(1, 1), (3, 9), (13, 17), (32, 20)])
@pytest.mark.parametrize("frozen", [None, "image", "weight"])
def test_gradients_are_the_convolution_s(height, width, frozen):
    plain = {"image": torch.randn(2, 5, height, width), "weight": torch.randn(7, 5, 3, 3), "bias": torch.randn(7)}
    direction = torch.randn(2, 7, height, width)
    gradients = []
    for convolve, dtype in ((F.conv2d, torch.float64), (winograd_conv2d, torch.float32)):
        inputs = {name: x.to(dtype).requires_grad_(name != frozen) for name, x in plain.items()}
        arguments = {"padding": 1} if convolve is F.conv2d else {}
        convolve(inputs["image"], inputs["weight"], inputs["bias"], **arguments).backward(direction.to(dtype))
        gradients.append({name: x.grad for name, x in inputs.items()})
    expected, found = gradients
    assert {name for name, x in found.items() if x is None} == ({frozen} - {None})
    for name in plain.keys() - {frozen}:
        tolerance = 1e-5 * expected[name].abs().max().item()
        assert_close(found[name].double(), expected[name], rtol=0, atol=tolerance, msg=name)


def test_kept_kernel_takes_the_place_of_the_weight():
    image, weight = torch.randn(1, 5, 8, 8), torch.randn(7, 5, 3, 3)
    assert torch.equal(
        winograd_conv2d(image, weight), winograd_conv2d(image, torch.zeros_like(weight), None, transform_kernel(weight))
    )


def test_winograd_takes_a_crop_of_a_larger_map():
    image = torch.randn(1, 5, 20, 20).to(memory_format=torch.channels_last)[:, :, 3:15, 2:17]
    weight = torch.randn(7, 5, 3, 3)
    assert_close(winograd_conv2d(image, weight), F.conv2d(image, weight, padding=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changed, gains",
    [
        ({}, True),
        ({"stride": 2}, False),
        ({"padding": 0}, False),
        ({"kernel_size": 1}, False),
        ({"dilation": 2}, False),
        ({"groups": 2}, False),
        ({"padding_mode": "reflect"}, False),
        ({"in_channels": 64}, False),
        ({"out_channels": 36}, False),
    ],
)
def test_only_plain_wide_convolutions_are_replaced(changed, gains):
    arguments = {"in_channels": 128, "out_channels": 128, "kernel_size": 3, "padding": 1, **changed}
    model = nn.Sequential(nn.Conv2d(**arguments))
    assert use_winograd(model) == gains
    assert isinstance(model[0], WinogradConv2d) == gains


@pytest.mark.parametrize("size", [(24, 20), (8, 8)])  # above and below MIN_POSITIONS
def test_replaced_layer_keeps_norm_and_activation(size):
    conv = Conv2d(128, 128, 3, padding=1, bias=False, norm=nn.GroupNorm(4, 128), activation=F.relu)
    nn.init.uniform_(conv.norm.bias)
    image = torch.randn(2, 128, *size)
    with torch.no_grad():
        assert_close(WinogradConv2d(conv)(image), conv(image), rtol=1e-4, atol=1e-4)


def wide_models(tiny_cfg):
    """A plain model and one of Winograd's convolutions with the same weights."""
    tiny_cfg.MODEL.FPN.OUT_CHANNELS = 128
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    plain = build_model(tiny_cfg)
    tiny_cfg.MODEL.PRECISION = "winograd"
    model = build_model(tiny_cfg)
    assert model.load_state_dict(plain.state_dict()).missing_keys == []
    assert sum(isinstance(module, WinogradConv2d) for module in model.modules()) > 5
    return plain, model


@torch.no_grad()
def test_precision_winograd_gives_the_detections_of_fp32(tiny_cfg, batch):
    plain, model = wide_models(tiny_cfg)
    fast = build_inference_model(model)
    kept = [module.kernel is not None for module in fast.modules() if isinstance(module, WinogradConv2d)]
    assert kept and all(kept)
    for detector in (fast, model.eval()):
        for found, expected in zip(detector(batch), plain.eval()(batch), strict=True):
            found, expected = found["instances"], expected["instances"]
            assert len(found) == len(expected) > 0
            assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)


def test_precision_winograd_trains_as_fp32(tiny_cfg, make_batch):
    batch = make_batch((192, 256, 3), (160, 200, 2))  # P3 has more than MIN_POSITIONS
    losses, gradients = [], []
    for model in wide_models(tiny_cfg):
        with EventStorage():
            losses.append(sum(model.train()(batch).values()))
        losses[-1].backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
    assert gradients[0].keys() == gradients[1].keys()
    ours, theirs = (torch.cat([x.flatten() for x in found.values()]) for found in reversed(gradients))
    assert (ours - theirs).norm() < 1e-4 * theirs.norm()
