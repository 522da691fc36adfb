"""Steps that must not change the weights: stopped or skipped by key."""

import logging
import re

import pytest
import torch
from detectron2.utils.events import EventStorage, EventWriter
from guarded_training import Training, same, weights

from retina_plugin.training.hooks.step_guard import MAX_IN_A_ROW
from retina_plugin.training.trainer import TolerantWriter

pytest_plugins = ("guarded_training",)


def spoil_image(record):
    record["image"] = record["image"].float()
    record["image"][0, 3, 3] = float("inf")


def test_not_finite_input_stops_before_the_step_and_is_named(guard_cfg, guard_batches):
    spoil_image(guard_batches[1][1])
    training = Training(guard_cfg, guard_batches[:2])
    with pytest.raises(FloatingPointError) as stop:
        training.train(0, 2)
    assert re.search(
        r"^iteration 1: loss_\w+(, loss_\w+)? is not finite: NaN or infinity in the image of b1.jpg. "
        r"Fix the data. The last checkpoint is model_5.pth.$",
        str(stop.value),
    )
    assert all(value.isfinite().all() for value in training.model.state_dict().values())


def test_skipped_step_changes_nothing(guard_cfg, guard_batches, caplog):
    guard_cfg.SOLVER.FAULTS.NONFINITE_LOSS = "skip"
    guard_cfg.MODEL.RESNETS.NORM = "BN"  # whose statistics a forward pass changes
    guard_cfg.MODEL.BACKBONE.FREEZE_AT = 0
    torch.manual_seed(3)
    clean = Training(guard_cfg, [guard_batches[0], guard_batches[2]])
    clean.train(0, 2)
    spoil_image(guard_batches[1][0])
    torch.manual_seed(3)
    training = Training(guard_cfg, guard_batches[:3])
    with caplog.at_level(logging.WARNING):
        training.train(0, 3)
    assert same(weights(clean.model), weights(training.model))
    assert training.model.loss_normalizer.average == clean.model.loss_normalizer.average
    assert training.guard.num_skipped == 1 and training.storage.latest()["skipped_steps"] == (1, 2)
    assert "skipped iteration 1: " in caplog.text and "image of a1.jpg" in caplog.text and "(1 so far)" in caplog.text


def test_too_many_skipped_in_a_row_stop(guard_cfg, make_batch):
    guard_cfg.SOLVER.FAULTS.NONFINITE_LOSS = "skip"
    bad, good = make_batch((64, 64, 1)), make_batch((64, 64, 1))
    spoil_image(bad[0])
    guard_batches = [bad] * (MAX_IN_A_ROW - 1) + [good] + [bad] * MAX_IN_A_ROW
    training = Training(guard_cfg, guard_batches)
    with pytest.raises(FloatingPointError, match=f"It is the {MAX_IN_A_ROW}th skipped in a row.*checkpoint is model_5"):
        training.train(0, len(guard_batches))
    assert training.iter == len(guard_batches) - 1  # a good one between them starts the count afresh


# --- What writes metrics ---


class Failing(EventWriter):
    def __init__(self):
        self.calls = 0

    def write(self):
        self.calls += 1
        raise OSError(28, "No space left on device")


def test_writer_that_fails_is_not_called_again(caplog):
    failing = Failing()
    writer = TolerantWriter(failing)
    with EventStorage():
        writer.write()
        writer.write()
    writer.close()
    assert failing.calls == 1 and caplog.text.count("Failing cannot write ([Errno 28] No space left on device)") == 1


def test_writer_is_closed():
    closed = []
    writer = Failing()
    writer.close = lambda: closed.append(True)
    TolerantWriter(writer).close()
    assert closed == [True]


def test_other_errors_of_a_writer_are_not_hidden():
    failing = Failing()
    failing.write = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        TolerantWriter(failing).write()
