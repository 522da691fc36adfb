"""CSV in keras-retinanet's form: one row per box, ``path,x1,y1,x2,y2,class`` in pixels, (x2, y2) the far edge.

Empty fields behind the path: an image without objects. A first row of column names may add further columns, one of
which a split can go by.
"""

import csv
from pathlib import Path
from typing import NamedTuple

from ...errors import SetupError
from ..images import read_sizes
from .box_set import AnnotatedImage, Box, BoxSet
from .files import choose_file, read_lines, read_names

__all__ = ["read"]

# Names of the columns; the first is keras-retinanet's word.
_COLUMNS = {
    "path": ("path", "filename", "file_name", "image", "image_path", "img_file"),
    "x1": ("x1", "xmin", "x_min", "left"),
    "y1": ("y1", "ymin", "y_min", "top"),
    "x2": ("x2", "xmax", "x_max", "right"),
    "y2": ("y2", "ymax", "y_max", "bottom"),
    "class": ("class", "class_name", "label", "name"),
}
_CLASS_FILES = ("classes.csv", "class.csv", "class_map.csv", "mapping.csv")


class _Row(NamedTuple):
    origin: str
    path: str
    corners: list[str]
    class_name: str
    others: dict[str, str]


def read(path: Path, images: Path | None = None, subset: str = "") -> BoxSet:
    """Read a CSV file.

    Args:
        path: the file; or a folder with one, ``<subset>.csv`` among several. ``classes.csv`` beside it gives the
            order of the classes.
        images: folder that the paths start from; by default the file's.
        subset: "train" or "val", to choose a file of the folder.

    Raises:
        SetupError: naming file and line.
    """
    file = path
    if path.is_dir():
        files = [file for file in sorted(path.glob("*.csv")) if file.name not in _CLASS_FILES]
        file = choose_file(path, files, subset, "CSV file of boxes", whole_name=True)
    root = images or file.parent
    if not root.is_dir():
        raise SetupError(f"The image folder {root} {'is a file' if root.exists() else 'does not exist'}.")
    rows = _read_rows(file)
    if not rows:
        raise SetupError(f"{file} has no rows: write path,x1,y1,x2,y2,class, one box a row.")
    names = next((file.parent / name for name in _CLASS_FILES if (file.parent / name).exists()), None)
    found = BoxSet(str(path), root, [], read_names(names) if names else None)
    sizes = read_sizes(dict.fromkeys(root / row.path for row in rows), root)
    by_path: dict[Path, AnnotatedImage] = {}
    for row in rows:
        place = root / row.path
        image = by_path.setdefault(place, AnnotatedImage(place, *sizes[place], [], row.others))
        if image.columns != row.others:
            image.columns = {key: value for key, value in row.others.items() if image.columns.get(key) == value}
        values = [*row.corners, row.class_name]
        if not any(values):
            continue
        if not all(values):
            raise SetupError(
                f"{row.origin}: x1,y1,x2,y2,class must be all filled, or all empty for an image without objects."
            )
        try:
            corners = [float(value) for value in row.corners]
        except ValueError:
            raise SetupError(f"{row.origin}: x1,y1,x2,y2 must be numbers, got {','.join(row.corners)!r}.") from None
        image.boxes.append(Box(*corners, row.class_name, row.origin))
    found.images = list(by_path.values())
    return found


def _read_rows(file: Path) -> list[_Row]:
    reader = csv.reader(read_lines(file), strict=True)
    rows, columns = [], None
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if not any(fields):
                continue
            if columns is None:
                columns = _read_header(file, fields)
                if columns:
                    continue
                columns = {name: i for i, name in enumerate(_COLUMNS)}
            origin, number = f"{file}:{reader.line_num}", max(6, len(columns))
            if len(fields) != number:
                is_one = len(fields) == 1 and (";" in fields[0] or "\t" in fields[0])
                hint = "; the separator must be a comma" if is_one else ""
                raise SetupError(f"{origin}: a row must have {number} fields, got {len(fields)}{hint}.")
            place, *corners, class_name = (fields[columns[name]] for name in _COLUMNS)
            if not place:
                raise SetupError(f"{origin}: the path is empty.")
            others = {name: fields[i] for name, i in columns.items() if name not in _COLUMNS}
            rows.append(_Row(origin, place.replace("\\", "/"), corners, class_name, others))
    except csv.Error as error:
        raise SetupError(f"{file}:{reader.line_num}: is not CSV: {error}.") from None
    return rows


def _read_header(file: Path, fields: list[str]) -> dict[str, int]:
    """Column -> place if the first row holds names; {} if it is a box."""
    lower = [field.lower() for field in fields]
    known = {name: next((i for i, f in enumerate(lower) if f in words), None) for name, words in _COLUMNS.items()}
    if known["x1"] is None and known["x2"] is None:
        return {}
    lacking = [name for name, place in known.items() if place is None]
    if lacking:
        raise SetupError(f"{file}:1: the columns lack {', '.join(lacking)}: name them {','.join(_COLUMNS)}.")
    return known | {f: i for i, f in enumerate(fields) if i not in known.values() and f}
