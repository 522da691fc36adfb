"""One tiny set of images and boxes, written as a folder of each annotation format."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

CLASSES = ("dog", "cat")  # not in the order of the alphabet
COLOURS = {"dog": (200, 40, 40), "cat": (40, 40, 200)}
# File, size, boxes (left, top, right, bottom, class). The last image has no object.
SCENES = [
    ("a.png", (64, 48), [(4, 6, 28, 30, "dog"), (34, 10, 60, 40, "cat")]),
    ("b.png", (64, 48), [(10, 8, 42, 36, "cat")]),
    ("c.png", (48, 64), [(0, 0, 48, 64, "dog")]),
    ("d.png", (64, 48), [(20, 20, 50, 44, "dog"), (2, 2, 18, 18, "dog")]),
    ("e.png", (64, 48), []),
]


def draw_images(folder: Path, scenes=SCENES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, size, boxes in scenes:
        image = Image.new("RGB", size, (120, 130, 110))
        for *corners, class_name in boxes:
            x1, y1, x2, y2 = corners
            ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLOURS.get(class_name, (0, 0, 0)))
        image.save(folder / name)


def write_voc(root: Path, scenes=SCENES) -> Path:
    draw_images(root / "JPEGImages", scenes)
    (root / "Annotations").mkdir()
    for name, (width, height), boxes in scenes:
        objects = "".join(
            f"  <object>\n    <name>{k}</name>\n    <bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n  </object>\n"
            for x1, y1, x2, y2, k in boxes
        )
        text = (
            f"<annotation>\n  <filename>{name}</filename>\n  <size><width>{width}</width><height>{height}</height>"
            f"<depth>3</depth></size>\n{objects}</annotation>\n"
        )
        (root / "Annotations" / f"{Path(name).stem}.xml").write_text(text)
    return root


def write_yolo(root: Path, scenes=SCENES) -> Path:
    draw_images(root / "images", scenes)
    (root / "labels").mkdir()
    (root / "data.yaml").write_text("names:\n" + "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES)))
    for name, (w, h), boxes in scenes:
        lines = [
            f"{CLASSES.index(k)} {(x1 + x2) / 2 / w:.6f} {(y1 + y2) / 2 / h:.6f} "
            f"{(x2 - x1) / w:.6f} {(y2 - y1) / h:.6f}"
            for x1, y1, x2, y2, k in boxes
        ]
        (root / "labels" / f"{Path(name).stem}.txt").write_text("\n".join(lines))
    return root


def write_labelme(root: Path, scenes=SCENES) -> Path:
    draw_images(root, scenes)
    for name, (width, height), boxes in scenes:
        shapes = [
            # From the lower right to the upper left: people draw both ways.
            {"label": k, "points": [[x2, y2], [x1, y1]], "shape_type": "rectangle", "group_id": None, "flags": {}}
            for x1, y1, x2, y2, k in boxes
        ]
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None,
                   "imageHeight": height, "imageWidth": width}  # fmt: skip
        (root / f"{Path(name).stem}.json").write_text(json.dumps(content))
    return root


def write_csv(root: Path, scenes=SCENES) -> Path:
    draw_images(root / "pictures", scenes)
    rows = []
    for name, _, boxes in scenes:
        rows += [f"pictures/{name},{x1},{y1},{x2},{y2},{k}" for x1, y1, x2, y2, k in boxes] or [f"pictures/{name},,,,,"]
    (root / "boxes.csv").write_text("\n".join(rows) + "\n")
    (root / "classes.csv").write_text("".join(f"{name},{i}\n" for i, name in enumerate(CLASSES)))
    return root


def write_coco(root: Path, scenes=SCENES) -> Path:
    draw_images(root / "images", scenes)
    annotations = []
    for image_id, (_, _, boxes) in enumerate(scenes):
        for x1, y1, x2, y2, k in boxes:
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": CLASSES.index(k) * 2 + 3,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
            })  # fmt: skip
    content = {
        "images": [{"id": i, "file_name": n, "width": w, "height": h} for i, (n, (w, h), _) in enumerate(scenes)],
        "annotations": annotations,
        "categories": [{"id": 3 + 2 * i, "name": name} for i, name in enumerate(CLASSES)],
    }
    (root / "boxes.json").write_text(json.dumps(content))
    return root


WRITERS = {"voc": write_voc, "yolo": write_yolo, "labelme": write_labelme, "csv": write_csv, "coco": write_coco}


def replacing(file: str, old: str, new: str) -> Callable[[Path], None]:
    """What puts ``new`` for ``old`` into a file of a folder."""

    def spoil(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new))

    return spoil


def setting(file: str, *place_and_value) -> Callable[[Path], None]:
    """What sets a value, the last, at a place in a JSON file of a folder."""

    def spoil(root: Path) -> None:
        content = node = json.loads((root / file).read_text())
        *place, key, value = place_and_value
        for part in place:
            node = node[part]
        node[key] = value
        (root / file).write_text(json.dumps(content))

    return spoil
