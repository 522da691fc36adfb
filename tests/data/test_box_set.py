"""Boxes of a set in memory: what is dropped, clipped or refused, and the COCO JSON that comes of the rest."""

from pathlib import Path

import pytest

from retina_plugin.data.formats.box_set import (
    AnnotatedImage,
    Box,
    BoxSet,
    Remark,
    check_claimed_size,
    summarise_remarks,
)
from retina_plugin.errors import SetupError

GOOD = Box(1, 2, 11, 22, "dog", "f:0")


def make_set(*boxes: Box, given=None, num_good=0) -> BoxSet:
    image = AnnotatedImage(Path("root/sub/a.jpg"), 100, 50, [*[GOOD] * num_good, *boxes])
    return BoxSet("folder", Path("root"), [image, AnnotatedImage(Path("elsewhere/b.jpg"), 10, 10)], given)


@pytest.mark.parametrize(
    ("corners", "what"),
    [
        ((5, 5, 5, 9), "box dropped: it has no width or height"),
        ((5, 5, 9, 5), "box dropped: it has no width or height"),
        ((100, 5, 110, 9), "box dropped: it lies outside its image"),
        ((-9, 5, 0, 9), "box dropped: it lies outside its image"),
        ((5, 50, 9, 60), "box dropped: it lies outside its image"),
    ],
)
def test_single_bad_box_is_dropped_with_its_origin(corners, what):
    found = make_set(Box(*corners, "dog", "f:7"), num_good=9).clean()
    assert found.remarks == [Remark(what, "f:7")]
    assert found.class_counts == {"dog": 9}


def test_many_bad_boxes_are_refused():
    with pytest.raises(
        SetupError, match=r"folder: 1 of 11 boxes \(the first: .* f:8\) have no width or height. Correct or delete them"
    ):
        make_set(Box(100, 5, 110, 9, "dog", "f:7"), Box(5, 5, 5, 5, "dog", "f:8"), num_good=9).clean()


@pytest.mark.parametrize(("edge", "remarked"), [(101, False), (101.5, True)])
def test_box_that_sticks_out_is_clipped(edge, remarked):
    found = make_set(Box(-0.5, 5, edge, 9, "dog", "f:7")).clean()
    assert found.images[1].boxes[0][:4] == (0, 5, 100, 9)
    assert found.remarks == ([Remark("box clipped: it sticks out of its image", "f:7")] if remarked else [])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(float("nan"), 1, 2, 3, "dog", "f:7"),
         "folder: 1 of 1001 boxes (the first: nan, 1, 2, 3 as left, top, right, bottom; f:7) hold NaN or infinity. "
         "Write numbers."),
        (Box(9, 1, 2, 3, "dog", "f:7"),
         "folder: 1 of 1001 boxes (the first: 9, 1, 2, 3 as left, top, right, bottom; f:7) have a negative width or "
         "height. Check the order of the coordinates: left, top, right, bottom, and in COCO's JSON x, y, width, "
         "height."),
        (Box(1, 1, 2, 3, "", "f:7"), "f:7: the class of a box is empty: name it."),
    ],
)  # fmt: skip
def test_box_that_cannot_be_meant_is_refused(box, message):
    with pytest.raises(SetupError) as caught:
        make_set(box, num_good=1000).clean()
    assert str(caught.value) == message


def test_set_without_images_is_refused():
    with pytest.raises(SetupError, match=r"^folder has no images\.$"):
        BoxSet("folder", Path("root"), []).clean()


def test_classes_that_differ_in_case_are_remarked_on():
    found = make_set(GOOD, GOOD._replace(class_name="Dog", origin="f:7")).clean()
    assert found.remarks == [Remark("class 'Dog' differs from 'dog' in case", "f:7")]
    assert found.class_names == ["Dog", "dog"]


def test_to_coco_counts_from_1_and_names_files_within_the_root():
    found = make_set(GOOD, GOOD._replace(class_name="cat", is_crowd=True)).clean()
    coco = found.to_coco(["dog", "cow", "cat"])
    outside, inside = coco["images"]
    assert inside == {"id": 2, "file_name": "sub/a.jpg", "width": 100, "height": 50}
    assert outside["file_name"] == str(Path("elsewhere/b.jpg").absolute())
    assert coco["annotations"] == [
        {"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 1},
    ]
    assert coco["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cow"}, {"id": 3, "name": "cat"}]


def test_claimed_size():
    path = Path("a.jpg")
    check_claimed_size(path, (64, 48), (64.0, 48), "f:3")
    with pytest.raises(
        SetupError, match=r"^f:3: the image size is given as 64x40, but a.jpg is 64x48: correct one of them"
    ):
        check_claimed_size(path, (64, 48), (64, 40), "f:3")
    with pytest.raises(SetupError, match=r"given as 48x64, but a.jpg is 64x48 as Detectron2 reads it \(after its EXIF"):
        check_claimed_size(path, (64, 48), (48, 64), "f:3")


def test_summary_counts_equal_remarks_and_names_the_first():
    remarks = [Remark("dropped", "f:1"), Remark("clipped", "f:2"), Remark("dropped", "f:3")]
    assert summarise_remarks(remarks) == ["2 x dropped (the first: f:1)", "clipped (f:2)"]
