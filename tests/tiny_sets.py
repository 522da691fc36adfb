"""Data sets of two tiny images, as fixtures: a test file has them with ``pytest_plugins = ("tiny_sets",)``."""

import copy
import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from PIL import Image
from tiny_coco import HEIGHT, WIDTH

from retina_plugin.config.keys import get_retina_cfg


@pytest.fixture
def clean_catalog():
    """Take out what a test has registered."""
    before = set(DatasetCatalog)
    yield
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
        if name in MetadataCatalog:
            MetadataCatalog.remove(name)


@pytest.fixture
def cfg():
    """A RetinaNet of two classes to be trained on tiny_train."""
    cfg = get_retina_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.RETINANET.NUM_CLASSES = 2
    cfg.DATASETS.TRAIN = ("tiny_train",)
    return cfg


@pytest.fixture
def register(tmp_path, clean_catalog):
    """register(content, name) writes the JSON and its images and registers them with Detectron2."""

    def register_set(content: dict, name: str = "tiny_train", *, write_images: bool = True):
        root = tmp_path / name
        root.mkdir()
        (root / "a.json").write_text(json.dumps(content))
        if write_images:
            for image in content["images"]:
                Image.new("RGB", (WIDTH, HEIGHT), (90, 10, 200)).save(root / image["file_name"])
        register_coco_instances(name, {}, str(root / "a.json"), str(root))
        return root

    return register_set


def make_records(root) -> list[dict]:
    Image.new("RGB", (WIDTH, HEIGHT), (90, 10, 200)).save(root / "1.png")
    annotation = {"bbox": [1, 2, 11, 10], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    return [{"file_name": str(root / "1.png"), "image_id": "a", "width": WIDTH, "height": HEIGHT,
             "annotations": [annotation]}]  # fmt: skip


@pytest.fixture
def register_records(tmp_path, clean_catalog):
    """register_records(path, value) registers one record with one box, with one value replaced."""

    def register_set(*path_and_value, class_names=("cat", "dog")):
        records = make_records(tmp_path)
        if path_and_value:
            *path, value = path_and_value
            node = records
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
        DatasetCatalog.register("tiny_train", lambda: copy.deepcopy(records))
        if class_names:
            MetadataCatalog.get("tiny_train").thing_classes = list(class_names)

    return register_set
