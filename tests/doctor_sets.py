"""A set that ``retina doctor`` says nothing against: ``pytest_plugins = ("tiny_sets", "doctor_sets")``."""

import json

import pytest
from tiny_pictures import HEIGHT, WIDTH, draw

from retina_cli.main import main

CONFIG = """
_BASE_: "{base}"
DATASETS: {{TRAIN_JSON: {root}/train.json, TRAIN_IMAGES: {root}, VAL_JSON: {root}/val.json, VAL_IMAGES: {root}}}
DATALOADER: {{NUM_WORKERS: 0}}
INPUT: {{MIN_SIZE_TRAIN: [64, 80], MAX_SIZE_TRAIN: 120, MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 120}}
MODEL: {{DEVICE: cpu, RETINANET: {{NUM_CLASSES: 2, NUM_CONVS: 1}}, BACKBONE: {{FREEZE_AT: 0}}}}
OUTPUT_DIR: {root}/output
SOLVER: {{IMS_PER_BATCH: 2, MAX_ITER: 20, WARMUP_ITERS: 2}}
TEST: {{EVAL_PERIOD: 10}}
"""


def make_split(first: int, images: int, boxes: int) -> dict:
    """COCO content of ``images`` images with as many boxes each, of 16 to 35 px, all apart; classes in turn."""
    annotations = [
        {"image_id": first + i, "category_id": 1 + b % 2, "bbox": [3 * b, b, 16 + b, 20 + b], "area": 400, "iscrowd": 0}
        for i in range(images)
        for b in range(boxes)
    ]
    for number, annotation in enumerate(annotations):
        annotation["id"] = 1000 * first + number + 1
    records = [
        {"id": first + i, "file_name": f"{first + i}.png", "width": WIDTH, "height": HEIGHT} for i in range(images)
    ]
    return {
        "images": records,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


@pytest.fixture
def good_set(tmp_path, clean_catalog, pytestconfig):
    """good_set(change) writes config, train.json, val.json and images, the two contents changed before; the config."""

    def make(change=lambda train, val: None) -> str:
        train, val = make_split(1, images=4, boxes=10), make_split(11, images=2, boxes=4)
        for content in (train, val):
            for image in content["images"]:
                draw(image["id"]).save(tmp_path / image["file_name"])
        change(train, val)
        (tmp_path / "train.json").write_text(json.dumps(train))
        (tmp_path / "val.json").write_text(json.dumps(val))
        base = pytestconfig.rootpath / "configs" / "retina_R18_FPN_scratch.yaml"
        (tmp_path / "my.yaml").write_text(CONFIG.format(base=base, root=tmp_path))
        return str(tmp_path / "my.yaml")

    return make


@pytest.fixture
def examine(tmp_path, capsys):
    """examine(config, *words) runs the command: exit status, findings as (severity, check, where), JSON, text."""

    def run(config: str, *words: str, fit: bool = False):
        output = tmp_path / "doctor.json"
        flags = ["--jobs", "1", "--no-cache", *([] if fit else ["--no-fit"])]
        status = main(["doctor", "--config-file", config, "--json", str(output), *flags, *map(str, words)])
        content = json.loads(output.read_text()) if output.exists() else {}
        output.unlink(missing_ok=True)
        # What the machine lacks is another test's.
        found = [f for f in content.get("findings", []) if f["check"] not in ("detectron2-operators", "pkg-resources")]
        return status, found, content, capsys.readouterr()

    return run
