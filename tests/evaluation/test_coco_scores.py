"""The evaluation's AP is Detectron2's, and its ranges of size and shape are COCO's kind of range."""

import copy
import json
import math
import sys

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from hand_made_boxes import make_found, make_truth
from random_coco import CLASSES, random_set

from retina_plugin.evaluation.boxes import read_truth
from retina_plugin.evaluation.coco_scores import ASPECTS, SIZES, score
from retina_plugin.evaluation.predictions import read_detections

NAME = "judged_set"


@pytest.fixture
def read_set(tmp_path):
    """read_set(content, detections): truth and detections, by way of files."""

    def read(content, detections):
        for image in content["images"]:
            image["file_name"] = f"{image['id']}.jpg"
        (tmp_path / "truth.json").write_text(json.dumps(content))
        (tmp_path / "found.json").write_text(json.dumps(detections))
        truth = read_truth(tmp_path / "truth.json")
        return truth, read_detections(tmp_path / "found.json", truth)

    yield read
    MetadataCatalog.pop(NAME, None)


def detectron2_scores(path, content, detections, limit):
    MetadataCatalog.get(NAME).set(json_file=str(path), thing_classes=[f"class {k}" for k in range(CLASSES)])
    evaluator = COCOEvaluator(NAME, tasks=("bbox",), max_dets_per_image=limit, use_fast_impl=False)
    evaluator.reset()
    evaluator._predictions = [
        {"image_id": i["id"], "instances": [copy.copy(d) for d in detections if d["image_id"] == i["id"]]}
        for i in content["images"]
    ]
    return evaluator.evaluate()["bbox"]


@pytest.mark.parametrize("package", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("seed, limit", [(0, 100), (1, 20), (2, 300)])
def test_ap_is_that_of_detectron2(read_set, tmp_path, monkeypatch, package, seed, limit):
    if package == "pycocotools":
        monkeypatch.setitem(sys.modules, "hotcoco", None)  # an import of it fails
    content, detections = random_set(seed)
    truth, found = read_set(content, detections)
    ours = score(truth, found, limit=limit)
    expected = detectron2_scores(tmp_path / "truth.json", content, detections, None if limit == 100 else limit)
    assert ours.package.startswith(package) and 1 < expected["AP"] < 99
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        assert ours.summary[name] == pytest.approx(expected[name], abs=1e-6)
    for k in range(CLASSES):
        assert ours.class_ap[k] == pytest.approx(expected[f"AP-class {k}"], abs=1e-6)
    assert list(ours.summary)[6:9] == [f"AR@{n}" for n in sorted((1, 10, limit))]


def test_fewer_detections_than_ten():
    truth = make_truth([(0, 0, [0, 0, 10, 10]), (0, 0, [20, 0, 10, 10])])
    found = make_found([(0, 0, [0, 0, 10, 10], 0.9), (0, 0, [20, 0, 10, 10], 0.8)])
    scores = score(truth, found, limit=1)
    assert scores.summary["AP"] == pytest.approx(100 * 51 / 101)  # one of two
    assert scores.counted.tolist() == [True, False] and "AR@1" in scores.summary and "AR@10" not in scores.summary


def test_both_packages_match_the_same_boxes(read_set, monkeypatch):
    truth, found = read_set(*random_set(3))
    first = score(truth, found, limit=100)
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    second = score(truth, found, limit=100)
    assert first.package != second.package and first.right.any() and first.ignored.any()
    for name in ("counted", "right", "ignored"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for one, other in zip(first.sizes + first.aspects, second.sizes + second.aspects, strict=True):
        assert one.ap == pytest.approx(other.ap, abs=1e-9) and one.boxes == other.boxes


def test_sizes_and_shapes_of_known_boxes():
    # Found: 10 x 10 (side 10, square) and 20 x 80 (side 40, 1:4). Missed: 90 x 45 (side 63.6, 2:1).
    small, tall, wide = [0, 0, 10, 10], [0, 15, 20, 80], [5, 5, 90, 45]
    truth = make_truth([(0, 0, small), (1, 0, tall), (2, 0, wide)], images=3)
    scores = score(truth, make_found([(0, 0, small, 0.9), (1, 0, tall, 0.8)]), limit=100)
    assert {b.name: (b.boxes, b.ap) for b in scores.sizes if b.boxes} == {
        "8 to 16": (1, pytest.approx(100)),
        "32 to 64": (2, pytest.approx(100 * 51 / 101)),  # one of two found: recall 0.5
    }
    assert [(b.boxes, b.ap) for b in scores.aspects] == [
        (1, pytest.approx(100)), (0, None), (1, pytest.approx(100)), (1, 0.0), (0, None)
    ]  # fmt: skip
    assert len(scores.sizes) == len(SIZES) and len(scores.aspects) == len(ASPECTS)


def test_nothing_to_score():
    box = [0, 0, 10, 10]
    no_truth = score(make_truth([]), make_found([(0, 0, box, 0.9)]), limit=100)
    assert set(no_truth.summary.values()) == {None} and np.isnan(no_truth.class_ap).all()
    assert not no_truth.right.any() and no_truth.counted.all()
    no_detection = score(make_truth([(0, 0, box)]), make_found([]), limit=100)
    assert (no_detection.summary["AP"], no_detection.class_ap[0]) == (0.0, 0.0)
    assert math.isnan(no_detection.class_ap[1])  # a class without boxes


def test_boxes_without_height_have_a_shape():
    line = [0, 0, 10, 0]
    scores = score(make_truth([(0, 0, [0, 0, 10, 10])]), make_found([(0, 0, line, 0.9)]), limit=100)
    assert scores.summary["AP"] == 0.0
