"""Config and data set against each other: what works and is probably not meant."""

import re

import pytest
from tiny_coco import HEIGHT, make_coco

from retina_plugin.data.checks import check_datasets, check_sets
from retina_plugin.data.training_sense import find_doubtful
from retina_plugin.findings import NOTE, WARNING

pytest_plugins = ("tiny_sets",)


@pytest.fixture
def sensible(cfg, register):
    """A config that fits the tiny set: nothing to find. 20 boxes of a class, so that none is rare."""
    content = make_coco()
    content["annotations"] = [
        {"id": i, "image_id": 1 + i % 2, "category_id": (5, 7)[i // 20], "bbox": [i % 20, 2, 10 + i // 20, 8],
         "area": 80, "iscrowd": 0}
        for i in range(1, 40)
    ]  # fmt: skip
    cfg.DATASETS.TEST = ("tiny_val",)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (HEIGHT, 40), HEIGHT
    cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 0.00125, 2, 100, (80,)
    cfg.SOLVER.WARMUP_ITERS, cfg.TEST.EVAL_PERIOD = 10, 50
    return cfg, content


def find(cfg, register, content):
    register(content)
    register(content, "tiny_val")
    contents = {}
    assert list(check_sets(cfg, contents, train=True, open_images=False)) == []
    return find_doubtful(cfg, contents)


def test_find_doubtful_finds_nothing_in_a_sensible_config(sensible, register):
    cfg, content = sensible
    assert find(cfg, register, content) == []


@pytest.mark.parametrize(
    ("key", "value", "check", "severity", "text"),
    [
        ("SOLVER.MAX_ITER", 1, "schedule-short", WARNING, "x IMS_PER_BATCH 1 shows 0.50 of the training images"),
        ("SOLVER.MAX_ITER", 401, "schedule-long", NOTE, "401 x IMS_PER_BATCH 2 shows each training image 401 times"),
        ("SOLVER.WARMUP_ITERS", 51, "warmup-long", WARNING, "WARMUP_ITERS 51 is over half of SOLVER.MAX_ITER 100"),
        ("SOLVER.BASE_LR", 0.0001, "lr-low", WARNING, "0.0001 is low for IMS_PER_BATCH 2: .* gives 0.00125"),
        ("TEST.EVAL_PERIOD", 0, "evaluated-at-end", NOTE, "scored at its end only"),
        ("TEST.DETECTIONS_PER_IMAGE", 19, "detections-few", WARNING, r"1 of 2 images have more boxes \(up to 20\)"),
        ("INPUT.MIN_SIZE_TRAIN", (61,), "images-enlarged", NOTE, "enlarges half of the training images 2.0 times"),
        ("INPUT.MIN_SIZE_TEST", 57, "test-size-apart", WARNING, "scales test images by 1.90, but .* 1.00 to 1.32"),
        ("INPUT.MIN_SIZE_TEST", 41, "test-size-outside", NOTE, "41 is above the largest side of training, 40 of"),
        ("INPUT.MIN_SIZE_TEST", 29, "test-size-outside", NOTE, "29 is below the smallest side of training, 30 of"),
        ("INPUT.MIN_SIZE_TRAIN", (14,), "box-tiny", WARNING, r"39 of 39 boxes \(100.0 %\) have a side under 4 px"),
    ],
)
def test_find_doubtful_finds_what_a_key_provokes(sensible, register, key, value, check, severity, text):
    cfg, content = sensible
    if check == "schedule-short":
        cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = 1, 0.000625
        cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS = 0, ()
    elif key == "INPUT.MIN_SIZE_TRAIN":
        cfg.INPUT.MIN_SIZE_TEST = value[0]
    cfg.merge_from_list([key, value])
    (found,) = find(cfg, register, content)
    assert (found.check, found.severity, found.where.startswith((key, "tiny"))) == (check, severity, True)
    assert re.search(text, found.what), found.what
    assert found.remedy


@pytest.mark.parametrize(
    ("change", "check", "severity", "text"),
    [
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 10, 8]), "box-twice", WARNING, "boxes repeat a box"),
        (lambda c: c["annotations"][20].update(bbox=[1, 2, 10, 8]), "box-two-classes", NOTE, "a box of another"),
        (lambda c: [a.update(image_id=1) for a in c["annotations"]], "image-without-boxes", NOTE, "1 of 2 images have"),
        (lambda c: c["annotations"].__delitem__(slice(25, None)), "class-rare", NOTE, "10 boxes: dog"),
    ],
    ids=["box-twice", "box-two-classes", "image-without-boxes", "class-rare"],
)  # fmt: skip
def test_find_doubtful_finds_what_annotations_provoke(sensible, register, change, check, severity, text):
    cfg, content = sensible
    change(content)
    for annotation in content["annotations"]:
        if check.startswith("box-tw"):
            annotation["image_id"] = 1
    if check.startswith("box-tw"):
        content["images"] = content["images"][:1]
        cfg.SOLVER.MAX_ITER = 50
        cfg.SOLVER.STEPS = (40,)
    found = [f for f in find(cfg, register, content) if f.where == "tiny_train"]
    assert [(f.check, f.severity) for f in found] == [(check, severity)]
    assert re.search(text, found[0].what), found[0].what
    assert found[0].places and {"file"} <= set(found[0].places[0])


def test_crops_count_before_the_resize(sensible, register):
    cfg, content = sensible
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [10, 10]
    found = {f.check: f for f in find(cfg, register, content)}
    # 40 px from crops of 10: 4 times. Test images stay as they are.
    assert "enlarges half of the training images 4.0 times" in found["images-enlarged"].what
    assert "by 1.00, but" in found["test-size-apart"].what and "3.00 to 4.00" in found["test-size-apart"].what


def test_a_run_warns_at_its_start(sensible, register):
    cfg, content = sensible
    content["annotations"][1]["bbox"] = [1, 2, 10, 8]
    content["annotations"][1]["image_id"] = content["annotations"][0]["image_id"]
    cfg.DATASETS.TEST, cfg.TEST.EVAL_PERIOD = (), 0
    register(content)
    (warning,) = check_datasets(cfg, train=True).warnings
    assert warning == (
        "tiny_train: 1 of 39 boxes repeat a box of the same image and class. Delete the second one."
    )  # and no note


def test_check_sets_goes_on_behind_an_error(cfg, register):
    content = make_coco()
    content["annotations"][0]["bbox"] = [1, 2, 3]
    content["annotations"][1]["category_id"] = 6
    content["images"].append({"id": 9, "file_name": "9.jpg", "width": "wide", "height": 2})
    register(content)
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.DATASETS.TEST = ("absent",)
    contents = {}
    found = list(check_sets(cfg, contents, train=True, open_images=False))
    assert [(f.check, f.where) for f in found] == [
        ("data-unusable", "absent"),
        ("record-unusable", "tiny_train"),
        ("classes-differ", "tiny_train"),
        ("class-without-boxes", "tiny_train"),
    ]
    texts = [place["value"] for place in found[1].places]
    assert len(texts) == 3 and "width above 0" in texts[0] and "bbox" in texts[1] and "category_id 6" in texts[2]
    assert len(contents["tiny_train"].boxes) == 1
