"""COCO's metrics by hotcoco are those of pycocotools, and pycocotools steps in where hotcoco cannot."""

import copy
import json
import math
import sys

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from packaging.version import Version
from random_coco import CLASSES, random_set

from retina_plugin.evaluation import coco_evaluator as coco_scoring
from retina_plugin.evaluation.boxes import read_truth
from retina_plugin.evaluation.coco_evaluator import BoxEvaluator
from retina_plugin.evaluation.coco_scores import score
from retina_plugin.evaluation.evaluate import evaluate_detections
from retina_plugin.evaluation.predictions import read_detections

NAME = "scored_set"


class Kept:
    """Keeps the summarized evaluation, which Detectron2 drops."""

    def _derive_coco_results(self, coco_eval, *args, **kwargs):
        self.scored = coco_eval
        return super()._derive_coco_results(coco_eval, *args, **kwargs)


class Ours(Kept, BoxEvaluator):
    pass


class Theirs(Kept, COCOEvaluator):
    pass


@pytest.fixture
def score_both(tmp_path):
    """(COCO JSON, detections, limit=None, img_ids=None) to our evaluator and Detectron2's, both having evaluated."""

    def run(content, detections, limit=None, img_ids=None):
        path = tmp_path / "ground_truth.json"
        path.write_text(json.dumps(content))
        MetadataCatalog.get(NAME).set(json_file=str(path), thing_classes=[f"class {k}" for k in range(CLASSES)])
        ours = Ours(NAME, output_dir=None, max_dets_per_image=limit)
        theirs = Theirs(NAME, tasks=("bbox",), max_dets_per_image=limit, use_fast_impl=False)
        for evaluator in (ours, theirs):
            evaluator.reset()
            evaluator._predictions = [
                {
                    "image_id": image["id"],
                    "instances": [copy.copy(d) for d in detections if d["image_id"] == image["id"]],
                }
                for image in content["images"]
            ]
            evaluator.results = evaluator.evaluate(img_ids)["bbox"]
        return ours, theirs

    yield run
    MetadataCatalog.pop(NAME, None)


def assert_equal(ours, theirs):
    """Of 100, to 1e-6; the names and their order too."""
    assert list(ours.results) == list(theirs.results) and "AP50" in ours.results
    np.testing.assert_allclose(list(ours.results.values()), list(theirs.results.values()), rtol=0, atol=1e-6)
    if theirs.scored:  # without a detection Detectron2 scores nothing
        assert f"AP-class {CLASSES - 1}" in ours.results
        np.testing.assert_allclose(ours.scored.stats, theirs.scored.stats, rtol=0, atol=1e-6)
        for curve in ("precision", "recall", "scores"):
            np.testing.assert_allclose(ours.scored.eval[curve], theirs.scored.eval[curve], rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_hotcoco_gives_the_numbers_of_pycocotools(score_both, seed):
    ours, theirs = score_both(*random_set(seed))
    assert ours.package.startswith("hotcoco ") and 1 < theirs.results["AP"] < 99
    assert_equal(ours, theirs)


@pytest.mark.parametrize("limit", [1, 5, 10, 20, 300])
def test_other_limits_of_detections(score_both, limit):
    ours, theirs = score_both(*random_set(1), limit=limit)
    assert ours.package.startswith("hotcoco ") and theirs.results["AP"] > 0
    assert_equal(ours, theirs)


def test_a_part_of_the_images(score_both):
    ours, theirs = score_both(*random_set(2), img_ids=[1, 2, 5])
    _, whole = score_both(*random_set(2))
    assert theirs.results["AP"] != whole.results["AP"]
    assert_equal(ours, theirs)


@pytest.mark.parametrize("part", ["annotations", "detections"])
def test_nothing_to_score(score_both, part):
    content, detections = random_set(3)
    if part == "annotations":
        content["annotations"] = []
    ours, theirs = score_both(content, [] if part == "detections" else detections)
    assert math.isnan(ours.results["AP"])
    assert_equal(ours, theirs)


def test_what_the_metrics_do_not_read_may_be_anything(score_both):
    content, detections = random_set(4)
    content |= {"info": {"year": "unknown"}, "licenses": "none"}
    content["annotations"][0]["segmentation"] = "none"
    ours, theirs = score_both(content, detections)
    assert ours.package.startswith("hotcoco ")
    assert_equal(ours, theirs)


def test_pycocotools_scores_without_hotcoco(score_both, monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)  # an import of it fails
    ours, theirs = score_both(*random_set(0))
    assert ours.package.startswith("pycocotools ")
    assert_equal(ours, theirs)


def test_pycocotools_scores_beside_an_older_hotcoco(score_both, monkeypatch):
    monkeypatch.setattr(coco_scoring, "OLDEST", Version("1000"))
    ours, _ = score_both(*random_set(0))
    assert ours.package.startswith("pycocotools ")


@pytest.mark.parametrize("kind", ["image ids are text", "an annotation's id twice", "an annotation's id is 0"])
def test_pycocotools_scores_annotations_that_hotcoco_reads_otherwise(score_both, caplog, kind):
    content, detections = random_set(0, first_id=0 if kind == "an annotation's id is 0" else 1)
    if kind == "image ids are text":
        for entry in content["images"]:
            entry["id"] = str(entry["id"])
        for entry in content["annotations"] + detections:
            entry["image_id"] = str(entry["image_id"])
    elif kind == "an annotation's id twice":
        content["annotations"][4]["id"] = content["annotations"][2]["id"]
    ours, theirs = score_both(content, detections)
    assert ours.package.startswith("pycocotools ") and "pycocotools scores" in caplog.text
    assert_equal(ours, theirs)


def test_pycocotools_scores_predictions_that_hotcoco_refuses(score_both, caplog):
    content, detections = random_set(0)
    detections[3]["score"] = math.nan
    ours, theirs = score_both(content, detections)
    assert ours.package.startswith("pycocotools ") and "refuses the predictions" in caplog.text
    assert_equal(ours, theirs)


def test_a_set_without_annotations_is_not_scored(tmp_path):
    content, detections = random_set(0)
    del content["annotations"]
    (tmp_path / "test.json").write_text(json.dumps(content))
    MetadataCatalog.get(NAME).set(json_file=str(tmp_path / "test.json"))
    try:
        evaluator = BoxEvaluator(NAME, output_dir=None, max_dets_per_image=None)
        evaluator._predictions = [{"image_id": 0, "instances": detections[:1]}]
        assert evaluator.evaluate() == {}
    finally:
        MetadataCatalog.pop(NAME)


# One image: a plain box that is found exactly, and one marked difficult.
def difficult_set(*extra):
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0},
        {
            "id": 2,
            "image_id": 1,
            "category_id": 1,
            "bbox": [50, 50, 40, 40],
            "area": 1600,
            "iscrowd": 0,
            "difficult": 1,
        },
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": f"class {k}"} for k in range(CLASSES)],
    }
    boxes = [(annotations[0]["bbox"], 0.5), *extra]
    return content, [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in boxes]


@pytest.mark.parametrize(
    ("extra", "ap"),
    [
        ((), 100),  # the difficult object is not missed
        ((([50, 50, 40, 40], 0.9), ([51, 50, 40, 40], 0.8)), 100),  # neither right nor wrong, twice
        ((([55, 55, 10, 10], 0.9),), 50),  # inside it, but IoU 1/16: wrong, as it would not be in a crowd
        ((([0, 60, 20, 20], 0.9),), 50),
    ],
    ids=["unfound", "found_twice", "inside", "elsewhere"],
)
@pytest.mark.parametrize("limit", [None, 20])
def test_difficult_objects_are_ignored_by_the_rule_of_voc(score_both, tmp_path, extra, ap, limit):
    content, detections = difficult_set(*extra)
    ours, _ = score_both(content, detections, limit=limit)
    assert ours.results["AP"] == pytest.approx(ap)
    path = tmp_path / "found.json"
    path.write_text(json.dumps(detections))
    truth = read_truth(tmp_path / "ground_truth.json")
    result = evaluate_detections(truth, read_detections(path, truth), limit=limit or 100)
    assert [result.scores.summary["AP"], result.errors.ap50] == pytest.approx([ap, ap])
    assert result.errors.counts["missed"] == result.mistakes.missed.sum() == 0
    assert result.mistakes.wrong.sum() == (ap < 100) and result.confusion[-1, 0] == (ap < 100)


@pytest.mark.parametrize("first", [2**63, 2**64 + 1, 10**300, -(10**6)], ids=["2^63", "2^64", "10^300", "negative"])
def test_annotation_and_image_ids_of_any_size(score_both, tmp_path, first):
    content, detections = random_set(0)
    expected = score_both(copy.deepcopy(content), detections)[0].results["AP"]
    for annotation in content["annotations"]:
        annotation["id"] += first
    for record in content["images"]:
        record["id"] += first
        record["file_name"] = f"{record['id'] - first}.png"
    for entry in content["annotations"] + detections:
        entry["image_id"] += first
    ours, _ = score_both(content, detections)
    assert ours.results["AP"] == pytest.approx(expected, abs=1e-6)
    (tmp_path / "found.json").write_text(json.dumps(detections))
    truth = read_truth(tmp_path / "ground_truth.json")
    scores = score(truth, read_detections(tmp_path / "found.json", truth), limit=100)
    assert scores.summary["AP"] == pytest.approx(expected, abs=1e-6)
