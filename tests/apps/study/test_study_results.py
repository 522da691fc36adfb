"""Reading of a study folder: what a record means, and what is refused."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from study_records import DATA, StudyMaker, make_record, stopped_record

from retina_plugin.apps.study.learning_curves import mean_curve, read_curves
from retina_plugin.apps.study.results import read_study_folder, store_run
from retina_plugin.errors import SetupError


@pytest.fixture
def maker(tmp_path) -> StudyMaker:
    """A study "alpha" without rows."""
    maker = StudyMaker(tmp_path)
    maker.add_study("alpha")
    return maker


def read_runs(maker: StudyMaker) -> list:
    return [run for row in read_study_folder(maker.write()).studies[0].rows for run in row.runs]


def test_finished_run_keeps_its_metrics_and_curves(maker):
    maker.add_row("alpha", "a", [20.0], {"AP": 31.1, "APS": 16.2})
    (run,) = read_runs(maker)
    assert (run.status, run.seed, run.metrics["AP"], run.metrics["AP50"]) == ("finished", 0, 20.0, 30.0)
    assert run.metrics["APl"] is None and not run.no_detections
    assert run.curves["AP"].tolist()[-1] == [599.0, 20.0 * 599 / 600]
    (row,) = read_study_folder(maker.folder).studies[0].rows
    assert row.paper == {"AP": 31.1, "APs": 16.2}


def test_finished_run_without_detections_counts_as_zero(maker):
    maker.add_row("alpha", "a", [None, 20.0])
    empty, other = read_runs(maker)
    assert empty.no_detections and not other.no_detections
    zeros = {name: 0.0 for name in ("AP", "AP50", "AP75", "APs", "APm")}
    assert empty.metrics == zeros | {"APl": None, "time_ms": None}  # no large box in the data: still undefined


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("missing", ("not finished", "not started")),
        (stopped_record("running", None), ("not finished", "still running, or killed")),
        (stopped_record("interrupted", "Ctrl-C"), ("not finished", "Ctrl-C")),
        (make_record(1.0, 0, results={}), ("not finished", "trained, but not evaluated")),
        (stopped_record("diverged", "loss_cls = nan"), ("diverged", "loss_cls = nan")),
        (stopped_record("failed", None), ("failed", "no reason recorded")),
    ],
    ids=["missing", "running", "interrupted", "not-evaluated", "diverged", "failed"],
)
def test_run_without_a_figure_says_why(maker, record, expected):
    maker.add_row("alpha", "a", [record])
    maker.add_row("alpha", "b", [20.0])
    run = read_runs(maker)[0]
    assert (run.status, run.reason) == expected
    assert run.metrics == {}


def test_lines_of_runs_stand_for_their_folders(maker):
    maker.add_row("alpha", "a", [20.0, None])
    maker.add_row("alpha", "b", [stopped_record("diverged", "loss_cls = nan")])
    expected = read_study_folder(maker.write())
    for path in expected.runs:
        store_run(maker.folder / path)
    assert len((maker.folder / "runs.jsonl").read_text().splitlines()) == 3
    shutil.rmtree(maker.folder / "runs")
    found = read_study_folder(maker.folder)
    for run, other in zip(found.runs.values(), expected.runs.values(), strict=True):
        assert {name: curve.tolist() for name, curve in run.curves.items()} == {
            name: curve.tolist() for name, curve in other.curves.items()
        }
        assert replace(run, curves={}) == replace(other, curves={})


def test_half_written_line_is_refused(maker):
    maker.add_row("alpha", "a", [20.0])
    store_run(maker.write() / "runs/a-1a2b/seed0")
    path = maker.folder / "runs.jsonl"
    path.write_text(path.read_text()[:50])
    with pytest.raises(SetupError, match="runs.jsonl, line 1 cannot be read as JSON .*half written"):
        read_study_folder(maker.folder)


def test_discussion_is_split_by_study(maker):
    maker.add_row("alpha", "a", [20.0])
    (maker.folder / "discussion.md").write_text("# All\n\n## alpha\n\nOne.\n\nTwo.\n\n## gamma\nThree.\n")
    assert read_study_folder(maker.write()).discussion == {"alpha": "One.\n\nTwo.", "gamma": "Three."}


def test_empty_folder_is_no_study(tmp_path):
    with pytest.raises(SetupError, match="has no study.json"):
        read_study_folder(tmp_path)


def test_half_written_record_is_named(maker):
    maker.add_row("alpha", "a", [20.0, 21.0])
    path = maker.folder / "runs/a-1a2b/seed1/run_record.json"
    path.write_text(path.read_text()[:80])
    with pytest.raises(SetupError, match="a-1a2b/seed1/run_record.json cannot be read as JSON .*half written"):
        read_study_folder(maker.write())


def test_two_data_sets_are_refused_by_name(maker):
    data = copy.deepcopy(DATA)
    data["sets"]["tiny_val"]["images"] = 101
    maker.add_row("alpha", "a", [20.0])
    maker.add_row("alpha", "b", [make_record(20.0, 0, data=data)])
    with pytest.raises(SetupError, match="runs/a-1a2b/seed0 and runs/b-1a2b/seed0 are of different data .*101 images"):
        read_study_folder(maker.write())


def test_no_finished_run_is_refused(maker):
    maker.add_row("alpha", "a", ["missing", stopped_record("diverged", "nan")])
    with pytest.raises(SetupError, match="has no finished run among its 2"):
        read_study_folder(maker.write())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("plot", "pie", "'plot' must be one of line, .*got 'pie'"),
        ("reference", "b", "'reference' must be one of its rows, got 'b'. Name one of a"),
        ("rows", None, "'rows' must be list, got None"),
    ],
)
def test_wrong_plan_is_refused(maker, key, value, message):
    maker.add_row("alpha", "a", [20.0])
    maker.plan["studies"]["alpha"][key] = value
    with pytest.raises(SetupError, match=message):
        read_study_folder(maker.write())


def test_study_name_that_is_no_file_name_is_refused(maker):
    maker.add_study("../alpha")
    maker.add_row("../alpha", "a", [20.0])
    with pytest.raises(SetupError, match="a study's name must be letters"):
        read_study_folder(maker.write())


@pytest.mark.parametrize("value", [101.0, -1.0, "20"])
def test_impossible_ap_is_refused(maker, value):
    record = make_record(20.0, 0)
    record["results"]["bbox"]["AP"] = value
    maker.add_row("alpha", "a", ["missing"])
    folder = maker.folder / "runs/a-1a2b/seed0"
    folder.mkdir(parents=True)
    (folder / "run_record.json").write_text(json.dumps(record))
    with pytest.raises(SetupError, match=r"seed0/run_record.json: 'AP' must be a number in \[0, 100\] or null"):
        read_study_folder(maker.write())


def test_curve_of_a_resumed_run_takes_the_last_line(tmp_path):
    path = tmp_path / "metrics.json"
    lines = [(19, 3.0), (39, 2.0), (39, 1.5), (59, float("nan"))]
    path.write_text("".join(json.dumps({"iteration": i, "total_loss": loss}) + "\n" for i, loss in lines))
    assert read_curves(path)["total_loss"].tolist() == [[19.0, 3.0], [39.0, 1.5]]


def test_curve_leaves_out_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 19, "total_loss": 3.0}\n{"iteration": 39, "tot')
    assert read_curves(path)["total_loss"].tolist() == [[19.0, 3.0]]
    path.write_text(
        '{"iteration": 19, "tot{"iteration": 39, "total_loss": 3.0}\n{"iteration": 59, "total_loss": 2.0}\n'
    )
    assert read_curves(path)["total_loss"].tolist() == [[59.0, 2.0]]
    assert read_curves(tmp_path / "absent.json") == {}


def test_mean_curve_is_the_mean_over_seeds():
    curves = [np.array([[10.0, 1.0], [20.0, 3.0]]), np.array([[10.0, 2.0], [20.0, 5.0]])]
    assert mean_curve(curves).tolist() == [[10.0, 1.5], [20.0, 4.0]]
    assert mean_curve([]).shape == (0, 2)
    long = np.stack([np.arange(1000.0), np.ones(1000)], axis=1)
    assert len(mean_curve([long], max_points=10)) == 10
