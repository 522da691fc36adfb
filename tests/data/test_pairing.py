"""Which image an annotation means: names as different programs write them, and the limit on what does not pair."""

import re
import unicodedata
from pathlib import Path

import pytest
from export_tools import build
from own_folders import WRITERS, write_labelme, write_voc, write_yolo
from PIL import Image

from retina_plugin.data.formats import read_boxes
from retina_plugin.data.formats.pairing import ImageIndex
from retina_plugin.data.formats.parts import part_of_name, pick_part
from retina_plugin.errors import SetupError


def many(count: int = 20):
    return [(f"{i:02}.png", (64, 48), [(4, 6, 28, 30, "dog")]) for i in range(count)]


def index_of(root: Path, *names: str) -> ImageIndex:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name, "PNG")
    return ImageIndex(root)


NAMES = ["Été 1.JPG", "sub/b.jpeg", "sub/c.v2.png", "other/c.v2.png"]
FOUND = {
    "Été 1.JPG": "Été 1.JPG",
    "été 1.jpg": "Été 1.JPG",
    unicodedata.normalize("NFD", "Été 1.jpg"): "Été 1.JPG",
    "C:\\photos\\Été 1.jpg": "Été 1.JPG",
    "/home/other/Été 1.png ": "Été 1.JPG",
    "été 1": "Été 1.JPG",
    "sub\\B.JPG": "sub/b.jpeg",
    "./sub//b.jpeg": "sub/b.jpeg",
    "b": "sub/b.jpeg",
    "/data/sub/c.v2.png": "sub/c.v2.png",
    "D:\\x\\Other\\C.V2.jpg": "other/c.v2.png",
    "c.v2": None,  # in two folders
    "x/c.v2.png": None,
    "c": None,  # .v2 is no suffix of an image
    "b.txt": None,
    "": None,
    "..": None,
}


@pytest.mark.parametrize("name", FOUND)
def test_image_is_found_by_its_name(tmp_path, name):
    index = index_of(tmp_path, *NAMES)
    assert index.find(name) == (FOUND[name] and tmp_path / FOUND[name])


@pytest.mark.parametrize(("annotation", "image"), [
    ("labels/train/a.txt", "images/train/a.jpg"), ("labels/val/A.TXT", "images/val/a.jpg"),
    ("images/val/a.txt", "images/val/a.jpg"), ("train/labels/b.txt", "train/images/b.jpg"),
    ("labels_2/c.txt", "images_2/c.jpg"), ("elsewhere/d.xml", "images/d.jpg"), ("labels/test/a.txt", None),
    ("val/d.txt", "images/d.jpg"), ("labels/e.txt", None), ("test/f.txt", None),
])  # fmt: skip
def test_image_of_an_annotation_lies_in_the_folder_that_belongs_to_its_own(tmp_path, annotation, image):
    images = ("images/train/a.jpg", "images/val/a.jpg", "train/images/b.jpg", "images_2/c.jpg", "images/d.jpg")
    index = index_of(tmp_path, *images, "images_1/c.jpg", "train/f.jpg")
    assert index.find_own(tmp_path / annotation) == ([tmp_path / image] if image else [])


def test_image_in_another_folder_is_taken_for_the_only_annotation_of_its_name(tmp_path):
    index = index_of(tmp_path, "images/a.jpg")
    assert index.find_own(tmp_path / "batch/a.xml") and not index.find_own(tmp_path / "batch/a.xml", is_unique=False)


@pytest.mark.parametrize("writer", [write_voc, write_labelme])
def test_own_name_of_an_annotation_comes_before_the_name_inside(tmp_path, writer):
    """Its images were renamed with it; the name inside is that of another image by now."""
    root = writer(tmp_path, many(4))
    suffix = ".xml" if writer is write_voc else ".json"
    for i, file in enumerate(sorted(root.rglob(f"*{suffix}"))):
        file.write_text(file.read_text().replace(f"{i:02}.png", f"{(i + 1) % 4:02}.png").replace("dog", f"dog{i}"))
    found = read_boxes(root)
    assert {image.path.name: image.boxes[0].class_name for image in found.images} == {
        f"{i:02}.png": f"dog{i}" for i in range(4)
    }
    assert [remark.what for remark in found.remarks] == 4 * [
        "annotation names another image of the set inside; the image of the file's own name is taken"
    ]


def rename(root: Path, suffix: str, count: int) -> None:
    for file in sorted(root.rglob(f"*{suffix}"))[:count]:
        file.rename(file.with_name(f"old_{file.name}"))


@pytest.mark.parametrize(("kind", "suffix"), [("yolo", ".txt"), ("voc", ".xml"), ("labelme", ".json")])
def test_tenth_of_the_annotations_may_lack_their_image(tmp_path, kind, suffix):
    root = WRITERS[kind](tmp_path, many())
    if kind != "yolo":  # which names no image inside
        for file in root.rglob(f"*{suffix}"):
            file.write_text(re.sub(r"\d\d\.png", "photo.png", file.read_text()))
    rename(root, suffix, 2)
    found = read_boxes(root)
    assert len(found.images) == (20 if kind == "yolo" else 18) and len(found.remarks) == 4
    rename(root, suffix, 1)
    with pytest.raises(SetupError) as error:
        read_boxes(root)
    said = str(error.value)
    assert re.search(rf"3 of 20 \w+ files have no image in .*old_\w+{suffix}.*, and 3 of 20 images no \w+ file", said)
    assert said.count(suffix) == said.count(".png") == 3 and "give their folder (DATASETS.TRAIN_IMAGES" in said


def test_images_without_labels_are_fine_where_each_label_has_its_image(tmp_path):
    root = write_yolo(tmp_path, many())
    for file in sorted((root / "labels").iterdir())[:15]:
        file.unlink()
    found = read_boxes(root)
    assert len(found.images) == 20 and sum(len(image.boxes) for image in found.images) == 5
    assert {remark.what for remark in found.remarks} == {"image without a label file taken as one without objects"}


def test_masks_and_plots_beside_the_images_are_no_images_of_the_set(tmp_path):
    root = write_yolo(tmp_path, many(3))
    (root / "images").rename(root / "frames")
    (root / "labels").rename(root / "frames_txt")
    index_of(root, "masks/00.png", "results.png", "images/background.png")
    names = [image.path.relative_to(root).as_posix() for image in read_boxes(root).images]
    assert names == ["frames/00.png", "frames/01.png", "frames/02.png", "images/background.png"]


def test_label_beside_its_image_comes_before_another(tmp_path):
    root = write_yolo(tmp_path, many(2))
    (root / "images/00.txt").write_text("1 0.5 0.5 0.25 0.25\n")
    found = read_boxes(root)
    assert [image.boxes[0].class_name for image in found.images] == ["cat", "dog"]
    assert [remark.what for remark in found.remarks] == ["label file left out: its image has another"]


PARTS = {
    "train": "train", "Training": "train", "train2017": "train", "obj_train_data": "train", "train_images": "train",
    "valid": "val", "Validation": "val", "instances_val2017": "val", "images-val": "val", "autosplit_val": "val",
    "test": "test", "testing": "test", "test_tube": "", "train_station": "", "trainval": "", "values": "", "2017": "",
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_part_by_the_name_of_a_folder(name):
    assert part_of_name(name) == PARTS[name]


@pytest.mark.parametrize(("parts", "subset", "kept"), [
    ("tv", "train", "t"), ("tv", "val", "v"), ("tve", "", "tve"), ("te", "val", "e"), ("t-", "val", "-"),
    ("e-", "val", "e"), ("e", "val", "e"), ("t", "val", "t"), ("-", "train", "-"), ("v-", "train", "-"),
    ("ve", "train", None),
])  # fmt: skip
def test_part_that_is_taken(parts, subset, kept):
    names = {"t": "train", "v": "val", "e": "test", "-": ""}
    if kept is None:
        with pytest.raises(SetupError, match="set has parts named test and val, and none to train on"):
            pick_part(parts, subset, names.get, "set")
        return
    found, remarks = pick_part(parts, subset, names.get, "set")
    assert "".join(found) == kept
    said = {"te": "the test part", "e-": "the test part", "e": "all of it", "t": "all of it"}.get(parts, "")
    assert bool(remarks) == bool(said) and said in "".join(remark.what for remark in remarks)


def test_class_name_in_two_unicode_forms_is_one_class(tmp_path):
    root = write_voc(tmp_path, many(4))
    for form, file in zip(("NFC", "NFD", "NFC", "NFD"), sorted(root.rglob("*.xml")), strict=True):
        file.write_text(file.read_text().replace("dog", unicodedata.normalize(form, "Rüde")))
    assert read_boxes(root).class_names == [unicodedata.normalize("NFC", "Rüde")]


@pytest.mark.parametrize(
    "name", ["roboflow_yolo", "roboflow_voc", "cvat_voc_parts", "cvat_yolo_parts", "keras_retinanet_parts"]
)
def test_export_one_folder_further_down_is_read_with_its_parts(tmp_path, name):
    export = build(name, tmp_path / "download" / "pets-1")
    for part in ("train", "val"):
        found = read_boxes(tmp_path / "download", subset=part)
        assert sorted(image.path.name for image in found.images) == sorted(export.parts[part])


def test_voc_lists_may_have_suffixes_and_other_letters(tmp_path):
    export = build("cvat_voc_parts", tmp_path)
    for file in (tmp_path / "ImageSets/Main").iterdir():
        file.write_text("".join(f"{name.upper()}.jpg\r\n" for name in file.read_text().split()))
    assert [image.path.name for image in read_boxes(tmp_path, subset="val").images] == export.parts["val"]


def test_one_xml_file_of_another_kind_is_left_out(tmp_path):
    root = write_voc(tmp_path, many())
    (root / "Annotations/view.xml").write_text("<project/>")
    found = read_boxes(root)
    assert len(found.images) == 20 and [r.what for r in found.remarks] == ["file left out, it is no annotation"]
    assert "view.xml:1: the first tag must be <annotation>" in found.remarks[0].origin


def test_text_in_another_encoding_than_declared_is_refused_in_plain_words(tmp_path):
    root = write_voc(tmp_path, many(2))
    (root / "Annotations/00.xml").write_bytes(b'<?xml version="1.0" encoding="big5"?><annotation>\xff\xff</annotation>')
    with pytest.raises(
        SetupError, match=r"00.xml is not text in big5, the encoding that it declares: save it as UTF-8"
    ):
        read_boxes(root)


@pytest.mark.parametrize(("images", "annotations"), [
    ("{video}/shots", "{video}/xml"), ("pictures/{video}", "truth/{video}"), ("{video}", "{video}/truth"),
])  # fmt: skip
def test_same_names_in_several_folders_are_told_apart_by_the_folders(tmp_path, images, annotations):
    for video in ("video1", "video2"):
        root = write_voc(tmp_path / "written" / video, many(3))
        for place, written in ((images, "JPEGImages"), (annotations, "Annotations")):
            target = tmp_path / "set" / place.format(video=video)
            target.mkdir(parents=True, exist_ok=True)
            for file in (root / written).iterdir():
                if written == "Annotations":
                    file.write_text(file.read_text().replace("dog", video))
                file.rename(target / file.name)
    found = read_boxes(tmp_path / "set")
    assert len(found.images) == 6 and found.remarks == []
    assert all(image.boxes[0].class_name in image.path.parts for image in found.images)


def test_label_of_the_folder_that_belongs_to_the_images_comes_before_one_above(tmp_path):
    root = write_yolo(tmp_path / "day1", many(2))
    (root / "data.yaml").rename(tmp_path / "data.yaml")
    for folder in ("images", "labels"):
        (root / folder / "all").mkdir()
        for file in (root / folder).glob("0*"):
            file.rename(root / folder / "all" / file.name)
    (root / "labels/00.txt").write_text("1 0.5 0.5 0.25 0.25\n")
    found = read_boxes(tmp_path)
    assert [image.boxes[0].class_name for image in found.images] == ["dog", "dog"]
    assert [remark.what for remark in found.remarks] == ["label file left out: its image has another"]


def test_part_of_an_export_names_the_file_of_names_above(tmp_path):
    build("roboflow_yolo", tmp_path)
    with pytest.raises(SetupError, match=r"has no class names .*; or name .*data.yaml, which is there\."):
        read_boxes(tmp_path / "train")
