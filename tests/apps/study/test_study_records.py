"""A study folder of a stranger: each wrong field, line or file ends in one sentence that names its place."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
from study_records import StudyMaker

from retina_plugin.apps.study.learning_curves import read_curves
from retina_plugin.apps.study.plan import StudySettings, write_manifest
from retina_plugin.apps.study.records import parse_object
from retina_plugin.apps.study.report import write_report
from retina_plugin.apps.study.results import read_record, read_study_folder, store_run
from retina_plugin.errors import SetupError

RUN = "runs/a-1a2b/seed0"


@pytest.fixture
def study(tmp_path) -> StudyMaker:
    maker = StudyMaker(tmp_path / "study")
    maker.folder.mkdir()
    maker.add_study("alpha", reference="a")
    maker.add_row("alpha", "a", [20.0, 21.0], {"AP": 31.1}, x={"alpha": 0.5})
    maker.write()
    return maker


def set_in(path: Path, place: str, value, line: int | None = None) -> None:
    """Set the value at a dotted place of a JSON file, or of a line of one."""
    lines = path.read_text().splitlines() if line is not None else [path.read_text()]
    content = json.loads(lines[line or 0])
    *parents, last = place.split(".")
    node = content
    for key in parents:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(last) if isinstance(node, list) else last] = value
    lines[line or 0] = json.dumps(content)
    path.write_text("\n".join(lines))


DEEP = json.loads("[" * 60 + "]" * 60)
RECORD_FAULTS = [
    ("status", ["finished"], "'status' must be text"), ("reason", {}, "'reason' must be text"),
    ("seed", "0", "'seed' must be a number"), ("seed", 1.5, "'seed' must be a whole number"),
    ("seed", -1, "'seed' must be a number"), ("seed", 10**30, r"a number beyond 2\^63"),
    ("iterations", "600", "'iterations' must be a number"), ("iterations", math.nan, "a number that is not finite"),
    ("images_per_batch", [8], "'images_per_batch' must be"), ("wall_seconds", math.inf, "a number that is not finite"),
    ("wall_seconds", True, "'wall_seconds' must be a number"), ("command", 7, "'command' must be text"),
    ("git", "0123", "'git' must be an object"), ("git.commit", 7, "git: 'commit' must be text"),
    ("git.dirty", "no", "'dirty' must be true or false"), ("hardware", [], "'hardware' must be an object"),
    ("versions.torch", 2.1, "'torch' must be text"), ("data", 1, "'data' must be an object"),
    ("data.sets", [], "'sets' must be an object"), ("data.sets.tiny_val", 3, "'tiny_val' must be an object"),
    ("data.sets.tiny_val.images", "many", "'images' must be a number"),
    ("data.sets.tiny_val.class_names", "cat", "'class_names' must be list"),
    ("results", [1], "'results' must be an object"), ("results.bbox", 20.0, "'bbox' must be an object"),
    ("results.bbox.AP", [20], r"'AP' must be a number in \[0, 100\]"), ("results.bbox.AP50", 1e9, "'AP50' must be"),
    ("inference_ms_per_image", -1.0, "'inference_ms_per_image' must be"), ("note", DEEP, "nested too deeply"),
    ("note", "\ud800", "text that is not Unicode"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "match"), RECORD_FAULTS)
@pytest.mark.parametrize("stored", [False, True], ids=["file", "line"])
def test_wrong_field_of_a_record_is_named_with_its_place(study, place, value, match, stored):
    if stored:
        for seed in (0, 1):
            store_run(study.folder / f"runs/a-1a2b/seed{seed}")
        (study.folder / "runs").rename(study.folder.parent / "gone")
        set_in(study.folder / "runs.jsonl", f"record.{place}", value, line=1)
    else:
        set_in(study.folder / RUN / "run_record.json", place, value)
    with pytest.raises(SetupError, match=match) as caught:
        read_study_folder(study.folder)
    assert ("runs.jsonl, line 2" if stored else f"{RUN}/run_record.json") in str(caught.value)
    assert len(str(caught.value)) < 500
    assert stored or read_record(study.folder / RUN) is None  # the runner runs it again


ROW = "studies.alpha.rows.0"
PLAN_FAULTS = [
    ("studies", [], "'studies' must be dict"), ("studies.alpha", 1, "'alpha' must be an object"),
    ("settings", 7, "'settings' must be an object"), ("settings.overrides", "x", "'overrides' must be list"),
    ("settings.fraction", "1", "'fraction' must be a number"), ("settings.command", 7, "'command' must be list"),
    ("studies.alpha.rows", [7], "'rows' must be a list of objects"),
    ("studies.alpha.title", [], "'title' must be text"),
    ("studies.alpha.base", 1, "'base' must be text"), ("studies.alpha.reported", [1], "'reported' must be a list of"),
    ("studies.alpha.plot", [], "'plot' must be text"), ("studies.alpha.reference", {}, "'reference' must be text"),
    (f"{ROW}.name", "", "'name' must be str"), (f"{ROW}.runs", [], "'runs' must be dict"),
    (f"{ROW}.runs", {"x": RUN}, "must map a seed to a folder"), (f"{ROW}.runs", {"9" * 5000: RUN}, "must map a seed"),
    (f"{ROW}.runs", {"0": 7}, "must map a seed to a folder"), (f"{ROW}.paper", 31.1, "'paper' must be an object"),
    (f"{ROW}.paper", {"AP": "31"}, "'AP' must be a number"), (f"{ROW}.x", {"alpha": []}, "'alpha' must be a number"),
    (f"{ROW}.x", {"alpha": 1e300}, "'alpha' must be a number"), (f"{ROW}.changes", "x", "'changes' must be an object"),
    (f"{ROW}.label", {}, "'label' must be text"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "match"), PLAN_FAULTS)
def test_wrong_field_of_the_plan_is_named_with_its_place(study, place, value, match):
    set_in(study.folder / "study.json", place, value)
    with pytest.raises(SetupError, match=rf"study\.json.*{match}"):
        read_study_folder(study.folder)
    with pytest.raises(SetupError, match=rf"study\.json.*{match}"):
        write_manifest(study.folder, {}, StudySettings("", [], 1.0), {}, command="", protocol="")


@pytest.mark.parametrize(
    "path", ["../other/runs/a-1a2b/seed0", "/etc", "runs/../../other", "\\\\host\\share", "C:/x", ""]
)
def test_plan_names_no_folder_outside_the_study(study, path):
    set_in(study.folder / "study.json", f"{ROW}.runs", {"0": path})
    with pytest.raises(SetupError, match="must map a seed to a folder of the study"):
        read_study_folder(study.folder)


def test_two_rows_of_one_name_are_refused(study):
    study.add_row("alpha", "a", [22.0])
    with pytest.raises(SetupError, match="'rows' must be rows of different names"):
        read_study_folder(study.write())


FILES = ("study.json", "runs.jsonl", f"{RUN}/run_record.json", f"{RUN}/metrics.json", "discussion.md")


def spoil(path: Path, how: str) -> None:
    if path.exists():
        path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "giant":
        with path.open("wb") as file:
            file.truncate(2**41)
    else:
        path.write_bytes({"bytes": b"\xff\xfe\x00", "brackets": b"[" * 10**5, "digits": b"1" * 5000}[how])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["pipe", "folder", "giant", "bytes", "brackets", "digits"])
def test_file_of_another_kind_is_one_sentence(study, file, how):
    if sys.platform == "win32" and how in ("pipe", "giant"):
        pytest.skip("no pipes or sparse files")
    store_run(study.folder / RUN)
    spoil(study.folder / file, how)
    if file.endswith("metrics.json") and how in ("bytes", "brackets", "digits"):  # lines that were cut off
        assert read_study_folder(study.folder).runs[RUN].curves == {}
    elif file.endswith(".md") and how in ("brackets", "digits"):
        assert read_study_folder(study.folder).discussion == {}
    else:
        with pytest.raises(SetupError) as caught:
            read_study_folder(study.folder)
        assert file in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="links")
@pytest.mark.parametrize("file", FILES)
def test_link_in_place_of_a_file_is_refused(study, file):
    store_run(study.folder / RUN)
    (study.folder.parent / "secret").write_text('{"status": ["secret"]}')
    (study.folder / file).unlink(missing_ok=True)
    (study.folder / file).symlink_to(study.folder.parent / "secret")
    with pytest.raises(SetupError, match=f"{Path(file).name} is a link") as caught:
        read_study_folder(study.folder)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("line", [
    '{"iteration": 1e999, "total_loss": 1}', '{"iteration": true, "total_loss": 1}',
    '{"iteration": "1", "total_loss": 1}', '{"iteration": -1, "total_loss": 1}',
    f'{{"iteration": 1, "total_loss": {"9" * 400}}}', "[]", "1", "[" * 10**5,
    '{"iteration": 1, "total_loss": true}', '{"iteration": 1, "bbox/AP": 1e999}',
    '{"iteration": 1, "total_loss": "\\ud8"}',
])  # fmt: skip
def test_line_of_a_curve_that_is_none_is_left_out(tmp_path, line):
    (tmp_path / "metrics.json").write_text(f'{line}\n{{"iteration": 5, "total_loss": 2.0}}\n')
    assert {name: curve.tolist() for name, curve in read_curves(tmp_path / "metrics.json").items()} == {
        "total_loss": [[5.0, 2.0]]
    }


@pytest.mark.parametrize("curves", [
    [], {"AP": 1}, {"AP": [1, 2]}, {"AP": [[1]]}, {"AP": [[1, "2"]]}, {"AP": [[1, None]]}, {"AP": [[-1, 2]]},
    {"AP": [[1, 2, 3]]}, {"AP": [[1, True]]}, {"AP": {"1": 2}}, {"other": "x"},
])  # fmt: skip
def test_curve_of_a_line_that_is_none_is_refused(study, curves):
    store_run(study.folder / RUN)
    (study.folder / RUN / "run_record.json").unlink()
    set_in(study.folder / "runs.jsonl", "curves", curves, line=0)
    with pytest.raises(SetupError, match="runs.jsonl, line 1.*must be"):
        read_study_folder(study.folder)


def test_labels_with_markup_of_formulas_are_drawn(study, tmp_path):
    for i, label in enumerate(["$\\frac{", "$x^$ and $", "\\$", "a_b^c", "<b>", "%s{x}"]):
        study.add_row("alpha", f"r{i}", [22.0], {"AP": 30.0}, label=label)
    assert write_report(study.write(), tmp_path / "report")


def test_object_is_one():
    assert parse_object('{"a": [1, 2.5, "ä", null, true]}', "x").values == {"a": [1, 2.5, "ä", None, True]}
    for text in ("[1]", "7", '"x"', "null"):
        with pytest.raises(SetupError, match="x must hold a JSON object"):
            parse_object(text, "x")
