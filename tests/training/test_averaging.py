"""The moving average of the weights: by hand, in checkpoints, and what is loaded of it."""

import copy
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import build_model

from retina_plugin.training.hooks.averaging import WeightAverage
from retina_plugin.weights.checkpointer import RetinaCheckpointer, averaged_state


def make_model(value: float = 0.0) -> torch.nn.Module:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    torch.nn.init.constant_(model[0].weight, value)
    return model


def step(model, average, value):
    torch.nn.init.constant_(model[0].weight, value)
    average.after_step()


def test_average_by_hand():
    model = make_model(7.0)
    average = WeightAverage(model, 0.75)
    for value in (2.0, 4.0, 8.0):
        step(model, average, value)
    # 2, then 0.75 * 2 + 0.25 * 4 = 2.5, then 0.75 * 2.5 + 0.25 * 8 = 3.875
    assert average.model[0].weight.item() == 3.875
    assert model[0].weight.item() == 8.0


def test_statistics_of_batch_norm_are_those_of_the_model():
    model = make_model()
    average = WeightAverage(model, 0.9)
    for mean in (1.0, 5.0):
        model[1].running_mean.fill_(mean)
        average.after_step()
    assert average.model[1].running_mean.item() == 5.0


def test_average_begins_with_the_weights_that_were_loaded():
    model = make_model(1.0)
    average = WeightAverage(model, 0.9)
    torch.nn.init.constant_(model[0].weight, 3.0)
    average.before_train()
    assert average.model[0].weight.item() == 3.0


def test_resumed_average_goes_on_exactly():
    straight = make_model()
    expected = WeightAverage(straight, 0.9)
    for value in (1.0, 2.0, 5.0, 3.0):
        step(straight, expected, value)
    first = make_model()
    average = WeightAverage(first, 0.9)
    for value in (1.0, 2.0):
        step(first, average, value)
    kept = copy.deepcopy(average._average.state_dict())
    second = make_model()
    average = WeightAverage(second, 0.9)
    average._average.load_state_dict(kept)
    average.before_train()
    for value in (5.0, 3.0):
        step(second, average, value)
    assert torch.equal(average.model[0].weight, expected.model[0].weight)


@pytest.fixture
def averaged_checkpoint(tiny_cfg, tmp_path):
    """A checkpoint whose weights and average differ, and the model's keys."""
    model = build_model(tiny_cfg)
    trainer = SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None)
    checkpointer = RetinaCheckpointer(model, str(tmp_path), trainer=trainer)
    WeightAverage(model, 0.5, checkpointer).after_step()
    torch.nn.init.constant_(model.head.cls_score.bias, 1.0)
    checkpointer.save("model_final")
    return tmp_path / "model_final.pth"


def test_weights_of_another_run_are_the_average(tiny_cfg, averaged_checkpoint, caplog):
    checkpointer = RetinaCheckpointer(build_model(tiny_cfg))
    with caplog.at_level("INFO", logger="retina_plugin"):
        checkpointer.load(str(averaged_checkpoint))
    assert checkpointer.report.missing == ()
    assert checkpointer.model.head.cls_score.bias[0].item() == pytest.approx(-4.595, abs=1e-3)
    assert "using the averaged weights of" in caplog.text


def test_resumed_run_has_both(tiny_cfg, averaged_checkpoint):
    model = build_model(tiny_cfg)
    trainer = SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None)
    checkpointer = RetinaCheckpointer(model, str(averaged_checkpoint.parent), trainer=trainer)
    average = WeightAverage(model, 0.5, checkpointer)
    checkpointer.resume_or_load("", resume=True)
    assert model.head.cls_score.bias[0].item() == 1.0
    assert average.model.head.cls_score.bias[0].item() == pytest.approx(-4.595, abs=1e-3)


def test_averaged_state_has_the_model_s_keys(tiny_cfg):
    model = build_model(tiny_cfg)
    average = WeightAverage(model, 0.5)
    assert averaged_state(average._average.state_dict()).keys() == model.state_dict().keys()
