"""Records of a COCO JSON file that cannot be used, or would be misread."""

import pytest
from tiny_coco import changed, make_coco

from retina_plugin.data.checks import check_datasets
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_sets",)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (changed("annotations", ...), "needs a list of annotations .* got none"),
        (changed("annotations", {}), "needs a list of annotations .* got dict"),
        (changed("annotations", 0, 3), r"annotation \d+ in .* must be an object with id, image_id"),
        (changed("annotations", 0, "bbox", ...), r"annotation \d+ in .* has no bbox: .*'id': 1"),
        (changed("annotations", 0, "image_id", ...), "has no image_id"),
        (changed("annotations", 0, "category_id", ...), "has no category_id"),
        (changed("annotations", 0, "id", ...), "has no id"),
        (changed("annotations", 0, "id", "a"), "must have a number as id, got 'a'"),
        (changed("annotations", 0, "image_id", []), r"must have a number as image_id, got \[\]"),
        (changed("annotations", 0, "category_id", 6), r"has category_id 6, .* categories 5, 7 \(annotation id 1\)"),
        (changed("annotations", 0, "bbox", []), r"must have bbox \[x, y, width, height\], got \[\]"),
        (changed("annotations", 0, "bbox", [1, 2, 3]), r"got \[1, 2, 3\] \(annotation id 1\)"),
        (changed("annotations", 0, "bbox", ["1", 2, 3, 4]), "must have bbox"),
        (changed("annotations", 0, "ignore", 1), r"has ignore 1.*use iscrowd 1 \(annotation id 1\)"),
        (changed("annotations", 1, "id", 1), r"more than one annotation with the id 1 \(1 such ids\)"),
        (changed("images", 1, "id", 1), r"more than one image with the id 1 \(1 such ids\)"),
        (changed("images", 1, "id", "2"), "image ids in .* must be all numbers or all text, got int, str"),
        (changed("images", 0, "id", ...), r"image \d+ in .* has no id"),
        (changed("images", 0, "file_name", 5), r"image \d+ in .* must have text as file_name, got 5 \(id 1\)"),
        (changed("images", 0, "width", ...), r"image \d+ in .* has no width"),
        (changed("images", 0, "height", "30"), r"must have a height above 0 as a number, got '30' \(id 1\)"),
        (changed("images", 0, "height", 0), "must have a height above 0"),
        (changed("images", 0, "x"), r"image \d+ in .* must be an object with id, file_name, width and height, got 'x'"),
        (changed("categories", 0, "name", "cat"), "more than one category with the name 'cat'"),
    ],
)
def test_check_datasets_refuses_records(cfg, register, content, match):
    register(content, write_images=False)
    with pytest.raises(SetupError, match=f"^tiny_train: .*{match}"):
        check_datasets(cfg, train=True)


def test_check_datasets_refuses_annotations_of_no_image(cfg, register):
    content = make_coco()
    for annotation in content["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    register(content)
    with pytest.raises(
        SetupError, match="3 of 3 annotations .* image_id '1': image_id must be the id of an image, .* 1"
    ):
        check_datasets(cfg, train=True)


def test_check_datasets_warns_of_a_stray_annotation(cfg, register):
    register(changed("annotations", 0, "image_id", 77))
    (warning,) = check_datasets(cfg, train=True).warnings
    assert "1 of 3 annotations" in warning and "id 1 with image_id 77" in warning


def test_check_datasets_refuses_what_the_evaluation_would_trip_over(cfg, register):
    register(changed("annotations", 2, "area", ...), "tiny_val")
    cfg.DATASETS.TEST = ("tiny_val",)
    with pytest.raises(SetupError, match=r"has no area \(COCO's evaluation needs it; area is width x height"):
        check_datasets(cfg, train=False)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("tiny_val",), ()
    assert check_datasets(cfg, train=True).warnings == []  # training does not read it


def test_check_datasets_lets_a_test_set_without_annotations_pass(cfg, register):
    register(changed("annotations", ...), "tiny_val")
    cfg.DATASETS.TEST = ("tiny_val",)
    warnings = check_datasets(cfg, train=False).warnings
    assert "tiny_val: " in warnings[0] and "AP is not computed" in warnings[0]


def test_check_datasets_warns_of_annotation_id_0(cfg, register):
    register(changed("annotations", 0, "id", 0), "tiny_val")
    cfg.DATASETS.TEST = ("tiny_val",)
    (warning,) = check_datasets(cfg, train=False).warnings
    assert "annotation with id 0" in warning


@pytest.mark.parametrize("kept", ["none", "crowds"])
def test_check_datasets_refuses_a_training_set_without_boxes(cfg, register, kept):
    content = make_coco()
    content["annotations"] = [{**a, "iscrowd": 1} for a in content["annotations"] if kept == "crowds"]
    register(content)
    with pytest.raises(SetupError, match="no image has an annotation .*crowds not counted"):
        check_datasets(cfg, train=True)
