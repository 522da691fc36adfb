"""The best checkpoint and early stopping: decided by the history of a metric, the same over a resume."""

import json
import math
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from retina_plugin.errors import SetupError
from retina_plugin.training.hooks.best_checkpoint import BestMetric, MetricHistory
from retina_plugin.training.hooks.early_stopping import EarlyStop, EarlyStoppingHook


@pytest.mark.parametrize(
    ("metric", "values", "best", "without_gain"),
    [
        ("bbox/AP", [1, 3, 2, 3], (1, 3), 2),
        ("validation/total_loss", [3.0, 1.0, 2.0], (1, 1.0), 1),
        ("bbox/AP", [5], (0, 5), 0),
        ("bbox/AP", [], None, 0),
        ("bbox/AP", [0, 0, 0], (0, 0), 2),
        ("bbox/AP", [math.nan, 1.0], (1, 1.0), 0),
        ("bbox/AP", [1.0, 1.05, 1.09], (2, 1.09), 2),  # by less than MIN_DELTA 0.1
        ("bbox/AP", [1.0, 1.05, 1.11], (2, 1.11), 0),  # two small gains that add up to one
    ],
)
def test_history_by_hand(metric, values, best, without_gain):
    history = MetricHistory(metric, None)
    for i, value in enumerate(values):
        history.add(i, value)
    assert history.best() == best
    assert history.evaluations_without_gain(0.1 if len(values) == 3 and values[0] == 1.0 else 0.0) == without_gain


def test_resumed_history_forgets_what_was_done_beyond_the_checkpoint(tmp_path):
    history = MetricHistory("bbox/AP", tmp_path / "best.json")
    for iteration, value in ((9, 1.0), (19, 3.0), (29, 2.0)):
        history.add(iteration, value)
    again = MetricHistory("bbox/AP", tmp_path / "best.json")
    again.restore(20)
    assert again.values == [(9, 1.0), (19, 3.0)]
    again.restore(0)
    assert again.values == [], "a run that begins has no history"
    other = MetricHistory("bbox/AP50", tmp_path / "best.json")
    other.restore(20)
    assert other.values == []


class Checkpointer:
    def __init__(self):
        self.saved = []

    def save(self, name, **extra):
        self.saved.append((name, extra))


def run(values, *, patience=0, start=0, history=None, metric="bbox/AP", max_iter=100):
    """Trains in hooks alone: the value of each iteration is measured in it, the last one's after the loop."""
    history = history or MetricHistory(metric, None)
    best = BestMetric(Checkpointer(), history)
    hooks = [best] + ([EarlyStoppingHook(history, patience=patience, min_delta=0.0)] if patience else [])
    trainer = SimpleNamespace(start_iter=start, iter=start, max_iter=max_iter, checkpointer=Checkpointer())
    with EventStorage(start) as trainer.storage:
        for hook in hooks:
            hook.trainer = trainer
            hook.before_train()
        for trainer.iter in range(start, max_iter):
            trainer.storage.iter = trainer.iter
            if trainer.iter in values and trainer.iter != max_iter - 1:
                trainer.storage.put_scalar(metric, values[trainer.iter])
            for hook in hooks:
                hook.after_step()
        trainer.iter += 1
        trainer.storage.iter = trainer.iter
        if max_iter - 1 in values:
            trainer.storage.put_scalar(metric, values[max_iter - 1])
        best.after_train()
    return best, trainer


def test_best_is_written_when_it_is_measured():
    best, _ = run({9: 10.0, 19: 30.0, 29: 20.0, 99: 40.0})
    assert [(name, extra["metric"]) for name, extra in best._checkpointer.saved] == [
        ("model_best", {"bbox/AP": value}) for value in (10.0, 30.0, 40.0)
    ]
    assert best.history.values[-1] == (99, 40.0), "the evaluation after the loop is known to a longer run"
    assert best._checkpointer.saved[1][1]["iteration"] == 19


def test_run_without_gain_ends_with_its_last_weights():
    values = {9: 10.0, 19: 30.0, 29: 20.0, 39: 30.0, 49: 50.0}
    with pytest.raises(EarlyStop, match="no bbox/AP better than 30 of iteration 19 in the last 2 evaluations") as stop:
        run(values, patience=2)
    assert stop.value.num_done == 40
    run(values, patience=3)  # never so many


def test_stopped_run_saves_model_final(monkeypatch):
    saved = []
    monkeypatch.setattr(Checkpointer, "save", lambda self, name, **extra: saved.append((name, extra["iteration"])))
    with pytest.raises(EarlyStop):
        run({9: 3.0, 19: 2.0}, patience=1)
    assert saved == [("model_best", 9), ("model_final", 19)]


def test_resumed_run_decides_as_the_straight_one(tmp_path):
    values = {9: 30.0, 19: 20.0, 29: 25.0}
    path = tmp_path / "best.json"
    run({9: 30.0, 19: 20.0}, history=MetricHistory("bbox/AP", path), max_iter=26)
    with pytest.raises(EarlyStop) as stop:
        run(values, patience=2, start=26, history=MetricHistory("bbox/AP", path))
    assert stop.value.num_done == 30
    assert json.loads(path.read_text())["values"] == [[9, 30.0], [19, 20.0], [29, 25.0]]
    with pytest.raises(EarlyStop) as stop:  # and again: there is nothing more to hope for
        run({}, patience=2, start=30, history=MetricHistory("bbox/AP", path))
    assert stop.value.num_done == 30


def test_metric_that_nobody_measures_is_warned_of_once(caplog):
    history = MetricHistory("bbox/AP-fox", None)
    best = BestMetric(Checkpointer(), history)
    best.trainer = SimpleNamespace(start_iter=0, iter=0, max_iter=9)
    with EventStorage() as best.trainer.storage, caplog.at_level("WARNING", logger="retina_plugin"):
        best.trainer.storage.put_scalar("validation/total_loss", 1.0)
        best.after_step()
        assert caplog.text == ""
        best.trainer.storage.put_scalar("bbox/AP", 1.0)
        best.after_step()
        best.after_step()
    assert caplog.text.count("TEST.BEST_METRIC bbox/AP-fox is not measured; what is: bbox/AP") == 1


def test_metric_of_an_earlier_evaluation_counts_once():
    best, _ = run({9: 10.0})
    assert best.history.values == [(9, 10.0)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"metric": "bbox/AP"}',
        '{"metric": "bbox/AP", "values": [1]}',
        '{"metric": "bbox/AP", "values": [[1, null]]}',
    ],
)
def test_history_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "best.json"
    path.write_text(text)
    with pytest.raises(SetupError, match="best.json cannot be read .*Remove it: .*from iteration 30 on"):
        MetricHistory("bbox/AP", path).restore(30)
    MetricHistory("bbox/AP", path).restore(0)
