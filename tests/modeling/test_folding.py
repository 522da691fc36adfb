"""Batch norms folded into convolutions: the same function."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn
from torch.testing import assert_close

from retina_plugin import fold_batch_norms

NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)


def count_norms(model):
    return sum(isinstance(module, NORMS) for module in model.modules())


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_folded_model_computes_the_same(tiny_cfg, norm):
    tiny_cfg.MODEL.RESNETS.NORM = norm
    model = build_model(tiny_cfg).eval()
    for module in model.modules():
        if isinstance(module, NORMS):  # as after training: a new layer's statistics are 0 and 1
            for values, low in (
                (module.weight, 0.5),
                (module.running_var, 0.5),
                (module.bias, -1),
                (module.running_mean, -1),
            ):
                nn.init.uniform_(values, low, 1.5) if values.requires_grad else values.uniform_(low, 1.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_batch_norms(model)
    assert count_norms(model) > 10 and count_norms(folded) == 0
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = (
            model.head(list(model.backbone(image).values())),
            folded.head(list(folded.backbone(image).values())),
        )
    for level, other in zip(expected[0] + expected[1], found[0] + found[1], strict=True):
        assert_close(other, level, rtol=1e-4, atol=1e-4 * level.abs().max().item())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_group_norm_stays(tiny_cfg):
    tiny_cfg.MODEL.FPN.NORM = "GN"
    model = build_model(tiny_cfg)
    groups = [sum(isinstance(m, nn.GroupNorm) for m in x.modules()) for x in (model, fold_batch_norms(model))]
    assert groups[0] == groups[1] > 0
