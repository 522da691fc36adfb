"""Whether the data sets of a config exist, fit each other and fit the number of classes."""

import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from tiny_coco import HEIGHT, WIDTH, changed, make_coco

from retina_plugin.data.checks import SetSummary, check_datasets
from retina_plugin.data.dataset_content import load_content
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_sets",)


def test_check_datasets_counts_a_good_set(cfg, register, caplog):
    register(make_coco())
    content = make_coco()
    content["annotations"].append(
        {"id": 4, "image_id": 2, "category_id": 5, "bbox": [0, 0, 0, 0], "area": 0, "iscrowd": 1}
    )
    content["images"].append({"id": 9, "file_name": "9.jpg", "width": WIDTH, "height": HEIGHT})
    register(content, "tiny_val")
    cfg.DATASETS.TEST = ("tiny_val",)
    with caplog.at_level(logging.INFO):
        summary = check_datasets(cfg, train=True)
    train, val = summary.sets["tiny_train"], summary.sets["tiny_val"]
    assert (train.images, train.images_with_annotations, train.boxes, train.class_names) == (2, 2, 3, ("cat", "dog"))
    assert (val.images, val.images_with_annotations, val.boxes) == (3, 2, 3)  # the crowd is not counted
    assert summary.warnings == []
    assert "tiny_train: 2 images, 2 of them with annotations, 3 boxes, 2 classes" in caplog.text


def test_check_datasets_looks_at_test_sets_alone_for_evaluation(cfg, register):
    register(make_coco(), "tiny_val")
    cfg.DATASETS.TEST = ("tiny_val",)
    assert list(check_datasets(cfg, train=False).sets) == ["tiny_val"]
    with pytest.raises(SetupError, match="tiny_train"):
        check_datasets(cfg, train=True)


def test_check_datasets_names_the_nearest_set(cfg, register):
    register(make_coco(), "tiny_trains")
    with pytest.raises(
        SetupError, match=r"'tiny_train', which is not registered; did you mean tiny_trains.*\?\n.*_JSON"
    ):
        check_datasets(cfg, train=True)
    cfg.DATASETS.TEST = ("zzzzzzzzzz",)
    with pytest.raises(SetupError, match=r"DATASETS.TEST names 'zzzzzzzzzz', which is not registered\.\n.*VAL_JSON"):
        check_datasets(cfg, train=False)


def test_check_datasets_needs_a_set(cfg):
    with pytest.raises(SetupError, match="DATASETS.TEST is empty, so there is nothing to evaluate"):
        check_datasets(cfg, train=False)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(SetupError, match="DATASETS.TRAIN is empty. .*DATASETS.TRAIN_PATH"):
        check_datasets(cfg, train=True)


def test_check_datasets_refuses_another_number_of_classes(cfg, register):
    register(make_coco())
    cfg.MODEL.RETINANET.NUM_CLASSES = 80
    match = r"NUM_CLASSES is 80, but tiny_train has 2 classes \(cat, dog\). Set MODEL.RETINANET.NUM_CLASSES 2, or 0"
    with pytest.raises(SetupError, match=match):
        check_datasets(cfg, train=True)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    assert check_datasets(cfg, train=True).warnings == []


@pytest.mark.parametrize(
    ("categories", "match"),
    [
        ([{"id": 5, "name": "dog"}, {"id": 7, "name": "cat"}], "the same names in another order"),
        (
            [{"id": 5, "name": "cat"}, {"id": 7, "name": "cow"}],
            "same classes in the same order, got only in tiny_train: dog; only in tiny_val: cow",
        ),
    ],
)
def test_check_datasets_refuses_a_test_set_of_other_classes(cfg, register, categories, match):
    register(make_coco())
    register(changed("categories", categories), "tiny_val")
    cfg.DATASETS.TEST = ("tiny_val",)
    with pytest.raises(SetupError, match=match):
        check_datasets(cfg, train=True)


def test_check_datasets_refuses_a_file_that_is_not_the_registered_set(cfg, register):
    register(make_coco())
    MetadataCatalog.get("tiny_train").thing_classes = ["person", "bicycle"]
    with pytest.raises(SetupError, match="has the classes cat, dog, but tiny_train is registered with person, bicycle"):
        check_datasets(cfg, train=True)


def test_check_datasets_warns_of_a_class_without_boxes(cfg, register):
    content = make_coco()
    del content["annotations"][1]
    register(content)
    (warning,) = check_datasets(cfg, train=True).warnings
    assert "no box of 1 class" in warning and "cat. Annotate it" in warning


def test_check_datasets_warns_where_train_and_test_share_images(cfg, register):
    register(make_coco())
    cfg.DATASETS.TEST = ("tiny_train",)
    (warning,) = check_datasets(cfg, train=True).warnings
    assert warning.startswith("2 images of tiny_train are in tiny_train too")


def test_check_datasets_counts_a_set_made_in_python(cfg, register_records):
    register_records()
    summary = check_datasets(cfg, train=True)
    assert summary.sets["tiny_train"] == SetSummary(1, 1, 1, ("cat", "dog"))
    content = load_content("tiny_train", for_training=True, for_test=False)
    assert content.boxes.tolist() == [[1, 2, 10, 8]]  # corners became sizes


@pytest.mark.parametrize(
    ("path_and_value", "match"),
    [
        (
            (0, "annotations", 0, "category_id", 2),
            r"category_id must be a whole number in \[0, 2\), got 2 \(image id 'a'",
        ),
        ((0, "annotations", 0, "category_id", -1), "category_id must be"),
        ((0, "annotations", 0, "bbox", [1, 2, 3]), r"bbox must be 4 numbers, got \[1, 2, 3\]"),
        ((0, "annotations", 0, "bbox", None), "bbox must be 4 numbers, got None"),
        ((0, "annotations", 0, "bbox_mode", None), "bbox_mode must be XYXY_ABS or XYWH_ABS, got None"),
        ((0, "annotations", 0, "bbox", [11, 2, 1, 10]), "have a negative width or height"),
        ((0, "annotations", []), "no image has an annotation"),
        ((0, "width", "40"), "width must be a number, got '40'"),
        ((0, "width", 41), "is 40x30, but on record 41x30"),
        ((0, "file_name", "no.png"), "no.png is missing"),
        ((0, 5), "a record must be a dict"),
    ],
)
def test_check_datasets_refuses_records_made_in_python(cfg, register_records, path_and_value, match):
    register_records(*path_and_value)
    with pytest.raises(SetupError, match=match):
        check_datasets(cfg, train=True)


def test_check_datasets_counts_classes_of_a_set_that_does_not_tell(cfg, register_records):
    register_records(class_names=None)
    assert check_datasets(cfg, train=True).sets["tiny_train"].class_names == ()
    cfg.MODEL.RETINANET.NUM_CLASSES = 1
    with pytest.raises(SetupError, match="NUM_CLASSES is 1, but tiny_train has category_id 1. Set .*NUM_CLASSES 2"):
        check_datasets(cfg, train=True)


def test_check_datasets_passes_on_what_a_loader_says(cfg):
    def fail(error):
        raise error

    cfg.DATASETS.TRAIN = ("tiny_a",)
    DatasetCatalog.register("tiny_a", lambda: fail(SetupError("make it with this command.")))
    with pytest.raises(SetupError, match=r"^make it with this command\.$"):
        check_datasets(cfg, train=True)
    DatasetCatalog["tiny_a"] = lambda: fail(KeyError("x"))
    with pytest.raises(SetupError, match="data set tiny_a cannot be loaded: KeyError: 'x'"):
        check_datasets(cfg, train=True)
    DatasetCatalog["tiny_a"] = lambda: fail(FileNotFoundError("x.json"))
    with pytest.raises(SetupError, match="cannot be loaded: FileNotFoundError: x.json.\nSet DETECTRON2_DATASETS"):
        check_datasets(cfg, train=True)
    DatasetCatalog["tiny_a"] = list
    with pytest.raises(SetupError, match="data set tiny_a is empty"):
        check_datasets(cfg, train=True)
    DatasetCatalog["tiny_a"] = lambda: iter([])
    (warning,) = check_datasets(cfg, train=True).warnings
    assert "its content is not checked" in warning


def test_check_datasets_explains_a_missing_set_of_detectron2(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg.DATASETS.TRAIN = ("coco_2017_train",)
    with pytest.raises(
        SetupError, match="coco_2017_train: .*instances_train2017.json.* does not exist. Set DETECTRON2"
    ):
        check_datasets(cfg, train=True)
