"""What ``retina predict`` wrote, judged against a ground truth: images by file name, classes by name."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tiny_coco import HEIGHT, WIDTH, make_coco

from retina_plugin.apps.predict.predictor import Detections
from retina_plugin.apps.predict.result_files import ResultFiles
from retina_plugin.errors import SetupError
from retina_plugin.evaluation.boxes import read_truth
from retina_plugin.evaluation.predicted_files import match_names
from retina_plugin.evaluation.predictions import read_detections

HEAD = "file,label,score,x1,y1,x2,y2\n"
BOXES = {"1.jpg": [([1, 2, 11, 10], "dog", 0.9), ([5, 5, 14, 14], "cat", 0.8)], "2.jpg": [([0, 0, 40, 30], "dog", 0.7)]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("truth.json").write_text(json.dumps(make_coco()))
    return tmp_path


def predict(boxes=BOXES, classes=("dog", "cat"), size=(HEIGHT, WIDTH), threshold=0.05, frame=None):
    """Write what retina predict writes of these detections: file name -> (XYXY, class, score)."""
    files = ResultFiles(Path("found"), tuple(classes), overwrite=True)
    for name, found in boxes.items():
        files.add(
            name,
            Detections(
                boxes=np.array([box for box, *_ in found], dtype=np.float32).reshape(-1, 4),
                scores=np.array([score for *_, score in found], dtype=np.float32),
                classes=np.array([classes.index(label) for _, label, _ in found], dtype=np.int64),
                class_names=tuple(classes),
                image_size=size,
            ),
            frame,
        )
    files.write({"score_threshold": threshold})


def read(kind="json"):
    return read_detections(Path("found", f"predictions.{kind}"), read_truth("truth.json"))


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_they_are_the_same_detections_as_by_ids(folder, kind):
    predict()
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 1 - a["id"] / 10}
        for a in make_coco()["annotations"]
    ]
    Path("results.json").write_text(json.dumps(results))
    by_id, by_name = read_detections("results.json", read_truth("truth.json")), read(kind)
    for field in ("images", "classes", "boxes", "scores"):
        np.testing.assert_allclose(getattr(by_name, field), getattr(by_id, field), atol=1e-3)


@pytest.mark.parametrize("kind", ["json", "csv"])
@pytest.mark.parametrize(
    "rename", [str.upper, "val/{}".format, "a\\b\\{}".format, "./{}".format, "/abs/images/{}".format]
)
def test_names_match_by_their_files(folder, kind, rename):
    predict({rename(name): found for name, found in BOXES.items()})
    assert read(kind).images.tolist() == [0, 0, 1]


def test_names_of_one_file_in_two_folders():
    known = ["a/x.jpg", "b/x.jpg", "b/\u00e9.png"]
    assert match_names(["set/a/x.jpg", "B\\X.JPG", unicodedata.normalize("NFD", "\u00e9.png")], known) == {
        "set/a/x.jpg": 0, "B\\X.JPG": 1, unicodedata.normalize("NFD", "\u00e9.png"): 2,
    }  # fmt: skip
    assert match_names(["x.jpg", "c/x.jpg", "y.jpg"], known) == {}


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_classes_match_by_name_and_others_are_left_out(folder, caplog, kind):
    predict(BOXES | {"2.jpg": [([0, 0, 9, 9], "bird", 0.9)]}, classes=("bird", "cat", "dog"))
    found = read(kind)
    assert found.classes.tolist() == [1, 0]
    assert "1 x detection of a class that truth.json does not have (bird), left out" in caplog.text
    predict({"1.jpg": [([1, 2, 11, 10], " Dog", 0.9)], "2.jpg": []}, classes=(" Dog",))
    assert read(kind).classes.tolist() == [1]


def test_images_without_detections_and_of_other_names(folder, caplog):
    predict(BOXES | {"2.jpg": [], "more.jpg": BOXES["1.jpg"]})
    assert len(read()) == 2 and "1 x image that is not in truth.json (more.jpg), left out" in caplog.text
    predict({"1.jpg": BOXES["1.jpg"]})
    assert len(read("csv")) == 2  # a CSV file lists no image without detections


def test_no_detection_at_all(folder):
    predict({"1.jpg": [], "2.jpg": []})
    assert len(read()) == len(read("csv")) == 0


def test_a_high_threshold_is_said(folder, caplog):
    predict(threshold=0.5)
    read()
    assert "no detection with a score below 0.5" in caplog.text and "--score 0.05" in caplog.text


@pytest.mark.parametrize(
    "changes, kind, message",
    [
        ({"boxes": {"1.jpg": BOXES["1.jpg"]}}, "json",
         "for 1 of the 2 images of truth.json.*Without predictions: 2.jpg"),
        ({"boxes": {"x.jpg": BOXES["1.jpg"], "y.jpg": []}}, "json", "for 0 of the 2 images.*predicted: x.jpg, y.jpg"),
        ({"boxes": {"x.jpg": BOXES["1.jpg"]}}, "csv", "for 0 of the 2 images.*predicted: x.jpg"),
        ({"boxes": BOXES | {"a/1.jpg": []}}, "json", "1.jpg and a/1.jpg both match 1.jpg"),
        ({"size": (60, 80)}, "json", "1.jpg has 80 x 60 pixels, and 40 x 30 in truth.json"),
        ({"frame": 0}, "json", "predicted: 1.jpg, frame 0"),
        ({"frame": 0}, "csv", "predicted: 1.jpg, frame 0"),
        ({"classes": ("0", "1"), "boxes": {"1.jpg": [([0, 0, 9, 9], "1", 0.5)], "2.jpg": []}}, "json",
         "has the classes 1, and truth.json has cat, dog: none matches"),
    ],
)  # fmt: skip
def test_what_does_not_match_is_refused(folder, changes, kind, message):
    predict(**changes)
    with pytest.raises(SetupError, match=message):
        read(kind)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "", "has no column file"),
        ("a.csv", "file,label,score,x1,y1,x2\n", "has no column y2"),
        ("a.csv", f"{HEAD}1.jpg,dog,0.5,1,1,4\n", "a.csv:2: score, x1, y1, x2 and y2 must be numbers"),
        ("a.csv", f"{HEAD}1.jpg,dog,high,1,1,4,4\n", "a.csv:2: score"),
        ("a.csv", f"{HEAD}1.jpg,dog,nan,1,1,4,4\n", "detection 1 must have a finite number as score"),
        ("a.csv", f"{HEAD}1.jpg,dog,0.5,4,1,1,4\n", "detection 1 must have bbox"),
        ("a.csv", b"file,\xe9\x00\xff", "is not UTF-8 text"),
        ("a.json", {"images": [], "categories": [], "annotations": [{"score": 1}]}, "form of retina predict"),
        ("a.json", {"images": [1], "categories": [], "annotations": []}, "form of retina predict"),
        ("a.json", {"images": [{"id": [1]}], "categories": [], "annotations": []}, "form of retina predict"),
    ],
)  # fmt: skip
def test_mistakes_in_the_file(folder, name, content, message):
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SetupError, match=message):
        read_detections(name, read_truth("truth.json"))


def test_other_units_are_said(folder, caplog):
    corners = [{"image_id": 1, "category_id": 7, "bbox": [20, 10, 35, 28], "score": 90}]
    Path("results.json").write_text(json.dumps(corners))
    read_detections("results.json", read_truth("truth.json"))
    assert "scores above 1, such as 90: are they in percent?" in caplog.text
    assert "1 of 1 boxes reach out of their image" in caplog.text and "look like x1, y1, x2, y2" in caplog.text
