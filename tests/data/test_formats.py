"""The readers of annotation formats: the same tiny set out of each, and what is particular to one of them."""

import json
import re
import shutil

import numpy as np
import pytest
from own_folders import (
    CLASSES,
    SCENES,
    WRITERS,
    draw_images,
    write_coco,
    write_csv,
    write_labelme,
    write_voc,
    write_yolo,
)
from PIL import Image

from retina_plugin.data.formats import detect_format, read_boxes
from retina_plugin.data.formats.files import read_names
from retina_plugin.data.images import read_sizes
from retina_plugin.errors import SetupError

EXIF_ORIENTATION = 274
# So many that one without its partner is within the limit.
MANY = [(f"{i:02}.png", (64, 48), [(4, 6, 28, 30, "dog")]) for i in range(12)]


def boxes_of(found) -> dict:
    return {
        image.path.name: [(*(round(v, 3) for v in box[:4]), box.class_name) for box in image.boxes]
        for image in found.images
    }


def remarks_of(found) -> list[str]:
    return [remark.what for remark in found.remarks]


@pytest.mark.parametrize("kind", WRITERS)
def test_each_format_gives_the_same_boxes_and_sizes(tmp_path, kind):
    root = WRITERS[kind](tmp_path)
    assert detect_format(root) == kind
    found = read_boxes(root)
    assert boxes_of(found) == {name: boxes for name, _, boxes in SCENES}
    assert [(i.path.name, (i.width, i.height)) for i in found.images] == [(name, size) for name, size, _ in SCENES]
    # Of a names file the order counts; LabelMe and VOC have none.
    assert found.class_names == (sorted(CLASSES) if kind in ("labelme", "voc") else list(CLASSES))
    assert found.remarks == []


@pytest.mark.parametrize("kind", WRITERS)
def test_given_classes_set_the_order(tmp_path, kind):
    found = read_boxes(
        WRITERS[kind](tmp_path), classes=["cat", "dog", "cow"] if kind != "yolo" else ["dog", "cat", "cow"]
    )
    assert sorted(found.class_names[:2]) == ["cat", "dog"] and found.class_names[2] == "cow"
    assert boxes_of(found) == {name: boxes for name, _, boxes in SCENES}


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "yolo"])
def test_given_classes_must_have_every_class(tmp_path, kind):
    with pytest.raises(
        SetupError, match=r"the class 'dog' is not among the 2 given \(cat, cow\): add it there, or correct"
    ):
        read_boxes(WRITERS[kind](tmp_path), classes=["cat", "cow"])


def test_origin_of_a_box_is_file_and_line(tmp_path):
    voc = read_boxes(write_voc(tmp_path / "voc"))
    assert [box.origin for box in voc.images[0].boxes] == [
        f"{tmp_path}/voc/Annotations/a.xml:{line}" for line in (4, 8)
    ]
    yolo = read_boxes(write_yolo(tmp_path / "yolo"))
    assert yolo.images[3].boxes[1].origin == f"{tmp_path}/yolo/labels/d.txt:2"
    rows = read_boxes(write_csv(tmp_path / "csv"))
    assert rows.images[3].boxes[0].origin == f"{tmp_path}/csv/boxes.csv:5"
    assert read_boxes(write_labelme(tmp_path / "lm")).images[1].boxes[0].origin == f"{tmp_path}/lm/b.json: shape 1"


def test_voc_pixel_1_to_w_covers_the_image(tmp_path):
    write_voc(tmp_path)
    text = (tmp_path / "Annotations/c.xml").read_text()
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>48</xmax><ymax>64</ymax>" in text
    assert read_boxes(tmp_path).images[2].boxes[0][:4] == (0, 0, 48, 64)


def test_voc_counted_from_0_loses_no_box(tmp_path):
    write_voc(tmp_path)
    file = tmp_path / "Annotations/c.xml"
    file.write_text(file.read_text().replace("<xmin>1<", "<xmin>0<").replace("<ymin>1<", "<ymin>0<"))
    found = read_boxes(tmp_path)
    assert found.images[2].boxes[0][:4] == (0, 0, 48, 64) and found.remarks == []


def test_voc_click_is_dropped_and_remarked_on(tmp_path):
    write_voc(tmp_path)
    file = tmp_path / "Annotations/d.xml"
    click = "<object><name>dog</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"
    file.write_text(file.read_text().replace("</annotation>", f"{click}</annotation>"))
    found = read_boxes(tmp_path)
    assert len(found.images[3].boxes) == 2
    assert found.remarks == [("box dropped: its corners are one point", f"{file}:12")]


def test_voc_image_is_found_by_the_name_of_its_xml(tmp_path):
    write_voc(tmp_path)
    file = tmp_path / "Annotations/b.xml"
    file.write_text(file.read_text().replace("b.png", "C:\\photos\\IMG_7.JPG"))
    assert boxes_of(read_boxes(tmp_path))["b.png"] == SCENES[1][2]


def test_voc_parts_by_lists_of_names(tmp_path):
    write_voc(tmp_path)
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nc 1\n")
    (lists / "val.txt").write_text("b\n")
    assert list(boxes_of(read_boxes(tmp_path, subset="train"))) == ["a.png", "c.png"]
    assert list(boxes_of(read_boxes(tmp_path, subset="val"))) == ["b.png"]
    assert len(read_boxes(tmp_path).images) == 5
    (lists / "val.txt").write_text("b\n\nz\n")
    with pytest.raises(SetupError, match=r"val.txt:3: z has no XML file in"):
        read_boxes(tmp_path, subset="val")


def test_voc_notes_what_has_no_partner(tmp_path):
    write_voc(tmp_path, MANY)
    (tmp_path / "Annotations/00.xml").unlink()
    (tmp_path / "JPEGImages/01.png").unlink()
    found = read_boxes(tmp_path)
    assert list(boxes_of(found)) == [name for name, _, _ in MANY[2:]]
    assert sorted(remarks_of(found)) == [
        "annotation left out: its image is not there",
        "image left out: it has no XML file",
    ]


def test_yolo_labels_beside_images_with_a_names_file(tmp_path):
    write_yolo(tmp_path / "first")
    beside = tmp_path / "beside"
    shutil.copytree(tmp_path / "first/images", beside)
    for file in (tmp_path / "first/labels").iterdir():
        shutil.copy(file, beside)
    (beside / "classes.txt").write_text("\n".join(CLASSES) + "\n\n")
    found = read_boxes(beside)
    assert boxes_of(found) == {name: boxes for name, _, boxes in SCENES} and found.remarks == []


def test_yolo_notes_images_without_labels_and_the_reverse(tmp_path):
    write_yolo(tmp_path, MANY)
    (tmp_path / "labels/01.txt").rename(tmp_path / "labels/lost.txt")
    found = read_boxes(tmp_path)
    assert boxes_of(found)["01.png"] == []
    assert [(what.split()[0], origin.rsplit("/", 1)[1]) for what, origin in found.remarks] == [
        ("label", "lost.txt"),
        ("image", "01.png"),
    ]


@pytest.mark.parametrize("layout", ["images/part", "part/images", "data.yaml", "roboflow", "list"])
def test_yolo_parts(tmp_path, layout):
    pattern = "{part}/images" if layout in ("part/images", "roboflow") else "images/{part}"
    for part, chosen in (("train", SCENES[:3]), ("val" if layout != "roboflow" else "valid", SCENES[3:])):
        write_yolo(tmp_path / "whole", chosen)
        images = tmp_path / pattern.format(part=part)
        labels = tmp_path / pattern.replace("images", "labels").format(part=part)
        shutil.copytree(tmp_path / "whole/images", images)
        shutil.copytree(tmp_path / "whole/labels", labels)
        shutil.rmtree(tmp_path / "whole")
    lines = {
        "data.yaml": "train: images/train\nval: [images/val]\n",
        "roboflow": "train: ../train/images\nval: ../valid/images\nnc: 2\n",
        "list": "train: train.txt\nval: images/val\npath: /another/machine\n",
    }
    (tmp_path / "train.txt").write_text("images/train/a.png\n./images/train/b.png\nimages/train/c.png\n")
    (tmp_path / "data.yaml").write_text(lines.get(layout, "") + "names: [dog, cat]\n")
    parts = [read_boxes(tmp_path, subset=part) for part in ("train", "val")]
    assert [list(boxes_of(part)) for part in parts] == [["a.png", "b.png", "c.png"], ["d.png", "e.png"]]
    assert list(boxes_of(read_boxes(tmp_path))) and len(read_boxes(tmp_path).images) == 5


def test_labelme_shapes_become_the_box_around_them(tmp_path):
    write_labelme(tmp_path)
    shapes = [
        {"label": "cat", "shape_type": "polygon", "points": [[10, 5], [30.5, 8], [20, 40]]},
        {"label": "cat", "points": [[1, 1], [3, 1], [3, 4]]},  # a file of an early version
        {"label": "dog", "shape_type": "circle", "points": [[20, 20], [23, 24]]},  # radius 5
        {"label": "dog", "shape_type": "point", "points": [[20, 20]]},
        {"label": "dog", "shape_type": "linestrip", "points": [[20, 20], [30, 30]]},
    ]
    content = json.loads((tmp_path / "e.json").read_text())
    (tmp_path / "e.json").write_text(json.dumps({**content, "shapes": shapes}))
    found = read_boxes(tmp_path)
    assert boxes_of(found)["e.png"] == [(10, 5, 30.5, 40, "cat"), (1, 1, 3, 4, "cat"), (15, 15, 25, 25, "dog")]
    assert remarks_of(found) == [
        "polygon taken as the box around it",
        "polygon taken as the box around it",
        "circle taken as the box around it",
        "shape left out: a point has no box",
        "shape left out: a linestrip has no box",
    ]


def test_labelme_image_path_counts_from_the_json_file(tmp_path):
    write_labelme(tmp_path / "json")
    (tmp_path / "photos").mkdir()
    for name, _, _ in SCENES:
        (tmp_path / "json" / name).rename(tmp_path / "photos" / name)
        file = (tmp_path / "json" / name).with_suffix(".json")
        file.write_text(file.read_text().replace(f'"{name}"', f'"..\\\\photos\\\\{name}"'))
    with pytest.raises(SetupError, match="outside the image folder"):
        read_boxes(tmp_path / "json")
    assert len(read_boxes(tmp_path).images) == 5  # the folder that holds both
    found = read_boxes(tmp_path / "json", allow_outside=True)
    assert [(found.root / found.relative_name(image)).is_file() for image in found.images] == [True] * 5


def test_link_to_a_folder_above_ends(tmp_path):
    write_labelme(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(read_boxes(tmp_path).images) == 5


def test_csv_with_names_of_columns_keeps_further_ones(tmp_path):
    draw_images(tmp_path)
    (tmp_path / "boxes.csv").write_text(
        "camera,filename,width,xmin,ymin,xmax,ymax,class\n"
        'north,a.png,64,4,6,28,30,"dog, big"\n'
        "north,a.png,64,34,10,60,40,cat\n\n"
        "south,e.png,64,,,,,\n"
    )
    found = read_boxes(tmp_path)
    assert boxes_of(found) == {"a.png": [(4, 6, 28, 30, "dog, big"), (34, 10, 60, 40, "cat")], "e.png": []}
    assert [image.columns["camera"] for image in found.images] == ["north", "south"]


def test_coco_keeps_crowds_and_counts_classes_by_id(tmp_path):
    write_coco(tmp_path)
    content = json.loads((tmp_path / "boxes.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["categories"].append({"id": 1, "name": "first"})
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    found = read_boxes(tmp_path)
    assert found.class_names == ["first", "dog", "cat"]
    coco = found.to_coco(found.class_names)
    assert [a["iscrowd"] for a in coco["annotations"]] == [1, 0, 0, 0, 0, 0]
    assert [a["category_id"] for a in coco["annotations"]] == [3, 5, 5, 3, 3, 3]  # as in the file


def test_coco_part_by_the_name_of_the_file(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "boxes.json").rename(tmp_path / "annotations/instances_train.json")
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    content["images"], content["annotations"] = content["images"][:1], content["annotations"][:2]
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(content))
    assert [len(read_boxes(tmp_path, subset=part).images) for part in ("train", "val")] == [5, 1]
    with pytest.raises(SetupError, match="must have one COCO JSON file, got instances_train.json, instances_val.json"):
        read_boxes(tmp_path)


def test_images_elsewhere(tmp_path):
    write_voc(tmp_path / "voc")
    (tmp_path / "voc/JPEGImages").rename(tmp_path / "photos")
    found = read_boxes(tmp_path / "voc", images=tmp_path / "photos")
    assert boxes_of(found) == {name: boxes for name, _, boxes in SCENES}
    assert found.relative_name(found.images[0]) == "a.png"


def test_two_formats_in_one_folder_are_asked_about(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "boxes.csv").write_text("JPEGImages/a.png,1,2,20,30,dog\n")
    with pytest.raises(SetupError, match=r"holds more than one format \(voc, csv\): say which"):
        read_boxes(tmp_path)
    assert len(read_boxes(tmp_path, "csv").images) == 1


def save_with_orientation(path, orientation: int, size=(64, 48)) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.new("RGB", size).save(path, exif=exif)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(("orientation", "turned"), [(1, False), (3, False), (6, True), (8, True)])
def test_size_of_a_turned_image_is_what_detectron2_reads(tmp_path, suffix, orientation, turned):
    from detectron2.data.detection_utils import read_image

    path = tmp_path / f"a{suffix}"
    save_with_orientation(path, orientation)
    assert read_sizes([path]) == {path: (48, 64) if turned else (64, 48)}
    assert read_image(str(path), "BGR").shape == ((64, 48, 3) if turned else (48, 64, 3))


def test_turned_tiff_is_refused(tmp_path):
    from detectron2.data.detection_utils import read_image

    save_with_orientation(tmp_path / "a.tif", 3)
    with pytest.raises(SetupError, match="a.tif is a TIFF with the EXIF orientation 3, which Pillow and Detectron2"):
        read_sizes([tmp_path / "a.tif"])
    save_with_orientation(tmp_path / "a.tif", 1)
    assert read_sizes([tmp_path / "a.tif"]) == {tmp_path / "a.tif": (64, 48)}
    # Why: Pillow turns the pixels on loading and leaves the mark, and Detectron2 goes by it once more.
    half = Image.new("L", (64, 48))
    half.paste(255, (0, 0, 64, 24))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 3
    half.save(tmp_path / "half.tif", exif=exif)
    assert read_image(str(tmp_path / "half.tif"), "L")[0, 0, 0] == 255


MODES = {
    "gray": lambda path: Image.new("L", (64, 48), 90).save(path, "PNG"),
    "gray with alpha": lambda path: Image.new("LA", (64, 48)).save(path, "PNG"),
    "RGBA": lambda path: Image.new("RGBA", (64, 48), (9, 8, 7, 0)).save(path, "PNG"),
    "palette": lambda path: Image.new("P", (64, 48), 3).save(path, "PNG"),
    "palette with transparency": lambda path: Image.new("P", (64, 48)).save(path, "PNG", transparency=b"\0\1"),
    "black and white": lambda path: Image.new("1", (64, 48)).save(path, "PNG"),
    "CMYK": lambda path: Image.new("CMYK", (64, 48), (10, 20, 30, 40)).save(path, "JPEG"),
    "PNG as .jpg": lambda path: Image.new("RGB", (64, 48)).save(path, "PNG"),
    "16-bit colour": lambda path: path.write_bytes(_png_of_16_bit_colour()),
}


def _png_of_16_bit_colour() -> bytes:
    import cv2

    return cv2.imencode(".png", np.full((48, 64, 3), 300 * 64, dtype=np.uint16))[1].tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_images_of_any_8_bit_mode_are_read_as_colour(tmp_path, mode):
    from detectron2.data.detection_utils import read_image

    path = tmp_path / "a.jpg"
    MODES[mode](path)
    assert read_sizes([path]) == {path: (64, 48)}
    image = read_image(str(path), "BGR")
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    if mode == "16-bit colour":  # Pillow keeps the upper byte: 19200 = 75 * 256
        assert (image == 75).all()


def test_images_of_more_than_8_bits_are_refused_by_name(tmp_path):
    wide = Image.fromarray(np.full((48, 64), 1000, dtype=np.uint16))
    wide.save(tmp_path / "a.png")
    with pytest.raises(
        SetupError, match=r"1 image cannot be used: .*/a.png has more than 8 bits a channel \(mode I;16\)"
    ):
        read_sizes([tmp_path / "a.png"])


def test_read_names_of_each_kind_of_file(tmp_path):
    texts = {
        "a.txt": "dog\ncat\n",
        "b.names": "dog\ncat",
        "c.yaml": "names: [dog, cat]",
        "d.yml": "names: {1: cat, 0: dog}",
        "e.csv": "cat,1\ndog,0\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert read_names(tmp_path / name) == ["dog", "cat"], name


def test_voc_polygon_without_a_box_becomes_the_box_around_it(tmp_path):
    write_voc(tmp_path)
    file = tmp_path / "Annotations/b.xml"
    points = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate([(11, 9), (42, 20), (30, 36)], 1))
    text = re.sub("<bndbox>.*</bndbox>", f"<polygon>{points}</polygon>", file.read_text())
    file.write_text(text)
    found = read_boxes(tmp_path)
    assert boxes_of(found)["b.png"] == SCENES[1][2] and remarks_of(found) == ["polygon taken as the box around it"]
    file.write_text(text.replace("<y3>36</y3>", ""))
    with pytest.raises(SetupError, match=r"b.xml:4: a <polygon> needs at least 3 points <x1>, <y1>"):
        read_boxes(tmp_path)


def test_csv_size_of_the_image_is_compared_where_its_columns_say_so(tmp_path):
    draw_images(tmp_path)
    rows = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,{},48,dog,4,6,28,30\n"
    (tmp_path / "boxes.csv").write_text(rows.format(64))
    assert len(read_boxes(tmp_path).images) == 1
    (tmp_path / "boxes.csv").write_text(rows.format(128))
    with pytest.raises(SetupError, match=r"boxes.csv:2: the image size is given as 128x48, but .*a.png is 64x48"):
        read_boxes(tmp_path)


def test_csv_classes_of_two_parts_must_agree(tmp_path):
    for part, classes in (("train", "dog,0\ncat,1\n"), ("valid", "cat,0\ndog,1\n")):
        write_csv(tmp_path / part)
        (tmp_path / part / "classes.csv").write_text(classes)
    assert read_boxes(tmp_path, subset="val").class_names == ["cat", "dog"]
    with pytest.raises(SetupError, match=r"valid/classes.csv has other classes than the file of another part"):
        read_boxes(tmp_path)
