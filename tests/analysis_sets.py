"""A COCO-format set of drawn rectangles, as fixtures: ``pytest_plugins = ("tiny_sets", "analysis_sets")``."""

import json

import pytest
from PIL import Image

CONFIG = """
_BASE_: "{base}"
INPUT: {{MIN_SIZE_TEST: 128, MAX_SIZE_TEST: 256}}
MODEL: {{RETINANET: {{NUM_CLASSES: 0}}}}
"""


@pytest.fixture
def make_set(tmp_path, clean_catalog):
    """make_set(boxes of each image, width, height) writes the files and returns their KEY VALUE pairs."""

    def make(boxes_of_images, width: int = 200, height: int = 100) -> list[str]:
        images = [
            {"id": 10 + i, "file_name": f"{i}.png", "width": width, "height": height}
            for i, _ in enumerate(boxes_of_images)
        ]
        annotations = [
            {"image_id": 10 + i, "category_id": 1, "bbox": list(map(float, box)), "iscrowd": 0, "area": box[2] * box[3]}
            for i, boxes in enumerate(boxes_of_images)
            for box in boxes
        ]
        for number, annotation in enumerate(annotations):
            annotation["id"] = 100 + number
        for image in images:
            Image.new("RGB", (width, height), (90, 120, 150)).save(tmp_path / image["file_name"])
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
        (tmp_path / "set.json").write_text(json.dumps(content))
        return ["DATASETS.TRAIN_JSON", str(tmp_path / "set.json"), "DATASETS.TRAIN_IMAGES", str(tmp_path)]

    return make


@pytest.fixture
def anchors_config(tmp_path, pytestconfig):
    """The paper's anchors on images of 128 pixels."""
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.format(base=pytestconfig.rootpath / "configs" / "retina_R50_FPN.yaml"))
    return str(path)
