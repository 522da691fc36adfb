"""Run records and what an evaluation leaves: JSON, tables, predictions read back."""

import json
import math
import os
import time
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator

from retina_plugin import SetupError
from retina_plugin import files as whole_files
from retina_plugin.evaluation.evaluator import build_evaluator, scoring_package
from retina_plugin.evaluation.predictions import read_coco_results
from retina_plugin.files import remove_parts, write_durably, write_whole
from retina_plugin.run_record import RunRecord, check_output_dir, keep_previous
from retina_plugin.training.hooks.wall_time import WallTimeHook


def test_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.json", "first, 猫")
    monkeypatch.setattr(whole_files.os, "replace", lambda *_: 1 / 0)
    for write in (write_whole, lambda path, text: write_durably(path, lambda file: file.write(text.encode()))):
        with pytest.raises(ZeroDivisionError):
            write(tmp_path / "a.json", "second")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "first, 猫"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_two_processes_write_a_file_one_after_the_other(tmp_path, monkeypatch):
    found = []

    def write(file):
        file.write(b"first")
        found.extend(path.name for path in tmp_path.iterdir())
        monkeypatch.setattr(whole_files.os, "getpid", lambda: -7)
        write_durably(tmp_path / "a.pth", lambda other: other.write(b"second"))
        assert (tmp_path / "a.pth").read_bytes() == b"second"
        monkeypatch.undo()

    write_durably(tmp_path / "a.pth", write)
    assert (tmp_path / "a.pth").read_bytes() == b"first"
    (tmp_path / found[0]).touch()  # as a kill leaves it
    assert [path.name for path in remove_parts(tmp_path, ".pth")] == found


def test_only_parts_are_removed(tmp_path):
    for name in ("model.pth.1.part", ".model.pth.1.bak", ".model.pth2.1.part", "notes.pth", ".model.json.1.part"):
        (tmp_path / name).touch()
    assert remove_parts(tmp_path, ".pth") == [] and len(list(tmp_path.iterdir())) == 5


def test_keep_previous_counts_up(tmp_path):
    path = tmp_path / "record.json"
    keep_previous(path)  # nothing there: nothing happens
    for text in ("first", "second"):
        path.write_text(text)
        keep_previous(path)
    assert not path.exists()
    assert [(tmp_path / f"record.{n}.json").read_text() for n in (1, 2)] == ["first", "second"]


def test_clock_that_is_set_back_takes_no_seconds(tiny_cfg, tmp_path, monkeypatch):
    with RunRecord(tmp_path / "r.json", tiny_cfg) as record:
        hook = WallTimeHook()
        monkeypatch.setattr(time, "time", lambda: 0.0)  # 1970
    assert 0 <= record.facts["wall_seconds"] < 3600 and 0 <= hook.state_dict()["seconds"] < 3600


def test_output_dir_that_can_be_made_is_not_made_yet(tmp_path, monkeypatch):
    check_output_dir(tmp_path)
    check_output_dir(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    check_output_dir(Path("a/b"))
    assert list(tmp_path.iterdir()) == []


def test_output_dir_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="OUTPUT_DIR .*file/run: .*file is a file"):
        check_output_dir(tmp_path / "file" / "run")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write whatever the mode bits say
    with pytest.raises(SetupError, match=f"OUTPUT_DIR {tmp_path}/run: {tmp_path} is not writable"):
        check_output_dir(tmp_path / "run")


def test_record_is_strict_json_from_the_start(tiny_cfg, tmp_path):
    with RunRecord(tmp_path / "r.json", tiny_cfg, command="train") as record:
        assert json.loads((tmp_path / "r.json").read_text())["status"] == "running"
        record.update(results={"bbox": {"AP": math.nan, "AP50": 12.5}}, shape=(2, 3))
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["results"] == {"bbox": {"AP": None, "AP50": 12.5}} and facts["shape"] == [2, 3]
    assert facts["status"] == "finished" and facts["command"] == "train"
    assert facts["git"] is None or len(facts["git"]["commit"]) == 40


@pytest.fixture
def evaluated_set():
    """Registers empty sets by (name, evaluator_type) and forgets them afterwards."""
    names = []

    def register(name, **metadata):
        DatasetCatalog.register(name, lambda: [])
        MetadataCatalog.get(name).set(thing_classes=["a"], **metadata)
        names.append(name)

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_evaluator_fits_the_data_set(tiny_cfg, tmp_path, evaluated_set):
    evaluated_set("without_type")
    (tmp_path / "without_type_coco_format.json").write_text("stale")
    assert isinstance(build_evaluator(tiny_cfg, "without_type", str(tmp_path)), COCOEvaluator)
    assert (tmp_path / "without_type_coco_format.json").read_text() != "stale"


def test_unknown_evaluator_type_is_an_error(tiny_cfg, tmp_path, evaluated_set):
    evaluated_set("panoptic", evaluator_type="coco_panoptic_seg")
    with pytest.raises(SetupError, match=r"one of \['coco', 'lvis', 'pascal_voc'\], got 'coco_panoptic_seg'"):
        build_evaluator(tiny_cfg, "panoptic", str(tmp_path))


def test_read_coco_results_maps_ids_and_sorts(tmp_path, evaluated_set):
    evaluated_set("gaps", thing_dataset_id_to_contiguous_id={3: 0, 7: 1})
    found = [
        {"image_id": 5, "category_id": 3, "bbox": [1, 2, 10, 20], "score": 0.25},
        {"image_id": 5, "category_id": 7, "bbox": [0, 0, 4, 4], "score": 0.5},
    ]
    (tmp_path / "results.json").write_text(json.dumps(found))
    records = [{"image_id": 5, "height": 40, "width": 30}, {"image_id": 6, "height": 8, "width": 8}]
    first, second = read_coco_results(tmp_path / "results.json", "gaps", records)
    assert first.pred_classes.tolist() == [1, 0] and first.scores.tolist() == [0.5, 0.25]
    torch.testing.assert_close(first.pred_boxes.tensor[1], torch.tensor([1.0, 2, 11, 22]))
    assert len(second) == 0 and second.image_size == (8, 8)


def test_scoring_package_is_the_class_where_no_package_is_named():
    evaluator = PascalVOCDetectionEvaluator.__new__(PascalVOCDetectionEvaluator)  # without its files
    assert scoring_package(evaluator) == "PascalVOCDetectionEvaluator"


def test_record_adds_the_seconds_of_earlier_parts(tiny_cfg, tmp_path):
    with RunRecord(tmp_path / "r.json", tiny_cfg) as record:
        record.earlier_seconds = 1000.0
    assert json.loads((tmp_path / "r.json").read_text())["wall_seconds"] >= 1000.0
