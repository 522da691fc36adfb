"""The records and tests of the study with power (tools/study_power.py)."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from retina_plugin.errors import SetupError

SCRIPT = Path(__file__).parents[1] / "tools" / "study_power.py"
spec = importlib.util.spec_from_file_location("study_power", SCRIPT)
study_power = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study_power)


@pytest.fixture
def runs(tmp_path):
    """A study of two rows and two seeds, of which one run still goes on."""
    rows = []
    for row, paper, scores in (("gamma_0", 31.1, {0: 30.0, 1: 32.0}), ("gamma_2", 34.0, {0: 33.0, 1: None})):
        paths = {str(seed): f"runs/{row}-12345678/seed{seed}" for seed in scores}
        rows.append({"name": row, "label": row, "paper": {"AP": paper}, "runs": paths})
        for seed, ap in scores.items():
            folder = tmp_path / "output" / paths[str(seed)]
            folder.mkdir(parents=True)
            record = {
                "status": "running" if ap is None else "finished",
                "command": "python -m ...",
                "data": {"sets": {"val": {"images": 3, "boxes": 9, "class_names": ["digit"]}}},
                "iterations": None if ap is None else 200,
                "results": {"bbox": {"AP": ap, "AP50": 80.0}},
            }
            (folder / "run_record.json").write_text(json.dumps(record))
            entries = [
                {"iteration": 0, "loss_cls": 2.0, "loss_box_reg": 0.5},
                {"iteration": 99, "bbox/AP": math.nan, "bbox/AP50": 1.0, "loss_cls": 1.0, "loss_box_reg": 0.25},
                {"iteration": 200, "bbox/AP": 30.0, "bbox/AP50": 80.0, "bbox/AP75": 20.0},
            ]
            (folder / "metrics.json").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (tmp_path / "output" / "study.json").write_text(json.dumps({"studies": {"gamma": {"rows": rows}}}))
    return tmp_path


def test_collect_keeps_the_runs_and_their_curves(runs):
    assert study_power.collect(runs / "output", runs / "results") == ["gamma: 3 of 4 planned runs ended"]
    lines = study_power.read_runs(runs / "results")["gamma"]
    assert [(line["row"], line["seed"], line["bbox"]["AP"]) for line in lines] == [
        ("gamma_0", 0, 30.0), ("gamma_0", 1, 32.0), ("gamma_2", 0, 33.0), ("gamma_2", 1, None),
    ]  # fmt: skip
    assert lines[0]["n"] == {"val": {"images": 3, "boxes": 9}}
    assert lines[0]["AP_curve"] == [[100, 0.0, 1.0, 0.0], [200, 30.0, 80.0, 20.0]]  # no detection at first: 0
    assert lines[0]["loss_curve"] == [[1, 2.0, 0.5], [100, 1.0, 0.25]]
    assert study_power.scores_by_row(lines) == {"gamma_0": {0: 30.0, 1: 32.0}, "gamma_2": {0: 33.0}}
    assert study_power.scores_by_row(lines, at=100)["gamma_2"] == {0: 0.0, 1: 0.0}


def test_table_names_rows_and_seeds(runs, capsys):
    folders = ["--runs", str(runs / "output"), "--results", str(runs / "results")]
    assert study_power.main(["table", *folders]) == 2
    assert "collect the runs first" in capsys.readouterr().err
    assert study_power.main(["collect", *folders]) == 0
    assert study_power.main(["table", *folders]) == 0
    out = capsys.readouterr().out
    assert "| gamma_0 | 2 | 31.00 ± 1.41 | 31.1 | reference |" in out
    assert "| gamma_2 | 1 | 33.00 | 34.0 | +3.00 (n = 1) |" in out


def test_read_runs_of_an_empty_folder(tmp_path):
    with pytest.raises(SetupError, match="collect the runs first"):
        study_power.read_runs(tmp_path)


def test_paired_takes_the_seeds_that_both_have():
    fact = study_power.paired({0: 3.0, 1: 5.0, 2: 7.0, 3: 0.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    # Differences 2, 3, 4: t = 3 / (1 / sqrt 3) = 5.196, two degrees of freedom.
    assert (fact["n"], fact["mean"], fact["std"]) == (3, 3.0, 1.0)
    assert fact["p"] == pytest.approx(0.0351, abs=1e-4)
    assert fact["half"] == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)


def test_paired_without_spread_has_no_test():
    assert study_power.paired({0: 3.0}, {0: 1.0})["p"] is None
    assert study_power.paired({}, {})["n"] == 0


def test_smallest_difference_as_tables_of_power_have_it():
    # Paired t-test, 80 %, 5 %: an effect of 1 standard deviation wants 10 pairs; 0.5 wants 34 (Cohen, G*Power).
    assert study_power.smallest_difference(1.0, 10) == pytest.approx(1.0, abs=0.01)
    assert study_power.smallest_difference(1.0, 34) == pytest.approx(0.5, abs=0.01)


def test_kendall_with_the_paper():
    scores = {"a": {0: 1.0, 1: 1.1}, "b": {0: 2.0, 1: 2.1}, "c": {0: 3.0, 1: 3.1}}
    assert study_power.kendall(scores, {"a": 10.0, "b": 20.0, "c": 30.0}) == (1.0, 1.0, 1.0, 3)
    assert study_power.kendall(scores, {"a": 30.0, "b": 20.0, "c": 10.0})[0] == -1.0
    assert study_power.kendall(scores, {"a": 30.0, "b": None, "c": 10.0}) is None
