"""The study that the README shows: its report in docs/study says what the records in results/study say."""

import json
import re
from pathlib import Path

import pytest

from retina_plugin.apps.study.index import load_studies
from retina_plugin.apps.study.results import read_study_folder
from retina_plugin.apps.study.summary import summarize
from retina_plugin.apps.study.verdict import verdict

ROOT = Path(__file__).parents[3]
# results/NAME has the records of docs/NAME.
FOLDERS = {name: read_study_folder(ROOT / "results" / name) for name in ("study", "study_400", "study_white_cells")}
CASES = [(name, study.name) for name, folder in FOLDERS.items() for study in folder.studies]


def report_of(name):
    return json.loads((ROOT / "docs" / name / "results.json").read_text(encoding="utf-8"))


def test_the_studies_of_the_papers_argument_are_there():
    assert {study for name, study in CASES if name == "study"} >= {
        "prior", "alpha", "gamma", "anchors", "ohem", "focal_star",
    }  # fmt: skip
    for name in FOLDERS:
        assert set(report_of(name)["studies"]) == {study for folder, study in CASES if folder == name}


@pytest.mark.parametrize("folder, name", CASES)
def test_report_says_what_the_records_say(folder, name):
    study = next(study for study in FOLDERS[folder].studies if study.name == name)
    summary, printed = summarize(study), report_of(folder)["studies"][name]
    assert printed["verdict"] == verdict(summary)
    assert [row["name"] for row in printed["rows"]] == [row.row.name for row in summary.rows]
    for row, facts in zip(summary.rows, printed["rows"], strict=True):
        assert facts["n"] == row.n and row.n >= 1
        assert (facts["metrics"]["AP"]["mean"], facts["metrics"]["AP"]["std"]) == row.mean_std("AP")


@pytest.mark.parametrize("folder, name", CASES)
def test_rows_were_run_as_the_index_says(folder, name):
    shipped = {row.name: row for row in load_studies([name])[name].rows}
    printed = {row["name"]: row for row in report_of(folder)["studies"][name]["rows"]}
    assert printed.keys() == shipped.keys()
    for row, facts in printed.items():
        assert facts["changes"] == shipped[row].changes
        paper = shipped[row].paper
        # The report spells the metrics of sizes as COCO's evaluator does.
        figures = ("AP", "AP50", "AP75", "source")
        assert [(facts["paper"] or {}).get(key) for key in figures] == [(paper or {}).get(key) for key in figures]


def test_records_name_no_path_of_a_machine():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "results").rglob("*.json*")]
    assert len(texts) > 30
    assert not any(re.search(r"/(work|root|home|tmp)\b", text) for text in texts)
