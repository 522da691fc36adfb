"""Gradients of a batch taken in parts: those of the whole batch, with either divisor."""

import copy
from contextlib import contextmanager

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from retina_plugin.training.accumulation import AccumulatingTrainer

LR = 1e-3


@pytest.fixture
def images(make_batch):
    """Six images of one size, so that padding is the same in any part; two without objects."""
    return make_batch(*[(96, 96, n) for n in (3, 0, 2, 1, 0, 4)])


@pytest.fixture
def make_model(tiny_cfg):
    def make(name="batch", loss="FocalLoss"):
        tiny_cfg.MODEL.RETINANET.NORMALIZER.NAME = name
        tiny_cfg.MODEL.RETINANET.CLS_LOSS_NAME = loss
        torch.manual_seed(0)
        model = build_model(tiny_cfg)
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm2d):  # from random weights, 18 layers of it overflow nothing
                module.running_var.fill_(2.0)
        return model

    return make


def step(trainer_of, model, images):
    """Gradients, losses and the storage after one step of a trainer, in float64."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    trainer = trainer_of(model, [images], optimizer)
    with EventStorage() as storage:
        trainer.iter = 0
        trainer.run_step()
    losses = {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, losses


def in_parts(num_parts):
    return lambda model, data, optimizer: AccumulatingTrainer(model, data, optimizer, num_parts=num_parts, amp=False)


@pytest.mark.parametrize("loss", ["FocalLoss", "OHEMLoss"])
@pytest.mark.parametrize("name", ["batch", "ema"])
@pytest.mark.parametrize("num_parts", [1, 2, 3, 6])
def test_gradients_are_those_of_the_whole_batch(make_model, images, name, loss, num_parts):
    whole = make_model(name, loss)
    parts = copy.deepcopy(whole)
    expected, expected_losses = step(SimpleTrainer, whole, copy.deepcopy(images))
    found, losses = step(in_parts(num_parts), parts, copy.deepcopy(images))
    assert found.keys() == expected.keys() and len(found) > 40
    for key, gradient in expected.items():
        scale = max(gradient.abs().max().item(), 1e-6)
        torch.testing.assert_close(
            found[key], gradient, rtol=0, atol=2e-4 * scale, msg=lambda m, key=key: f"{key}: {m}"
        )
    assert losses.keys() == expected_losses.keys() == {"loss_cls", "loss_box_reg", "total_loss"}
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    torch.testing.assert_close(parts.loss_normalizer.average, whole.loss_normalizer.average)
    for a, b in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_parts", [1, 2])
def test_run_without_parts_goes_on_with_them(make_model, images, num_parts):
    """As after the message that memory ran out, which proposes these keys."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    plain = SimpleTrainer(model, [images], optimizer)
    with EventStorage() as storage:
        plain.iter = 0
        plain.run_step()
    trainer = AccumulatingTrainer(model, [images], optimizer, num_parts=num_parts, amp=False)
    trainer.load_state_dict(plain.state_dict())
    assert trainer.iter == plain.iter and storage.latest()


def test_divisor_is_back_after_a_failure(make_model, images):
    model = make_model()
    images[4]["instances"].gt_classes = torch.tensor([], dtype=torch.long)
    images[5]["instances"].gt_classes += 100
    with pytest.raises(ValueError, match="is outside"):
        step(in_parts(3), model, images)
    assert model.loss_normalizer.eval()(torch.tensor(7.0)) == 7, "it divides again"


def test_last_part_alone_exchanges_gradients(make_model, images):
    """Under DistributedDataParallel the parts before it run within no_sync, forward passes too."""

    class Replica(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.log = module, []

        def forward(self, batch):
            self.log.append("forward")
            return self.module(batch)

        @contextmanager
        def no_sync(self):
            self.log.append("no_sync")
            yield
            self.log.append("sync")

    model = Replica(make_model())
    step(in_parts(3), model, images)
    assert model.log == ["no_sync", "forward", "sync", "no_sync", "forward", "sync", "forward"]
