"""``MODEL.PRECISION``: bf16 keeps losses, gradients and detections near fp32's; what the checks say of it."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin.config import checks as config_checks
from retina_plugin.modeling.execution import bfloat16_is_fast


def models(tiny_cfg, precision):
    plain = build_model(tiny_cfg)
    tiny_cfg.MODEL.PRECISION = precision
    other = build_model(tiny_cfg)
    other.load_state_dict(plain.state_dict())
    return plain, other


def test_bf16_trains_as_fp32_within_its_digits(tiny_cfg, batch):
    plain, half = models(tiny_cfg, "bf16")
    losses = {}
    for name, model in (("fp32", plain), ("bf16", half)):
        with EventStorage():
            losses[name] = sum(model.train()(batch).values())
        losses[name].backward()
    bf16, fp32 = losses["bf16"].item(), losses["fp32"].item()
    assert bf16 == pytest.approx(fp32, rel=0.02)  # bf16 has 8 bits: 0.4 % a rounding
    assert bf16 != fp32
    gradients = [
        torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) for model in (plain, half)
    ]
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99
    assert gradients[1].dtype == torch.float32


@torch.no_grad()
def test_bf16_detects_as_fp32_within_its_digits(tiny_cfg, batch):
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    plain, half = models(tiny_cfg, "bf16")
    found, expected = (model.eval()(batch)[0]["instances"] for model in (half, plain))
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32
    assert len(found) == len(expected) > 0
    # Between -4 and -2 bf16 has a step of 1/64, and a dozen layers round before: a tenth of an untrained score.
    assert torch.allclose(found.scores, expected.scores, rtol=0.15)


def test_another_precision_is_refused_by_the_model(tiny_cfg):
    tiny_cfg.MODEL.PRECISION = "int8"
    with pytest.raises(ValueError, match="MODEL.PRECISION must be one of .*'bf16'.*, got 'int8'"):
        build_model(tiny_cfg)


@pytest.mark.parametrize(
    "device, precision, fast, warning",
    [
        ("cpu", "fp32", False, None),
        ("cpu", "winograd", False, None),
        ("cpu", "bf16", True, None),
        ("cpu", "bf16", False, "cpu has no instructions for it"),
        ("cuda", "bf16", True, None),
        ("cuda", "winograd", True, "does nothing on cuda"),
    ],
)
def test_check_warns_where_a_precision_does_not_pay(tiny_cfg, monkeypatch, device, precision, fast, warning):
    monkeypatch.setattr(config_checks, "bfloat16_is_fast", lambda device: fast)
    tiny_cfg.MODEL.DEVICE, tiny_cfg.MODEL.PRECISION = device, precision
    warnings = [text for text in config_checks.check_config(tiny_cfg) if "PRECISION" in text]
    assert len(warnings) == (warning is not None)
    assert warning is None or warning in warnings[0]


def test_bf16_is_not_called_fast_on_other_devices():
    assert not bfloat16_is_fast("mps")
