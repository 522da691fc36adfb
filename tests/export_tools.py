"""A folder as each annotation tool writes it: ``build("labelimg_voc", folder)``.

Ten tiny pictures: a to f to train on (``f`` has no object), g and h to validate on, i and j to test.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw

__all__ = ["CLASSES", "SCENES", "TOOLS", "Export", "build"]

CLASSES = ["dog", "cat"]  # not in the order of the alphabet
COLOURS = {"dog": (200, 40, 40), "cat": (40, 40, 200)}
SIZE, TALL = (96, 64), (64, 96)
# Stem, size, boxes (left, top, right, bottom, class).
SCENES = [
    ("a", SIZE, [(4, 6, 40, 44, "dog"), (50, 10, 90, 50, "cat")]),
    ("b", SIZE, [(10, 8, 58, 50, "cat")]),
    ("c", TALL, [(2, 2, 60, 70, "dog")]),
    ("d", SIZE, [(40, 20, 90, 60, "dog"), (2, 2, 30, 30, "dog")]),
    ("e", SIZE, [(20, 14, 70, 54, "cat")]),
    ("f", SIZE, []),
    ("g", SIZE, [(30, 10, 80, 60, "dog")]),
    ("h", SIZE, [(8, 8, 40, 40, "cat"), (44, 8, 88, 40, "dog")]),
    ("i", SIZE, [(16, 16, 64, 48, "dog")]),
    ("j", SIZE, [(12, 4, 80, 60, "cat")]),
]
PARTS = {"train": "abcdef", "val": "gh", "test": "ij"}


@dataclass
class Export:
    """A folder and what is right to read from it."""

    # What a user would name: the folder, or its data.yaml.
    path: Path
    # File name of an image (without folders) -> its boxes.
    boxes: dict[str, list[tuple]]
    # In order; None where the format has no list of names, and they are sorted.
    classes: list[str] | None = None
    # Part -> file names of its images; {} if the folder says of no image what it is for.
    parts: dict[str, list[str]] = field(default_factory=dict)
    # Pixels. Tools that write VOC with edges in place of pixel numbers are read up to one pixel off.
    tolerance: float = 0.01
    # Words of each remark on it, in any order.
    remarks: tuple[str, ...] = ()
    # Words of the error, its remedy among them; "" for a folder that is read.
    refused: str = ""


TOOLS: dict[str, Callable[[Path], Export]] = {}


def build(name: str, folder: Path) -> Export:
    """Write the folder that the tool ``name`` (a key of TOOLS) would write."""
    folder.mkdir(parents=True, exist_ok=True)
    return TOOLS[name](folder)


def tool(*names: str) -> Callable:
    """Register a builder; one of several names gets its name's ending as ``kind``."""

    def register(function: Callable) -> Callable:
        for name in names:
            TOOLS[name] = function if len(names) == 1 else partial(function, kind=name)
        return function

    return register


def scenes_of(stems: str) -> list:
    return [scene for scene in SCENES if scene[0] in stems]


def expect(scenes=SCENES, suffix: str = ".jpg", name: Callable | None = None) -> dict[str, list]:
    return {(name or (lambda stem: stem + suffix))(stem): boxes for stem, _, boxes in scenes}


def parts_of(suffix: str = ".jpg", stems: dict[str, str] = PARTS) -> dict[str, list[str]]:
    return {part: [stem + suffix for stem in names] for part, names in stems.items()}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def draw(folder: Path, scenes=SCENES, suffix: str = ".jpg", name: Callable | None = None) -> None:
    for (_, size, boxes), file in zip(scenes, expect(scenes, suffix, name), strict=True):
        image = Image.new("RGB", size, (120, 130, 110))
        for x1, y1, x2, y2, class_name in boxes:
            ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLOURS[class_name])
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / file, format="PNG" if file.lower().endswith("png") else "JPEG")


# One image's annotation in each format.


def voc(file_name: str, size, boxes, *, first: int = 1, head: str = "", more: Callable = lambda box: "",
        number: Callable = str, names: dict | None = None) -> str:  # fmt: skip
    objects = "".join(
        f"\t<object>\n\t\t<name>{(names or {}).get(k, k)}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n{more((x1, y1, x2, y2))}\t\t<bndbox>\n"
        f"\t\t\t<xmin>{number(x1 + first)}</xmin>\n\t\t\t<ymin>{number(y1 + first)}</ymin>\n"
        f"\t\t\t<xmax>{number(x2)}</xmax>\n\t\t\t<ymax>{number(y2)}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for x1, y1, x2, y2, k in boxes
    )
    return (
        f"<annotation>\n\t<folder>photos</folder>\n\t<filename>{file_name}</filename>\n{head}\t<size>\n"
        f"\t\t<width>{size[0]}</width>\n\t\t<height>{size[1]}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>0</segmented>\n{objects}</annotation>\n"
    )


def yolo(size, boxes, line: str = "{k} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}", end: str = "\n") -> str:
    width, height = size
    return "".join(
        line.format(k=CLASSES.index(k), cx=(x1 + x2) / 2 / width, cy=(y1 + y2) / 2 / height, w=(x2 - x1) / width,
                    h=(y2 - y1) / height, l=x1 / width, t=y1 / height, r=x2 / width, b=y2 / height) + end
        for x1, y1, x2, y2, k in boxes
    )  # fmt: skip


def labelme(image_path: str, size, boxes, *, polygons: bool = False, data: str | None = None) -> dict:
    def shape(x1, y1, x2, y2, class_name) -> dict:
        points = [[x1, y1], [x2, y1], [x2, y2], [(x1 + x2) / 2, y2], [x1, y2]] if polygons else [[x2, y2], [x1, y1]]
        kind = "polygon" if polygons else "rectangle"
        return {"label": class_name, "points": points, "group_id": None, "description": "", "shape_type": kind,
                "flags": {}, "mask": None}  # fmt: skip

    return {"version": "5.4.1", "flags": {}, "shapes": [shape(*box) for box in boxes], "imagePath": image_path,
            "imageData": data, "imageHeight": size[1], "imageWidth": size[0]}  # fmt: skip


def coco(scenes=SCENES, name: Callable = lambda stem: f"{stem}.jpg", first: int = 1, extra: Iterable[str] = ()) -> dict:
    categories = [*extra, *CLASSES]  # Roboflow's first one is a group without boxes
    annotations = [
        {"image_id": image_id, "category_id": categories.index(k) + first, "bbox": [x1, y1, x2 - x1, y2 - y1],
         "area": (x2 - x1) * (y2 - y1), "segmentation": [], "iscrowd": 0}
        for image_id, (_, _, boxes) in enumerate(scenes, 1) for x1, y1, x2, y2, k in boxes
    ]  # fmt: skip
    return {
        "images": [
            {"id": i, "file_name": name(stem), "width": w, "height": h} for i, (stem, (w, h), _) in enumerate(scenes, 1)
        ],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, 1)],
        "categories": [
            {"id": i, "name": n, "supercategory": "none" if n in extra else next(iter(extra), "")}
            for i, n in enumerate(categories, first)
        ],
    }


def csv_rows(path: Callable = lambda stem: f"{stem}.jpg", scenes=SCENES, row: str = "{path},{x1},{y1},{x2},{y2},{k}",
             empty: str = "{path},,,,,") -> list[str]:  # fmt: skip
    rows = []
    for stem, (w, h), boxes in scenes:
        rows += [row.format(path=path(stem), x1=x1, y1=y1, x2=x2, y2=y2, k=k, w=w, h=h) for x1, y1, x2, y2, k in boxes]
        rows += [empty.format(path=path(stem))] if empty and not boxes else []
    return rows


BOXED = scenes_of("abcdeghij")  # of tools that write nothing about an image without objects


# labelImg


@tool("labelimg_voc", "labelimg_voc_renamed", "labelimg_voc_half_done", "labelimg_voc_other_suffix")
def labelimg_voc(folder: Path, kind: str = "labelimg_voc") -> Export:
    suffix = ".JPG" if kind.endswith("suffix") else ".jpg"
    draw(folder, suffix=suffix)
    scenes = BOXED if kind != "labelimg_voc_half_done" else scenes_of("abcd")
    stems = [stem for stem, _, _ in scenes]
    # Images and XML files renamed together: <filename> is that of another image.
    inner = dict(zip(stems, stems[1:] + stems[:1], strict=True)) if kind.endswith("renamed") else {}
    for stem, size, boxes in scenes:
        name = f"{inner.get(stem, stem)}.jpg"
        head = (
            f"\t<path>C:\\Users\\me\\photos\\{name}</path>\n\t<source>\n\t\t<database>Unknown</database>\n\t</source>\n"
        )
        # labelImg writes edges, with 1 for 0.
        write(folder / f"{stem}.xml", voc(name, size, boxes, first=0, head=head))
    left_out = ("image left out: it has no XML file",)
    remarks = ("another image",) if kind.endswith("renamed") else ()
    return Export(folder, expect(scenes, suffix), tolerance=1, remarks=remarks + left_out)


@tool("labelimg_voc_gb2312")
def labelimg_voc_gb2312(folder: Path) -> Export:
    draw(folder)
    names = {"dog": "狗", "cat": "猫"}
    for stem, size, boxes in SCENES:
        text = '<?xml version="1.0" encoding="gb2312"?>\n' + voc(f"{stem}.jpg", size, boxes, names=names)
        write(folder / f"{stem}.xml", text.encode("gb2312"))
    return Export(folder, {n: [(*b[:4], names[b[4]]) for b in boxes] for n, boxes in expect().items()})


@tool("labelimg_voc_two_folders", "labelimg_voc_capitals", "labelimg_voc_old_paths")
def labelimg_voc_two_folders(folder: Path, kind: str = "") -> Export:
    images, annotations = ("Images", "ANNOTATIONS") if kind.endswith("capitals") else ("images", "xml")
    draw(folder / images)
    inner = {"labelimg_voc_capitals": "{}.JPG", "labelimg_voc_old_paths": "C:\\old\\{}"}.get(kind, "{}")
    for stem, size, boxes in SCENES:
        suffix = ".XML" if kind.endswith("capitals") else ".xml"
        write(folder / annotations / (stem + suffix), voc(inner.format(stem.upper()), size, boxes))
    return Export(folder, expect())


@tool("labelimg_yolo", "labelimg_yolo_two_folders")
def labelimg_yolo(folder: Path, kind: str) -> Export:
    images, labels = (folder / "images", folder / "labels") if kind.endswith("folders") else (folder, folder)
    draw(images)
    for stem, size, boxes in BOXED:
        write(labels / f"{stem}.txt", yolo(size, boxes))
    write(labels / "classes.txt", "\n".join(CLASSES) + "\n")
    return Export(folder, expect(), CLASSES, remarks=("without a label file",))


@tool("labelimg_createml")
def labelimg_createml(folder: Path) -> Export:
    draw(folder)
    write(folder / "boxes.json", createml(BOXED))
    return Export(folder, expect(), refused=r"CreateML .*: export it as .*(YOLO|Pascal VOC)")


def createml(scenes) -> list:
    return [
        {"image": f"{stem}.jpg", "verified": False, "annotations": [
            {"label": k, "coordinates": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1}}
            for x1, y1, x2, y2, k in boxes
        ]} for stem, _, boxes in scenes
    ]  # fmt: skip


# LabelMe


@tool("labelme", "labelme_polygons", "labelme_with_settings", "labelme_embedded", "labelme_old_paths")
def labelme_beside(folder: Path, kind: str) -> Export:
    draw(folder)
    for stem, size, boxes in BOXED:
        path = f"D:\\photos\\2019\\{stem}.jpeg" if kind.endswith("paths") else f"{stem}.jpg"
        data = "iVBORw0KGgo=" if kind == "labelme_embedded" else None
        write(folder / f"{stem}.json", labelme(path, size, boxes, polygons=kind.endswith("polygons"), data=data))
    remarks = ("image left out: it has no JSON file",)
    if kind.endswith("settings"):
        write(folder / "_settings.json", {"zoom": 2})
        remarks += ("file left out",)
    if kind.endswith("polygons"):
        remarks += ("polygon taken as the box around it",)
    return Export(folder, expect(BOXED), remarks=remarks)


@tool("labelme_windows")
def labelme_windows(folder: Path) -> Export:
    draw(folder / "images")
    for stem, size, boxes in SCENES:
        write(folder / "json" / f"{stem}.json", labelme(f"..\\images\\{stem}.jpg", size, boxes))
    return Export(folder, expect())


@tool("labelme_parts")
def labelme_parts(folder: Path) -> Export:
    for part, stems in PARTS.items():
        draw(folder / part, scenes_of(stems))
        for stem, size, boxes in scenes_of(stems):
            write(folder / part / f"{stem}.json", labelme(f"{stem}.jpg", size, boxes))
    return Export(folder, expect(), parts=parts_of())


# CVAT


@tool("cvat_voc", "cvat_voc_parts")
def cvat_voc(folder: Path, kind: str) -> Export:
    draw(folder / "JPEGImages")
    for stem, size, boxes in SCENES:
        write(folder / "Annotations" / f"{stem}.xml", voc(f"{stem}.jpg", size, boxes, number=lambda v: f"{v:.2f}"))
    lists = {"Train": "abcdef", "Validation": "ghij"} if kind.endswith("parts") else {"default": "abcdefghij"}
    for part, stems in lists.items():
        write(folder / "ImageSets" / "Main" / f"{part}.txt", "\n".join(stems) + "\n")
    write(folder / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:64,0,0::\ndog:0,64,0::\n")
    parts = parts_of(stems={"train": "abcdef", "val": "ghij"}) if kind.endswith("parts") else {}
    return Export(folder, expect(), parts=parts)


@tool("cvat_yolo", "cvat_yolo_parts")
def cvat_yolo(folder: Path, kind: str) -> Export:
    lists = {"train": ("train", "abcdefghij")}
    if kind.endswith("parts"):
        lists = {"train": ("train", "abcdef"), "valid": ("valid", "ghij")}
    for part, (_, stems) in lists.items():
        place = folder / f"obj_{part}_data"
        draw(place, scenes_of(stems))
        for stem, size, boxes in scenes_of(stems):
            write(place / f"{stem}.txt", yolo(size, boxes))
        write(folder / f"{part}.txt", "".join(f"data/obj_{part}_data/{stem}.jpg\n" for stem in stems))
    write(folder / "obj.names", "\n".join(CLASSES) + "\n")
    keys = "".join(f"{part} = data/{part}.txt\n" for part in lists)
    write(folder / "obj.data", f"classes = 2\n{keys}names = data/obj.names\nbackup = backup/\n")
    parts = parts_of(stems={"train": "abcdef", "val": "ghij"}) if kind.endswith("parts") else {}
    return Export(folder, expect(), CLASSES, parts=parts)


@tool("cvat_ultralytics")
def cvat_ultralytics(folder: Path) -> Export:
    for part, stems in (("train", "abcdef"), ("val", "ghij")):
        draw(folder / "images" / part, scenes_of(stems))
        for stem, size, boxes in scenes_of(stems):
            if boxes:
                write(folder / "labels" / part / f"{stem}.txt", yolo(size, boxes))
        write(folder / f"{part}.txt", "".join(f"data/images/{part}/{stem}.jpg\n" for stem in stems))
    write(folder / "data.yaml", "names:\n  0: dog\n  1: cat\npath: .\ntrain: train.txt\nval: val.txt\n")
    parts = parts_of(stems={"train": "abcdef", "val": "ghij"})
    return Export(folder, expect(), CLASSES, parts, remarks=("without a label file",))


@tool("cvat_images_xml")
def cvat_images_xml(folder: Path) -> Export:
    draw(folder / "images")
    images = "".join(
        f'<image id="{i}" name="{stem}.jpg" width="{w}" height="{h}">'
        + "".join(f'<box label="{k}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"></box>' for x1, y1, x2, y2, k in boxes)
        + "</image>"
        for i, (stem, (w, h), boxes) in enumerate(SCENES)
    )
    write(folder / "annotations.xml", f"<annotations><version>1.1</version>{images}</annotations>")
    return Export(folder, expect(), refused=r"CVAT for images.*: export it as .*(COCO|Pascal VOC)")


# Roboflow


def roboflow_name(stem: str) -> str:
    return f"IMG_{stem}_jpg.rf.{'0123456789abcdef' * 2}.jpg"


ROBOFLOW_PARTS = {p: [roboflow_name(stem) for stem in stems] for p, stems in PARTS.items()}
ROBOFLOW_FOLDERS = {"train": "train", "val": "valid", "test": "test"}


def roboflow(folder: Path, write_part: Callable[[Path, list], None], parts=PARTS) -> dict[str, list]:
    """Write each part's folder; what its images hold."""
    for part, stems in parts.items():
        write_part(folder / ROBOFLOW_FOLDERS[part], scenes_of(stems))
    write(folder / "README.dataset.txt", "# pets > 2024-01-01\nProvided by a Roboflow user\n")
    write(folder / "README.roboflow.txt", "\npets - v1\n==============================\n")
    return expect(scenes_of("".join(parts.values())), name=roboflow_name)


@tool("roboflow_yolo", "roboflow_yolo_train_test", "roboflow_yolo_without_yaml")
def roboflow_yolo(folder: Path, kind: str = "roboflow_yolo") -> Export:
    def write_part(place: Path, scenes) -> None:
        draw(place / "images", scenes, name=roboflow_name)
        for stem, size, boxes in scenes:
            text = yolo(size, boxes, "{k} {cx} {cy} {w} {h}").rstrip("\n")
            write(place / "labels" / f"{roboflow_name(stem)[:-4]}.txt", text)

    chosen = {p: s for p, s in PARTS.items() if p != "val"} if kind.endswith("train_test") else PARTS
    boxes = roboflow(folder, write_part, chosen)
    if kind.endswith("without_yaml"):
        write(folder / "classes.txt", "\n".join(CLASSES))
    else:  # Roboflow names a valid folder even where there is none
        lines = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['dog', 'cat']\n"
        write(folder / "data.yaml", lines + "\nroboflow:\n  workspace: w\n  project: pets\n  version: 1\n")
    parts = {part: names for part, names in ROBOFLOW_PARTS.items() if part in chosen}
    remarks = ("names ../valid/images, which does not exist",) if kind.endswith("train_test") else ()
    return Export(folder, boxes, CLASSES, parts, remarks=remarks)


@tool("roboflow_darknet")
def roboflow_darknet(folder: Path) -> Export:
    def write_part(place: Path, scenes) -> None:
        draw(place, scenes, name=roboflow_name)
        for stem, size, boxes in scenes:
            write(place / f"{roboflow_name(stem)[:-4]}.txt", yolo(size, boxes))
        write(place / "_darknet.labels", "\n".join(CLASSES))

    return Export(folder, roboflow(folder, write_part), CLASSES, ROBOFLOW_PARTS)


@tool("roboflow_voc", "roboflow_voc_train_test")
def roboflow_voc(folder: Path, kind: str = "roboflow_voc") -> Export:
    def write_part(place: Path, scenes) -> None:
        draw(place, scenes, name=roboflow_name)
        for stem, size, boxes in scenes:
            name = roboflow_name(stem)
            head = f"\t<path>{name}</path>\n\t<source>\n\t\t<database>roboflow.com</database>\n\t</source>\n"
            write(place / f"{name[:-4]}.xml", voc(name, size, boxes, head=head))

    chosen = {p: s for p, s in PARTS.items() if p != "val"} if kind.endswith("train_test") else PARTS
    boxes = roboflow(folder, write_part, chosen)
    return Export(folder, boxes, parts={part: ROBOFLOW_PARTS[part] for part in chosen})


@tool("roboflow_csv", "roboflow_retinanet")
def roboflow_csv(folder: Path, kind: str) -> Export:
    with_classes = kind == "roboflow_retinanet"

    def write_part(place: Path, scenes) -> None:
        draw(place, scenes, name=roboflow_name)
        row = "{path},{x1},{y1},{x2},{y2},{k}" if with_classes else "{path},{w},{h},{k},{x1},{y1},{x2},{y2}"
        rows = csv_rows(roboflow_name, scenes, row, empty="{path},,,,," if with_classes else "")
        rows = rows if with_classes else ["filename,width,height,class,xmin,ymin,xmax,ymax", *rows]
        write(place / "_annotations.csv", "\n".join(rows))
        if with_classes:
            write(place / "_classes.csv", "dog,0\ncat,1\n")

    boxes = roboflow(folder, write_part)
    parts = ROBOFLOW_PARTS
    if not with_classes:  # its CSV has no row of an image without objects
        boxes.pop(roboflow_name("f"))
        parts = parts | {"train": parts["train"][:-1]}
    return Export(folder, boxes, CLASSES if with_classes else None, parts)


@tool("roboflow_coco")
def roboflow_coco(folder: Path) -> Export:
    def write_part(place: Path, scenes) -> None:
        draw(place, scenes, name=roboflow_name)
        write(place / "_annotations.coco.json", coco(scenes, roboflow_name, first=0, extra=["pets"]))

    remarks = ("'pets' is the supercategory of all others and has no box",)
    return Export(folder, roboflow(folder, write_part), CLASSES, ROBOFLOW_PARTS, remarks=remarks)


@tool("roboflow_createml")
def roboflow_createml(folder: Path) -> Export:
    def write_part(place: Path, scenes) -> None:
        draw(place, scenes)
        write(place / "_annotations.createml.json", createml(scenes))

    roboflow(folder, write_part)
    return Export(folder, expect(), refused=r"CreateML .*: export it as .*(YOLO|Pascal VOC)")


# COCO: cocodataset.org, CVAT, Label Studio, VIA


@tool("cocodataset")
def cocodataset(folder: Path) -> Export:
    for part in ("train", "val"):
        scenes = scenes_of(PARTS[part])
        draw(folder / f"{part}2017", scenes)
        write(folder / "annotations" / f"instances_{part}2017.json", coco(scenes))
    boxes = expect(scenes_of(PARTS["train"] + PARTS["val"]))
    return Export(folder, boxes, CLASSES, parts_of(stems={p: PARTS[p] for p in ("train", "val")}))


@tool("cvat_coco", "cvat_coco_parts")
def cvat_coco(folder: Path, kind: str) -> Export:
    lists = {"Train": "abcdef", "Validation": "ghij"} if kind.endswith("parts") else {"default": "abcdefghij"}
    for part, stems in lists.items():
        draw(folder / "images" / (part if len(lists) > 1 else ""), scenes_of(stems))
        write(folder / "annotations" / f"instances_{part}.json", coco(scenes_of(stems)))
    parts = parts_of(stems={"train": "abcdef", "val": "ghij"}) if len(lists) > 1 else {}
    return Export(folder, expect(), CLASSES, parts)


@tool("labelstudio_coco", "via_coco")
def coco_one_file(folder: Path, kind: str) -> Export:
    draw(folder / "images" if kind.startswith("label") else folder)
    name = (lambda stem: f"images\\{stem}.jpg") if kind.startswith("label") else (lambda stem: f"{stem}.jpg")
    write(folder / ("result.json" if kind.startswith("label") else "via_export_coco.json"), coco(name=name))
    return Export(folder, expect(), CLASSES)


# Label Studio


def studio_name(stem: str) -> str:
    return f"1a2b3c4d-{stem}.jpg"  # a hash in front of the name of the uploaded file


@tool("labelstudio_yolo")
def labelstudio_yolo(folder: Path) -> Export:
    draw(folder / "images", name=studio_name)
    for stem, size, boxes in SCENES:
        write(folder / "labels" / f"{studio_name(stem)[:-4]}.txt", yolo(size, boxes, "{k} {cx} {cy} {w} {h}"))
    write(folder / "classes.txt", "\n".join(CLASSES) + "\n")
    notes = {"categories": [{"id": i, "name": n} for i, n in enumerate(CLASSES)],
             "info": {"year": 2024, "version": "1.0", "contributor": "Label Studio"}}  # fmt: skip
    write(folder / "notes.json", notes)
    return Export(folder, expect(name=studio_name), CLASSES)


@tool("labelstudio_voc")
def labelstudio_voc(folder: Path) -> Export:
    draw(folder / "images", name=studio_name)
    for stem, size, boxes in SCENES:
        write(folder / "Annotations" / f"{studio_name(stem)[:-4]}.xml", voc(studio_name(stem)[:-4], size, boxes))
    return Export(folder, expect(name=studio_name))


@tool("labelstudio_json", "labelstudio_json_min")
def labelstudio_json(folder: Path, kind: str) -> Export:
    tasks = []
    for i, (stem, (w, h), boxes) in enumerate(SCENES, 1):
        values = [{"x": 100 * x1 / w, "y": 100 * y1 / h, "width": 100 * (x2 - x1) / w, "height": 100 * (y2 - y1) / h,
                   "rotation": 0, "rectanglelabels": [k]} for x1, y1, x2, y2, k in boxes]  # fmt: skip
        image = f"/data/upload/1/{studio_name(stem)}"
        if kind.endswith("min"):
            tasks.append({"image": image, "id": i, "label": [{**v, "original_width": w} for v in values]})
        else:
            result = [{"type": "rectanglelabels", "original_width": w, "value": value} for value in values]
            tasks.append({"id": i, "annotations": [{"id": i, "result": result}], "data": {"image": image}})
    write(folder / "project-1-at-2024-01-01.json", tasks)
    return Export(folder, {}, refused=r"Label Studio.*: export it as .*(YOLO|COCO)")


# VIA, RectLabel


@tool("via_json", "via_project", "via_csv")
def via(folder: Path, kind: str) -> Export:
    draw(folder)
    regions = {
        f"{stem}.jpg": [
            ({"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}, {"type": k})
            for x1, y1, x2, y2, k in boxes
        ]
        for stem, _, boxes in SCENES
    }
    if kind == "via_csv":
        rows = ["#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"]
        for name, found in regions.items():
            cells = [[json.dumps(part).replace('"', '""') for part in region] for region in found] or [["{}", "{}"]]
            rows += [f'{name},1000,"{{}}",{len(found)},{i},"{s}","{r}"' for i, (s, r) in enumerate(cells)]
        write(folder / "via_export_csv.csv", "\n".join(rows) + "\n")
    else:
        data = {
            f"{name}1000": {"filename": name, "size": 1000, "file_attributes": {}, "regions": [
                {"shape_attributes": s, "region_attributes": r} for s, r in found
            ]} for name, found in regions.items()
        }  # fmt: skip
        project = {
            "_via_settings": {},
            "_via_img_metadata": data,
            "_via_attributes": {},
            "_via_data_format_version": "2",
        }
        write(folder / f"{kind}.json", project if kind == "via_project" else data)
    return Export(folder, expect(), refused=r"VIA.*: export it as .*COCO")


@tool("rectlabel_voc", "rectlabel_floats")
def rectlabel_voc(folder: Path, kind: str) -> Export:
    draw(folder)

    def polygon(box) -> str:
        x1, y1, x2, y2 = box
        points = [(x1 + 1, y1 + 1), (x2, y1 + 1), (x2, y2), (x1 + 1, y2)]
        tags = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(points, 1))
        return f"\t\t<polygon>{tags}</polygon>\n"

    for stem, size, boxes in SCENES:
        more = {} if kind.endswith("floats") else {"more": polygon}
        number = float if kind.endswith("floats") else str
        head = f"\t<path>/Users/me/photos/{stem}.jpg</path>\n"
        write(folder / "annotations" / f"{stem}.xml", voc(f"{stem}.jpg", size, boxes, head=head, number=number, **more))
    return Export(folder, expect())


# darknet, ultralytics


@tool("darknet_voc")
def darknet_voc(folder: Path) -> Export:
    """What darknet's voc_label.py makes: lists with the absolute paths of the machine that ran it."""
    draw(folder / "JPEGImages")
    for stem, size, boxes in SCENES:
        write(folder / "labels" / f"{stem}.txt", yolo(size, boxes, "{k} {cx} {cy} {w} {h}"))
    for part, stems in (("train", "abcdef"), ("valid", "gh"), ("test", "ij")):
        write(folder / f"{part}.txt", "".join(f"/home/pj/VOCdevkit/pets/JPEGImages/{stem}.jpg\n" for stem in stems))
    write(folder / "voc.data", "classes= 2\ntrain = /home/pj/VOCdevkit/pets/train.txt\n"
          "valid = /home/pj/VOCdevkit/pets/valid.txt\nnames = data/voc.names\nbackup = backup\n")  # fmt: skip
    write(folder / "voc.names", "\n".join(CLASSES) + "\n")
    return Export(folder, expect(), CLASSES, parts_of())


@tool("yolo_mark")
def yolo_mark(folder: Path) -> Export:
    draw(folder / "img")
    for stem, size, boxes in SCENES:
        write(folder / "img" / f"{stem}.txt", yolo(size, boxes))
    write(folder / "train.txt", "".join(f"data/img/{stem}.jpg\n" for stem, _, _ in SCENES))
    write(folder / "obj.names", "\r\n".join(CLASSES) + "\r\n")
    write(folder / "obj.data", "classes= 2\ntrain  = data/train.txt\nvalid  = data/train.txt\nnames = data/obj.names\n")
    return Export(folder, expect(), CLASSES)


ULTRALYTICS = {
    "ultralytics_images_train": ("images/{part}", "path: ../datasets/pets\ntrain: images/train\nval: images/val\n"),
    "ultralytics_train_images": ("{part}/images", "train: /content/pets/train/images\nval: /content/pets/val/images\n"),
    "ultralytics_windows": ("images/{part}", "path: C:\\datasets\\pets\ntrain: images\\train\\\nval: images\\val\\\n"),
    "ultralytics_without_yaml": ("images/{part}", ""),
    "ultralytics_train_test": ("images/{part}", "path: .\ntrain: images/train\ntest: images/test\n"),
    "ultralytics_segment": ("images/{part}", "path: .\ntrain: images/train\nval: images/val\n"),
    "ultralytics_pose": ("images/{part}", "path: .\ntrain: images/train\nval: images/val\nkpt_shape: [2, 2]\n"),
    "ultralytics_quoted_names": ("images/{part}", "path: .\ntrain: images/train\nval: images/val\n"),
}


@tool(*ULTRALYTICS)
def ultralytics(folder: Path, kind: str) -> Export:
    layout, text = ULTRALYTICS[kind]
    stems_of = (
        {"train": "abcdef", "test": "ghij"} if kind.endswith("train_test") else {"train": "abcdef", "val": "ghij"}
    )
    line = {
        "ultralytics_segment": "{k} {l} {t} {r} {t} {r} {b} {cx} {b} {l} {b}",
        "ultralytics_pose": "{k} {cx} {cy} {w} {h} {l} {t} {r} {b}",
    }.get(kind, "{k} {cx} {cy} {w} {h}")
    for part, stems in stems_of.items():
        draw(folder / layout.format(part=part), scenes_of(stems))
        for stem, size, boxes in scenes_of(stems):
            if boxes:
                place = folder / layout.replace("images", "labels").format(part=part)
                write(place / f"{stem}.txt", yolo(size, boxes, line))
    names = 'names: {"0": dog, "1": cat}\n' if kind.endswith("quoted_names") else "names:\n  0: dog\n  1: cat\n"
    if text:
        write(folder / "data.yaml", f"# Train\n{text}{names}")
    else:
        write(folder / "classes.txt", "\n".join(CLASSES))
    remarks = ("without a label file",)
    if kind.endswith("segment"):
        remarks += ("polygon taken as the box around it",)
    return Export(folder, expect(), CLASSES, parts_of(stems=stems_of), remarks=remarks)


@tool("ultralytics_lists")
def ultralytics_lists(folder: Path) -> Export:
    draw(folder / "images")
    for stem, size, boxes in SCENES:
        write(folder / "labels" / f"{stem}.txt", yolo(size, boxes))
    for part, stems in (("train", "abcdef"), ("val", "ghij")):
        write(folder / f"autosplit_{part}.txt", "".join(f"./images/{stem}.jpg\n" for stem in stems))
    write(folder / "data.yaml", "train: autosplit_train.txt\nval: autosplit_val.txt\nnames: [dog, cat]\nnc: 2\n")
    return Export(folder / "data.yaml", expect(), CLASSES, parts_of(stems={"train": "abcdef", "val": "ghij"}))


# keras-retinanet, pandas and spreadsheets


@tool("keras_retinanet", "keras_retinanet_parts")
def keras_retinanet(folder: Path, kind: str) -> Export:
    draw(folder / "images")
    lists = {"annotations": "abcdefghij"}
    if kind.endswith("parts"):
        lists = {"train_annotations": "abcdef", "val_annotations": "ghij"}
    for name, stems in lists.items():
        rows = csv_rows(lambda stem: f"/home/me/pets/images/{stem}.jpg", scenes_of(stems))
        write(folder / f"{name}.csv", "\n".join(rows) + "\n")
    write(folder / "classes.csv", "dog,0\ncat,1\n")
    parts = parts_of(stems={"train": "abcdef", "val": "ghij"}) if len(lists) > 1 else {}
    return Export(folder, expect(), CLASSES, parts)


HEADER = "path,x1,y1,x2,y2,class"
TABLES = {
    "pandas_index": lambda rows: [f",{HEADER}", *(f"{i},{row}" for i, row in enumerate(rows))],
    "pandas_index_without_header": lambda rows: [f"{i},{row}" for i, row in enumerate(rows)],
    "pandas_trailing_comma": lambda rows: [f"{HEADER},", *(f"{row}," for row in rows)],
    "pandas_trailing_comma_in_rows": lambda rows: [HEADER, *(f"{row}," for row in rows)],
    "pandas_two_columns_of_a_name": lambda rows: [f"{HEADER},note,note", *(f"{row},u,v" for row in rows)],
    "sku110k": lambda rows: [f"{row},96,64" for row in rows],
    "excel_semicolons": lambda rows: [row.replace(",", ";") for row in (HEADER, *rows)],
    "tabs": lambda rows: [row.replace(",", "\t") for row in (HEADER, *rows)],
    "excel_windows": lambda rows: [HEADER.upper(), *rows],
    "csv_floats": lambda rows: [HEADER, *(re.sub(r",(\d+)", r",\1.0", row) for row in rows)],
}  # fmt: skip


@tool(*TABLES)
def table(folder: Path, kind: str) -> Export:
    draw(folder)
    end, mark = ("\r\n", "\ufeff") if kind == "excel_windows" else ("\n", "")
    lines = TABLES[kind](csv_rows(scenes=BOXED, empty=""))
    write(folder / "boxes.csv", (mark + end.join(lines) + end).encode())
    return Export(folder, expect(BOXED))


# What one file system or program makes of the names and numbers of another


@tool("yolo_upper_suffix", "yolo_macos", "yolo_jfif", "yolo_capitals", "yolo_upper_names", "yolo_utf16_names")
def yolo_other_names(folder: Path, kind: str) -> Export:
    def other(stem: str) -> bool:
        return stem in "bdfhj"

    def image(stem: str) -> str:
        if kind == "yolo_macos":  # macOS writes letters and accents apart
            return unicodedata.normalize("NFD", f"é{stem}.jpg")
        return stem + {"yolo_jfif": ".jfif" if other(stem) else ".JPG"}.get(kind, ".jpg")

    def label(stem: str) -> str:
        return {
            "yolo_upper_suffix": stem + (".TXT" if other(stem) else ".txt"),
            "yolo_macos": f"é{stem}.txt",
            "yolo_upper_names": f"{stem.upper()}.txt",
        }.get(kind, f"{stem}.txt")

    images, labels = ("Images", "Labels") if kind == "yolo_capitals" else ("images", "labels")
    draw(folder / images, name=image)
    for stem, size, boxes in SCENES:
        write(folder / labels / label(stem), yolo(size, boxes))
    text = "\r\n".join(CLASSES)
    write(folder / "classes.txt", text.encode("utf-16" if kind.endswith("utf16_names") else "utf-8-sig"))
    return Export(folder, expect(name=image), CLASSES)


NUMBERS = {
    "yolo_savetxt": "{k:.18e} {cx:.18e} {cy:.18e} {w:.18e} {h:.18e}",
    "yolo_float_ids": "{k}.0 {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}",
    "yolo_tabs_and_spaces": " {k}\t{cx:.6f}\t{cy:.6f}  {w:.6f}\t{h:.6f} ",
}


@tool(*NUMBERS)
def yolo_numbers(folder: Path, kind: str) -> Export:
    draw(folder / "images")
    for stem, size, boxes in SCENES:
        write(folder / "labels" / f"{stem}.txt", ("\ufeff" + yolo(size, boxes, NUMBERS[kind], "\r\n")).encode())
    write(folder / "obj.names", "\n".join(CLASSES))
    return Export(folder, expect(), CLASSES)


# Refused, with three of each side by side


@tool("yolo_of_other_images", "voc_of_other_images", "csv_of_other_images", "labelme_of_other_images")
def of_other_images(folder: Path, kind: str) -> Export:
    """The pictures were renamed after they were annotated, half of them."""
    draw(folder / "images", name=lambda stem: f"DSC_{stem}.jpg" if stem in "abcde" else f"{stem}.jpg")
    for stem, size, boxes in SCENES:
        if kind.startswith("yolo"):
            write(folder / "labels" / f"{stem}.txt", yolo(size, boxes))
            write(folder / "classes.txt", "\n".join(CLASSES))
        elif kind.startswith("voc"):
            write(folder / "Annotations" / f"{stem}.xml", voc(f"{stem}.jpg", size, boxes))
        elif kind.startswith("labelme"):
            write(folder / "json" / f"{stem}.json", labelme(f"../images/{stem}.jpg", size, boxes))
    if kind.startswith("csv"):
        write(folder / "boxes.csv", "\n".join(csv_rows(lambda stem: f"images/{stem}.jpg")))
    return Export(folder, {}, refused=r"(?s)5 of 10 .*a\.(txt|xml|jpg|json).*DSC_a\.jpg.*: ")


@tool("yolo_without_names")
def yolo_without_names(folder: Path) -> Export:
    draw(folder / "images")
    for stem, size, boxes in SCENES:
        write(folder / "labels" / f"{stem}.txt", yolo(size, boxes))
    return Export(folder, {}, refused="has no class names .*add .*classes.txt")


@tool("tfrecord", "supervisely", "labelbox")
def others(folder: Path, kind: str) -> Export:
    if kind == "tfrecord":
        write(folder / "train" / "pets.tfrecord", b"\0" * 100)
        write(folder / "train" / "pets_label_map.pbtxt", 'item {\n    name: "dog",\n    id: 1\n}\n')
        return Export(folder, {}, refused=r"TFRecord.*: export it as .*COCO")
    draw(folder / "img")
    for stem, (w, h), boxes in SCENES if kind == "supervisely" else []:
        objects = [
            {"classTitle": k, "geometryType": "rectangle", "points": {"exterior": [box[:2], box[2:]], "interior": []}}
            for *box, k in boxes
        ]
        content = {"description": "", "tags": [], "size": {"height": h, "width": w}, "objects": objects}
        write(folder / "ann" / f"{stem}.jpg.json", content)
    if kind == "labelbox":
        write(folder / "export.ndjson", '{"data_row": {"id": "1", "external_id": "a.jpg"}, "projects": {}}\n')
        return Export(folder, {}, refused=r"Labelbox.*: export it as .*COCO")
    return Export(folder, {}, refused=r"Supervisely.*: export it as .*COCO")
