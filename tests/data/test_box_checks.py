"""Boxes that cannot be trained on."""

import pytest
from tiny_coco import changed, make_coco

from retina_plugin.data import boxes
from retina_plugin.data.checks import check_boxes, check_datasets
from retina_plugin.data.dataset_content import load_content
from retina_plugin.errors import SetupError
from retina_plugin.findings import WARNING

NAN, INF = float("nan"), float("inf")

pytest_plugins = ("tiny_sets",)


@pytest.mark.parametrize(
    ("bbox", "match"),
    [
        (
            [1, NAN, 5, 5],
            r"1 of 3 boxes \(the first: \[1, nan, 5, 5\], annotation id 2, image id 1, .*1.jpg\) hold NaN",
        ),
        ([1, 1, INF, 5], r"\[1, 1, inf, 5\].* hold NaN or infinity"),
        ([9, 9, -4, 5], "1 of 3 boxes .* have a negative width or height"),
        ([9, 9, 0, 5], "1 of 3 boxes .* have no width or height"),
        ([9, 9, 5, 0], "have no width or height"),
        ([41, 0, 5, 5], "1 of 3 boxes .* lie outside their image"),
        ([0, 30, 5, 5], "lie outside their image"),
        ([-6, 0, 5, 5], "lie outside their image"),
    ],
)
def test_check_datasets_refuses_boxes(cfg, register, bbox, match):
    register(changed("annotations", 1, "bbox", bbox))
    with pytest.raises(SetupError, match=f"^tiny_train: .*{match}"):
        check_datasets(cfg, train=True)


def test_check_datasets_ignores_bad_boxes_of_crowds(cfg, register):
    content = changed("annotations", 1, "bbox", [9, 9, 0, 5])
    content["annotations"][1]["iscrowd"] = 1
    register(content)
    (warning,) = check_datasets(cfg, train=True).warnings
    assert "no box of 1 class" in warning


def test_check_datasets_warns_of_boxes_that_stick_out(cfg, register):
    content = changed("annotations", 1, "bbox", [30, 5, 20, 5])
    content["annotations"][0]["bbox"] = [0, 0, 41, 30]  # by one pixel: rounding
    register(content)
    (warning,) = check_datasets(cfg, train=True).warnings
    assert "1 of 3 boxes" in warning and "[30, 5, 20, 5]" in warning and "will be clipped." in warning


def test_check_datasets_suspects_corners_in_place_of_sizes(cfg, register):
    content = make_coco()
    for annotation in content["annotations"]:
        annotation["bbox"] = [15, 12, 35, 28]
    register(content)
    (warning,) = check_datasets(cfg, train=True).warnings
    assert "3 of 3 boxes" in warning and "they look like corners [x1, y1, x2, y2]" in warning


def test_check_datasets_refuses_normalised_boxes(cfg, register):
    content = make_coco()
    for annotation in content["annotations"]:
        annotation["bbox"] = [0.1, 0.2, 0.5, 0.5]
    register(content)
    with pytest.raises(SetupError, match="3 of 3 boxes .* lie within 0..1, so they seem normalised"):
        check_datasets(cfg, train=True)


def test_check_boxes_only_warns_of_the_rare_box_without_area(register, monkeypatch):
    register(changed("annotations", 1, "bbox", [9, 9, 0, 5]))
    content = load_content("tiny_train", for_training=True, for_test=False)
    monkeypatch.setattr(boxes, "MAX_UNUSABLE_SHARE", 1 / 3)
    (found,) = check_boxes(content)
    assert found.severity == WARNING
    assert "have no width or height" in str(found) and "Training leaves them out" in str(found)
