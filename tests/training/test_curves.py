"""The picture of a training's losses and AP."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from retina_plugin.training.hooks.curves import CURVES, METRICS, CurveHook, read_curves

LINES = [
    {"iteration": 19, "total_loss": 2.0, "bbox/AP": float("nan")},
    {"iteration": 39, "total_loss": 1.5},
    {"iteration": 39, "total_loss": 1.0, "bbox/AP": 12.0},  # done again after a kill
]


@pytest.fixture
def hook(tmp_path):
    (tmp_path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in LINES) + '{"iteration": 59, "total')
    hook = CurveHook(tmp_path)
    hook.trainer = SimpleNamespace(storage=SimpleNamespace(latest=lambda: {"bbox/AP": (12.0, 39)}))
    return hook


def test_curves_are_read_from_all_parts_of_a_run(hook, tmp_path):
    assert read_curves(tmp_path / METRICS) == {"total_loss": {19: 2.0, 39: 1.0}, "bbox/AP": {39: 12.0}}
    assert read_curves(tmp_path / "absent.json") == {}


def test_the_picture_is_drawn_once_for_an_evaluation_and_at_the_end(hook, tmp_path):
    picture = tmp_path / CURVES
    hook.after_step()
    assert Image.open(picture).width > 1000, "two panels"
    picture.unlink()
    hook.after_step()
    assert not picture.exists()
    hook.after_train()
    assert picture.exists()


def test_no_picture_ends_a_training(hook, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("retina_plugin"), "propagate", True)  # setup_logger ends it
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
        hook.after_train()
    assert not (tmp_path / CURVES).exists() and not caplog.records
    (tmp_path / CURVES).mkdir()
    hook.after_train()
    assert "curves.png is not drawn: IsADirectoryError" in caplog.text
    (tmp_path / METRICS).write_text(json.dumps(LINES[0]))
    (tmp_path / CURVES).rmdir()
    hook.after_train()
    assert not (tmp_path / CURVES).exists(), "one point is no curve"
