"""Reading ground truth and predictions: what is read, and the sentence for each mistake in the files."""

import json

import pytest
from tiny_coco import changed, make_coco

from retina_plugin.apps.evaluate.inputs import check_same_truth
from retina_plugin.errors import SetupError
from retina_plugin.evaluation.boxes import read_truth
from retina_plugin.evaluation.predictions import read_detections


@pytest.fixture
def write(tmp_path):
    """write(content, name) puts JSON, or text as it is, into a file and returns its path."""

    def write_file(content, name="truth.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write_file


def detection(**changes):
    return {"image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 8], "score": 0.5} | changes


def test_truth_is_in_the_order_of_ids(write):
    content = make_coco()
    content["images"].reverse()
    content["annotations"][1]["iscrowd"] = 1
    truth = read_truth(write(content))
    assert (truth.image_ids, truth.file_names) == ([1, 2], ["1.jpg", "2.jpg"])
    assert (truth.class_ids, truth.class_names) == ([5, 7], ["cat", "dog"])
    assert truth.images.tolist() == [0, 0, 1] and truth.classes.tolist() == [1, 0, 1]
    assert truth.boxes[2].tolist() == [0, 0, 40, 30] and truth.crowd.tolist() == [False, True, False]
    assert truth.class_counts.tolist() == [0, 2]
    assert truth.sizes.tolist() == [[40, 30], [40, 30]]


def test_detections_are_by_image_and_score(write):
    entries = [detection(image_id=2, score=0.1), detection(score=0.2), detection(score=0.9, category_id=5)]
    found = read_detections(write(entries, "found.json"), read_truth(write(make_coco())))
    assert found.images.tolist() == [0, 0, 1] and found.scores.tolist() == [0.9, 0.2, 0.1]
    assert found.classes.tolist() == [0, 1, 1]
    assert found.best(1).scores.tolist() == [0.9, 0.1]


def test_no_detection_at_all(write):
    assert len(read_detections(write([], "found.json"), read_truth(write(make_coco())))) == 0


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "is empty"),
        ("{", "not valid JSON at line 1"),
        ([], "must hold one object with images, annotations and categories"),
        (changed("annotations", ...), "needs a list of annotations"),
        (changed("annotations", 0, "area", ...), "has no area"),
        (changed("annotations", 0, "bbox", [1, 2, 3]), "must have bbox"),
        (changed("annotations", 0, "bbox", [1, 2, -3, 4]), r"0 or more, got \[1.0, 2.0, -3.0, 4.0\]"),
        (changed("annotations", 0, "bbox", [1, 2, float("nan"), 4]), "bbox must be finite"),
        (changed("annotations", 0, "category_id", 9), "category_id 9"),
        (changed("annotations", 1, "id", 1), "more than one annotation with the id 1"),
        (changed("categories", 0, "name", "cat"), "more than one category with the name"),
    ],
)  # fmt: skip
def test_mistakes_in_the_ground_truth(write, content, message):
    with pytest.raises(SetupError, match=message):
        read_truth(write(content))


def test_missing_ground_truth(tmp_path):
    with pytest.raises(SetupError, match=r"none.json does not exist: give the COCO JSON"):
        read_truth(tmp_path / "none.json")


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "not valid JSON"),
        ("<html>", "not valid JSON"),
        (make_coco(), "must be a list of image_id.*got dict. This looks like ground truth"),
        ({"a": 1}, "must be a list of image_id.*got dict.$"),
        ([7], "detection 1 must be an object with image_id, category_id, bbox and score, got 7"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "detection 1 has no category_id"),
        ([detection(), detection(score="0.5")], "detection 2 must have a finite number as score, got '0.5'"),
        ([detection(score=float("nan"))], "finite number as score, got nan"),
        ([detection(score=10**400)], "finite number as score, got 1000"),
        ([detection(bbox=[1, 1, 4, 10**400])], "must have bbox"),
        ([detection(score=True)], "finite number as score, got True"),
        ([detection(bbox=[0, 0, 1])], r"must have bbox \[x, y, width, height\]"),
        ([detection(bbox=[0, 0, -1, 5])], "sides of 0 or more"),
        ([detection(bbox=[0, 0, float("inf"), 5])], "must have bbox"),
        ([detection(), detection(image_id=77)], "1 of 2 detections have an unknown image_id: 77 is not .*json .1, 2."),
        ([detection(image_id="1")], "unknown image_id: '1' is not among the images"),
        ([detection(image_id=[1])], "every image_id must be a number or text"),
        ([detection(category_id=0)], "unknown category_id: 0 is not among the categories of .*truth.json .5, 7."),
    ],
)
def test_mistakes_in_the_predictions(write, content, message):
    truth = read_truth(write(make_coco()))
    with pytest.raises(SetupError, match=message):
        read_detections(write(content, "found.json"), truth)


@pytest.mark.parametrize("name, message", [("none.json", "does not exist"), (".", "is a folder")])
def test_missing_predictions(write, tmp_path, name, message):
    with pytest.raises(SetupError, match=message):
        read_detections(tmp_path / name, read_truth(write(make_coco())))


@pytest.mark.parametrize(
    "content, message",
    [
        (changed("images", 1, "id", 9) | {"annotations": make_coco()["annotations"][:2]},
         "image ids; number 2 is 2 and 9"),
        (make_coco() | {"images": make_coco()["images"] + [dict(make_coco()["images"][0], id=3)]},
         "2 and 3 image ids; number 3 is none and 3"),
        (changed("categories", 0, "name", "wolf"), "classes; number 2 is 'dog' and 'wolf'"),
        (changed("images", 0, "file_name", "x.jpg"), "image files"),
        (make_coco() | {"annotations": make_coco()["annotations"][:2]}, "3 and 2 boxes"),
        (changed("annotations", 0, "bbox", [1, 2, 10, 9]), "other boxes"),
        (changed("annotations", 0, "iscrowd", 1), "other crowd"),
    ],
)  # fmt: skip
def test_different_ground_truth_is_refused(write, content, message):
    first = read_truth(write(make_coco()))
    check_same_truth(first, read_truth(write(make_coco(), "same.json")))
    with pytest.raises(SetupError, match=f"different ground truth.*{message}"):
        check_same_truth(first, read_truth(write(content, "other.json")))
