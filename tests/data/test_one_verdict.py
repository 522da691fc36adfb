"""One rule for boxes, images and records: a COCO file gets the same verdict by each route that it can take."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_folders import write_coco
from PIL import Image

from retina_cli.main import main
from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.data.checks import check_datasets, check_sets
from retina_plugin.data.dataset_content import DatasetContent
from retina_plugin.data.formats import read_boxes
from retina_plugin.data.register import fill_num_classes, register_config_datasets
from retina_plugin.errors import SetupError
from retina_plugin.findings import raise_first_error

pytest_plugins = ("tiny_sets",)

NAN = float("nan")
# 20 boxes, all apart, in one image of 64 x 48.
SCENES = [("a.png", (64, 48), [(3 * i, i, 3 * i + 5, i + 9, ("dog", "cat")[i % 2]) for i in range(19)]),
          ("b.png", (64, 48), [(1, 1, 30, 30, "dog")])]  # fmt: skip


def boxes(count: int, bbox: list[float], **values) -> Callable[[dict, Path], None]:
    """Give the first ``count`` annotations this box."""

    def spoil(content: dict, root: Path) -> None:
        for annotation in content["annotations"][:count]:
            annotation.update(bbox=bbox, **values)

    return spoil


def record(kind: str, key: str, value: object) -> Callable[[dict, Path], None]:
    return lambda content, root: content[kind][1].update({key: value})


def image(array: np.ndarray, name: str = "b.png", **options) -> Callable[[dict, Path], None]:
    def spoil(content: dict, root: Path) -> None:
        (root / "images/b.png").unlink()
        Image.fromarray(array).save(root / "images" / name, **options)
        content["images"][1]["file_name"] = name

    return spoil


def cut(content: dict, root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "images/b.png")
    data = (root / "images/b.png").read_bytes()
    (root / "images/b.png").write_bytes(data[: len(data) // 2])


def normalise(content: dict, root: Path) -> None:
    for annotation in content["annotations"]:
        annotation["bbox"] = [0.1, 0.2, 0.5, 0.5]


# What is wrong, how, and the words of the error; "" where the set is accepted.
CASES = {
    "nothing": (lambda content, root: None, ""),
    "box_nan": (boxes(1, [1, NAN, 5, 5]), "hold NaN or infinity"),
    "box_inverted": (boxes(1, [20, 20, -5, 5]), "have a negative width or height"),
    "boxes_normalised": (normalise, "lie within 0..1"),
    "box_empty_a_few": (boxes(2, [9, 9, 0, 5]), ""),
    "box_empty_many": (boxes(3, [9, 9, 0, 5]), "3 of 20 boxes .* have no width or height"),
    "box_outside_a_few": (boxes(2, [64, 9, 5, 5]), ""),
    "box_outside_many": (boxes(3, [64, 9, 5, 5]), "3 of 20 boxes .* lie outside their image"),
    "box_by_rounding_outside": (boxes(20, [-1, 9, 66, 40]), ""),
    "box_sticks_out": (boxes(20, [9, 9, 90, 5]), ""),
    "crowd_nan": (boxes(1, [1, NAN, 5, 5], iscrowd=1), ""),
    "crowds_empty": (boxes(10, [9, 9, 0, 5], iscrowd=1), ""),
    "image_16_bits": (image(np.full((48, 64), 900, np.uint16)), "b.png has more than 8 bits a channel"),
    "image_of_floats": (image(np.full((48, 64), 0.5, np.float32), "b.tif"), "b.tif has more than 8 bits a channel"),
    "image_gray": (image(np.full((48, 64), 9, np.uint8)), ""),
    "image_jfif": (image(np.full((48, 64), 9, np.uint8), "b.jfif"), ""),
    "image_missing": (lambda content, root: (root / "images/b.png").unlink(), "b.png is missing"),
    "image_empty": (lambda content, root: (root / "images/b.png").write_bytes(b""), "b.png is empty"),
    "image_cut_off": (cut, "b.png cannot be read"),
    "image_of_another_size": (image(np.zeros((40, 64, 3), np.uint8)), "64x40"),
    "record_bbox": (record("annotations", "bbox", [1, 2, 3]), "annotation 2 in .* must have bbox"),
    "record_category": (record("annotations", "category_id", 99), "annotation 2 in .* has category_id 99"),
    "record_image_id": (record("annotations", "image_id", 77), ""),
    "record_ignore": (record("annotations", "ignore", 1), "annotation 2 in .* has ignore 1"),
    "record_file_name": (record("images", "file_name", ""), "image 2 in .* has no file_name"),
    "record_image_id_twice": (record("images", "id", 0), "more than one image with the id 0"),
}  # fmt: skip


def by_keys(**keys) -> Callable[[Path, Path], None]:
    """A training with these keys, as far as its checks; ``{set}`` stands for the folder."""

    def check(root: Path, tmp_path: Path) -> None:
        check_datasets(make_cfg(root, tmp_path, **keys), train=bool(keys.keys() & {"TRAIN_PATH", "TRAIN_JSON"}))

    return check


def make_cfg(root: Path, tmp_path: Path, **keys):
    cfg = get_retina_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RETINANET.NUM_CLASSES = "FocalRetinaNet", 0
    for key, value in keys.items():
        cfg.DATASETS[key] = value.replace("{set}", str(root))
    register_config_datasets(cfg, tmp_path / "converted")
    fill_num_classes(cfg)
    return cfg


def by_doctor(root: Path, tmp_path: Path) -> None:
    cfg = make_cfg(root, tmp_path, TRAIN_JSON="{set}/boxes.json", TRAIN_IMAGES="{set}/images")
    contents: dict[str, DatasetContent] = {}
    # To their end, as the doctor does; what it then opens are the same image files.
    findings = list(check_sets(cfg, contents, train=True, open_images=True))
    raise_first_error(findings)


def by_convert(root: Path, tmp_path: Path, capsys) -> None:
    status = main(["convert", str(root / "boxes.json"), "--output", str(tmp_path / "out.json")])
    said = capsys.readouterr().err
    if status:
        raise SetupError(said)


ROUTES = {
    "TRAIN_PATH": by_keys(TRAIN_PATH="{set}"),
    "TRAIN_JSON": by_keys(TRAIN_JSON="{set}/boxes.json", TRAIN_IMAGES="{set}/images"),
    "VAL_PATH": by_keys(VAL_PATH="{set}"),
    "VAL_JSON": by_keys(VAL_JSON="{set}/boxes.json", VAL_IMAGES="{set}/images"),
    "read_boxes": lambda root, tmp_path: read_boxes(root),
    "doctor": by_doctor,
}


@pytest.mark.parametrize("route", [*ROUTES, "convert"])
@pytest.mark.parametrize("case", CASES)
def test_each_route_gives_the_same_verdict(tmp_path, clean_catalog, capsys, case, route):
    root = write_coco(tmp_path / "set", SCENES)
    content = json.loads((root / "boxes.json").read_text())
    spoil, words = CASES[case]
    spoil(content, root)
    (root / "boxes.json").write_text(json.dumps(content))
    check = ROUTES.get(route) or (lambda root, tmp_path: by_convert(root, tmp_path, capsys))
    if words:
        with pytest.raises(SetupError, match=words):
            check(root, tmp_path)
    else:
        check(root, tmp_path)


@pytest.mark.parametrize("route", ["TRAIN_PATH", "TRAIN_JSON", "VAL_PATH", "VAL_JSON"])
def test_boxes_that_are_left_out_are_counted_and_the_first_is_named(tmp_path, clean_catalog, caplog, route):
    root = write_coco(tmp_path / "set", SCENES)
    content = json.loads((root / "boxes.json").read_text())
    boxes(2, [9, 9, 0, 5])(content, root)
    (root / "boxes.json").write_text(json.dumps(content))
    ROUTES[route](root, tmp_path)
    (warning,) = [message for message in caplog.messages if "no width or height" in message]
    assert "2 of 20 boxes" in warning and "the first: " in warning and "annotation id 1, image id 0" in warning
