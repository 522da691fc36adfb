"""``retina convert``: what it writes and says."""

import json
from pathlib import Path

import pytest
from own_folders import SCENES, WRITERS, write_csv, write_voc, write_yolo

from retina_cli.main import main


@pytest.mark.parametrize("kind", WRITERS)
def test_convert_writes_coco_json_that_reads_back_the_same(tmp_path, kind):
    root = WRITERS[kind](tmp_path / "set")
    assert main(["convert", str(root), "--output", str(tmp_path / "new/a.json")]) == 0
    content = json.loads((tmp_path / "new/a.json").read_text())
    images = {"csv": root, "labelme": root, "voc": root / "JPEGImages"}.get(kind, root / "images")
    again = ["convert", str(tmp_path / "new/a.json"), "--images", str(images), "--output", str(tmp_path / "b.json")]
    assert main(again) == 0
    assert json.loads((tmp_path / "b.json").read_text()) == content
    assert len(content["annotations"]) == 6


def test_convert_tells_counts_and_what_was_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_voc(Path("set"))
    file = Path("set/Annotations/d.xml")
    file.write_text(file.read_text().replace("<xmax>50</xmax>", "<xmax>90</xmax>"))
    assert main(["convert", "set", "--output", "all.json"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "all.json: 5 images (1 without objects), 6 boxes",
        "  cat        2",
        "  dog        4",
        "note: box clipped: it sticks out of its image (set/Annotations/d.xml:4)",
        "images: set/JPEGImages",
    ]


def test_convert_splits(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_yolo(Path("set"))
    assert main(["convert", "set", "--output", "all.json", "--split", "0.4", "--seed", "3"]) == 0
    parts = [json.loads(Path(name).read_text()) for name in ("all_train.json", "all_val.json")]
    assert [len(part["images"]) for part in parts] == [3, 2]
    assert parts[0]["categories"] == parts[1]["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    assert sorted(i["file_name"] for part in parts for i in part["images"]) == [name for name, _, _ in SCENES]


def test_convert_splits_by_a_column(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = write_csv(tmp_path).joinpath("boxes.csv").read_text().splitlines()
    camera = {"a": "n", "b": "n", "c": "s", "d": "s", "e": "s"}
    lines = [f"{row},{camera[row.split('/')[1][0]]}" for row in rows]
    Path("boxes.csv").write_text("\n".join(["path,x1,y1,x2,y2,class,camera", *lines]))
    assert main(["convert", "boxes.csv", "--output", "o.json", "--split", "0.4", "--group", "column:camera"]) == 0
    val = {i["file_name"][9] for i in json.loads(Path("o_val.json").read_text())["images"]}
    assert val in ({"a", "b"}, {"c", "d", "e"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no"], "no does not exist: give the folder or file of the annotations."),
        (["set", "--format", "pascal"],
         "The format must be auto or one of coco, voc, yolo, labelme, csv, got 'pascal'."),
        (["set", "--format", "voc"], "set has no XML files (Pascal VOC)."),
        (["set", "--subset", "test"], "--subset must be train or val, got 'test'."),
        (["set", "--images", "no"], "The image folder no does not exist."),
        (["set", "--split", "3"], "The part for validation must be in (0, 1), got 3."),
        (["set", "--output", "set/data.yaml/a.json"], "set/data.yaml/a.json cannot be written: File exists."),
    ],
)  # fmt: skip
def test_convert_refuses(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    write_yolo(Path("set"))
    assert main(["convert", "--output", "a.json", *words]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not Path("a.json").exists()
