"""Readers of annotation formats: each makes a ``BoxSet`` of a file or folder."""

import re
from pathlib import Path

from ...errors import SetupError
from ..image_paths import bounded_by, open_named, refuse_line_breaks
from . import coco, csv_boxes, labelme, voc, yolo
from .box_set import BoxSet
from .files import list_files, read_yaml

__all__ = ["FORMATS", "read_boxes"]

FORMATS = {"coco": coco, "voc": voc, "yolo": yolo, "labelme": labelme, "csv": csv_boxes}
_HEAD = 2**16  # LabelMe's shapes begin within the first lines; a COCO file need not be read whole to be known


def read_boxes(
    path: Path,
    file_format: str = "auto",
    *,
    images: Path | None = None,
    subset: str = "",
    classes: list[str] | None = None,
    allow_outside: bool = False,
) -> BoxSet:
    """Read a data set in any of the formats.

    Args:
        path: a file or folder.
        file_format: a key of FORMATS, or "auto" to find out.
        images: folder of the images, where the format's usual place is not theirs.
        subset: "train" or "val": that part of it, if it says which that is; "" for everything.
        classes: class names in their order; by default the format's names file, else the names sorted.
        allow_outside: take images that the annotations name outside ``path`` and the folder of the images.

    Returns:
        the set, with boxes that cannot be used left out and remarked on.

    Raises:
        SetupError: naming file and line.
    """
    if not path.exists():
        raise SetupError(f"{path} does not exist: give the folder or file of the annotations.")
    if file_format == "auto":
        file_format = detect_format(path)
    if file_format not in FORMATS:
        raise SetupError(f"The format must be auto or one of {', '.join(FORMATS)}, got {file_format!r}.")
    options = {"classes": classes} if file_format == "yolo" else {}
    # A file that the user names may be a link: what lies beside the file itself is inside too.
    own = [path] if path.is_dir() else [path.parent, path.resolve().parent]
    with bounded_by([*own, *([images] if images else [])], str(path), allow_outside=allow_outside):
        found = FORMATS[file_format].read(path, images, subset, **options)
    if classes:
        found.given_classes = list(classes)
    found = found.clean()
    refuse_line_breaks([*(image.path for image in found.images), *found.class_names], str(path))
    return found


def detect_format(path: Path) -> str:
    """The format of a file or folder, by the names of its files and the first lines of JSON.

    Raises:
        SetupError: none fits, or more than one.
    """
    if path.is_file():
        by_suffix = {".xml": "voc", ".csv": "csv", ".yaml": "yolo", ".yml": "yolo"}
        suffix = path.suffix.lower()
        if suffix == ".json":
            return _kind_of_json(path)
        if suffix in by_suffix:
            return by_suffix[suffix]
        raise SetupError(f"{path}: no known format ends in {suffix or 'nothing'}: give one of {', '.join(FORMATS)}.")
    found = ["voc"] if list_files(path, (".xml",)) else []
    found += sorted({_kind_of_json(file) for file in list_files(path, (".json",))[:1]})
    yamls = [*path.glob("*.yaml"), *path.glob("*.yml")]
    names = [*path.rglob("classes.txt"), *path.rglob("*.names"), *path.rglob("_darknet.labels")]
    # Pascal VOC has lists of image names as text; without names in sight labels are in a folder of that name.
    has_labels = any(part.is_dir() for part in (path / "labels", path / "train" / "labels"))
    if names or has_labels or any("names" in read_yaml(file) for file in yamls):
        found.append("yolo")
    if any(path.glob("*.csv")):
        found.append("csv")
    if not found:
        raise SetupError(
            f"{path} holds none of the known formats: XML (voc), data.yaml or label files with names (yolo), "
            "JSON (coco, labelme) or CSV (csv)."
        )
    if len(found) > 1:
        raise SetupError(f"{path} holds more than one format ({', '.join(found)}): say which with FORMAT (--format).")
    return found[0]


def _kind_of_json(path: Path) -> str:
    with open_named(path) as file:
        return "labelme" if re.search(rb'"shapes"\s*:', file.read(_HEAD)) else "coco"
