"""Data sets by path, and the number of classes taken from them."""

import json
import logging
import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.data.coco import class_names_in_order, read_coco_json
from retina_plugin.data.register import fill_num_classes, register_config_datasets
from retina_plugin.errors import SetupError


@pytest.fixture(autouse=True)
def clean_catalog():
    yield
    for name in ("custom_train", "custom_val", "no_classes"):
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog:
                catalog.remove(name)


def write_json(path, names=("cat", "dog", "cow")) -> str:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 10, "width": 20}],
        # The ids fall, so that the order by id is not the order in the file.
        "categories": [{"id": 9 - i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 9, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0},
        ],
    }
    path.write_text(json.dumps(content))
    return str(path)


def make_cfg(**keys):
    cfg = get_retina_cfg()
    for key, value in keys.items():
        cfg.DATASETS[key] = value
    return cfg


def test_register_config_datasets_without_paths_changes_nothing():
    cfg = make_cfg(TRAIN=("a",), TEST=("b",))
    register_config_datasets(cfg)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("a",), ("b",))
    assert "custom_train" not in DatasetCatalog


def test_register_config_datasets_registers_both_splits(tmp_path):
    train, val = write_json(tmp_path / "train.json"), write_json(tmp_path / "val.json")
    images = str(tmp_path)
    cfg = make_cfg(TRAIN_JSON=train, TRAIN_IMAGES=images, VAL_JSON=val, VAL_IMAGES=images, TRAIN=("coco_2017_train",))
    register_config_datasets(cfg)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("custom_train",), ("custom_val",))
    (record,) = DatasetCatalog.get("custom_train")
    assert record["file_name"] == str(tmp_path / "1.jpg")
    assert record["annotations"][0]["category_id"] == 2  # id 9 is the last of 7, 8, 9
    assert MetadataCatalog.get("custom_train").thing_classes == ["cow", "dog", "cat"]


def test_register_config_datasets_replaces_other_paths_and_keeps_equal_ones(tmp_path):
    first, second = write_json(tmp_path / "1.json"), write_json(tmp_path / "2.json", names=("one",))
    register_config_datasets(make_cfg(TRAIN_JSON=first, TRAIN_IMAGES=str(tmp_path)))
    DatasetCatalog.get("custom_train")
    register_config_datasets(make_cfg(TRAIN_JSON=first, TRAIN_IMAGES=str(tmp_path)))
    assert MetadataCatalog.get("custom_train").thing_classes == ["cow", "dog", "cat"]
    register_config_datasets(make_cfg(TRAIN_JSON=second, TRAIN_IMAGES=str(tmp_path)))
    DatasetCatalog.get("custom_train")
    assert MetadataCatalog.get("custom_train").thing_classes == ["one"]
    assert MetadataCatalog.get("custom_train").json_file == second


def test_register_config_datasets_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    register_config_datasets(make_cfg(VAL_JSON="~/val.json", VAL_IMAGES="~/images"))
    metadata = MetadataCatalog.get("custom_val")
    assert (metadata.json_file, metadata.image_root) == (str(tmp_path / "val.json"), str(tmp_path / "images"))


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"TRAIN_JSON": "a.json"}, r"TRAIN_JSON is 'a.json', but DATASETS.TRAIN_IMAGES is empty: set it to the folder"),
        ({"TRAIN_IMAGES": "img"}, r"TRAIN_IMAGES is 'img', but DATASETS.TRAIN_JSON is empty: set it to the COCO"),
        ({"VAL_JSON": "a.json"}, "DATASETS.VAL_IMAGES is empty"),
        ({"VAL_IMAGES": "img"}, "DATASETS.VAL_JSON is empty"),
    ],
)
def test_register_config_datasets_needs_json_and_images(keys, match):
    with pytest.raises(SetupError, match=match):
        register_config_datasets(make_cfg(**keys))


def test_fill_num_classes_counts_the_classes_of_the_data(tmp_path, caplog):
    cfg = make_cfg(TRAIN_JSON=write_json(tmp_path / "a.json"), TRAIN_IMAGES=str(tmp_path))
    cfg.MODEL.RETINANET.NUM_CLASSES = 0
    register_config_datasets(cfg)
    with caplog.at_level(logging.INFO):
        fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 3
    assert "the classes of custom_train: cow, dog, cat" in caplog.text


def test_fill_num_classes_keeps_a_number(tmp_path):
    cfg = make_cfg(TRAIN=("not_registered",))
    cfg.MODEL.RETINANET.NUM_CLASSES = 7
    fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 7


def test_fill_num_classes_takes_the_test_set_where_the_training_set_is_not(tmp_path):
    val = write_json(tmp_path / "val.json", names=("x", "y"))
    cfg = make_cfg(TRAIN_JSON="/no/such.json", TRAIN_IMAGES="/no", VAL_JSON=val, VAL_IMAGES=str(tmp_path))
    cfg.MODEL.RETINANET.NUM_CLASSES = 0
    register_config_datasets(cfg)
    fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2


def test_fill_num_classes_knows_detectron2s_own_sets():
    cfg = make_cfg(TRAIN=("coco_2017_train",))
    cfg.MODEL.RETINANET.NUM_CLASSES = 0
    fill_num_classes(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 80


def test_fill_num_classes_refuses_sets_that_do_not_tell():
    cfg = make_cfg()
    cfg.MODEL.RETINANET.NUM_CLASSES = 0
    with pytest.raises(SetupError, match="DATASETS.TRAIN and TEST are empty"):
        fill_num_classes(cfg)
    cfg.DATASETS.TRAIN = ("not_registered",)
    with pytest.raises(SetupError, match="'not_registered', which is not registered"):
        fill_num_classes(cfg)
    DatasetCatalog.register("no_classes", lambda: [])
    cfg.DATASETS.TRAIN = ("no_classes",)
    with pytest.raises(SetupError, match="no_classes has no class names"):
        fill_num_classes(cfg)


GOOD = {"images": [{"id": 1}], "categories": [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}], "annotations": []}


def test_class_names_in_order_sorts_by_id():
    assert class_names_in_order(GOOD) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "a.json is empty"),
        ('{"images": [,]}', r"not valid JSON at line 1, column 13"),
        ("[]", r"must hold one object with images, annotations and categories \(COCO format\), got a list"),
        ("3", "got int"),
        (json.dumps({**GOOD, "images": []}), "needs a list of images .* got an empty list"),
        (json.dumps({"categories": []}), "needs a list of images .* got none"),
        (json.dumps({**GOOD, "categories": []}), "needs a list of categories .* got an empty list"),
        (json.dumps({**GOOD, "categories": {"1": "a"}}), "needs a list of categories .* got no list"),
        (json.dumps({**GOOD, "categories": ["a"]}), "a category in .* needs a whole number as id and a name, got 'a'"),
        (json.dumps({**GOOD, "categories": [{"id": "1", "name": "a"}]}), "needs a whole number as id"),
        (json.dumps({**GOOD, "categories": [{"id": 1}]}), "and a name"),
        (json.dumps({**GOOD, "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}), "with the id 1"),
        (json.dumps({**GOOD, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}), "with the name 'a'"),
    ],
)
def test_read_coco_json_refuses(tmp_path, text, match):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(SetupError, match=match):
        read_coco_json("my_set", str(path))


def test_read_coco_json_says_where_it_looked(tmp_path):
    with pytest.raises(SetupError, match="my_set: .*/no.json does not exist. Set DETECTRON2_DATASETS .*TRAIN_JSON"):
        read_coco_json("my_set", str(tmp_path / "no.json"))
    with pytest.raises(SetupError, match=r"datasets/no.json \(/.*datasets/no.json\) does not exist"):
        read_coco_json("my_set", "datasets/no.json")
    with pytest.raises(SetupError, match="is a folder"):
        read_coco_json("my_set", str(tmp_path))
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match="is not text"):
        read_coco_json("my_set", str(tmp_path / "b.json"))


def test_read_coco_json_refuses_unreadable_file(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    path = write_json(tmp_path / "a.json")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SetupError, match="a.json cannot be read: Permission denied"):
        read_coco_json("my_set", path)
