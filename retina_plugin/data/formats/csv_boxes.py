"""CSV in keras-retinanet's form: one row per box, ``path,x1,y1,x2,y2,class`` in pixels, (x2, y2) the far edge.

Empty fields behind the path: an image without objects. A first row of column names may put the columns in any order and
add others, one of which a split can go by. The separator may be a comma, a semicolon or a tab.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import SetupError
from ..images import read_sizes
from .box_set import AnnotatedImage, Box, BoxSet, check_claimed_size
from .files import list_files, read_lines, read_names
from .pairing import ImageIndex, check_pairs, fold
from .parts import part_of, part_of_name, pick_files

__all__ = ["is_box_file", "read"]

# Names of the columns; the first is keras-retinanet's word.
_COLUMNS = {
    "path": tuple("path filename file_name image image_path img_file image_name image_id img file".split()),
    "x1": ("x1", "xmin", "x_min", "left"),
    "y1": ("y1", "ymin", "y_min", "top"),
    "x2": ("x2", "xmax", "x_max", "right"),
    "y2": ("y2", "ymax", "y_max", "bottom"),
    "class": ("class", "class_name", "label", "name"),
}
_SIZE = ("width", "height")
_CLASS_FILES = ("classes.csv", "class.csv", "class_map.csv", "mapping.csv", "_classes.csv")
_SEPARATORS = ",;\t"


class _Row(NamedTuple):
    origin: str
    path: str
    corners: list[str]
    class_name: str
    others: dict[str, str]


def read(path: Path, images: Path | None = None, subset: str = "") -> BoxSet:
    """Read CSV files.

    Args:
        path: the file; or a folder with one, or with one for each part of the set. ``classes.csv`` beside it gives the
            order of the classes.
        images: folder that the paths start from; by default the file's.
        subset: "train" or "val", to choose a file of the folder.

    Raises:
        SetupError: naming file and line.
    """
    root = images or (path if path.is_dir() else path.parent)
    if not root.is_dir():
        raise SetupError(f"The image folder {root} {'is a file' if root.exists() else 'does not exist'}.")
    found = BoxSet(str(path), root, [])
    for file in _choose_files(path, subset, found):
        _read_file(file, images or file.parent, found)
    return found


def _choose_files(path: Path, subset: str, found: BoxSet) -> list[Path]:
    if path.is_file():
        return [path]
    files = [file for file in path.iterdir() if file.suffix.lower() == ".csv"] or list_files(path, (".csv",))
    files = sorted(file for file in files if fold(file.name) not in _CLASS_FILES)
    files = [file for file in files if is_box_file(file)] or files  # not a table of results beside it
    parts = {file: part_of_name(file.stem) or part_of(file, path) for file in files}
    chosen, remarks = pick_files(path, parts, subset, "CSV file of boxes")
    found.remarks += remarks
    return chosen


def _read_file(file: Path, root: Path, found: BoxSet) -> None:
    rows = _read_rows(file)
    if not rows:
        raise SetupError(f"{file} has no rows: write path,x1,y1,x2,y2,class, one box a row.")
    classes = next((other for other in sorted(file.parent.iterdir()) if fold(other.name) in _CLASS_FILES), None)
    if classes:
        names = read_names(classes)
        if found.given_classes is not None and names != found.given_classes:
            raise SetupError(f"{classes} has other classes than the file of another part: make them the same.")
        found.given_classes = names
    places = _find_images(rows, root, found.source)
    sizes = read_sizes(dict.fromkeys(places.values()), root)
    by_path: dict[Path, AnnotatedImage] = {}
    for row in rows:
        place = places[row.path]
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
        width, height = (row.others.get(name, "") for name in _SIZE)
        box_size = [corners[2] - corners[0], corners[3] - corners[1]]
        if width.isdecimal() and height.isdecimal() and [float(width), float(height)] not in ([0, 0], box_size):
            check_claimed_size(place, sizes[place], (float(width), float(height)), row.origin)
    found.images += by_path.values()


def _find_images(rows: Sequence[_Row], root: Path, source: str) -> dict[str, Path]:
    """The image of each path.

    Raises:
        SetupError: many are missing; fewer are left for ``read_sizes`` to name.
    """
    names = dict.fromkeys(row.path for row in rows)
    places = {name: root / name for name in names}
    missing = [name for name in names if os.path.isabs(name) or not os.path.isfile(places[name])]
    if missing:
        index = ImageIndex(root)
        places.update({name: place for name in missing if (place := index.find(name))})
        missing = [name for name in missing if not os.path.exists(places[name])]
        check_pairs(source, missing, len(places), set(places.values()), index, "path")
    return places


def is_box_file(file: Path) -> bool:
    """True for a CSV file whose first row is that of a box, or names the columns of one."""
    try:
        return bool(_read_rows(file, most=1))
    except SetupError:
        return False


def _read_rows(file: Path, most: int | None = None) -> list[_Row]:
    """The rows of boxes, or the first ``most`` of them."""
    first = next((line for line in read_lines(file) if line.strip(f" \r\n{_SEPARATORS}")), "")
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(read_lines(file), strict=True, delimiter=separator)
    rows: list[_Row] = []
    columns: dict[str, int] = {}
    try:
        for fields in reader:
            fields = [field.strip() for field in fields]
            if not any(fields):
                continue
            origin = f"{file}:{reader.line_num}"
            if not columns:
                columns = _read_header(file, fields)
                number = len(fields)
                if columns:
                    continue
                columns, number = _guess_columns(fields)
            while len(fields) > number and not fields[-1]:  # a separator behind the last field
                fields.pop()
            if len(fields) != number:
                others = [other for other in _SEPARATORS if other != separator and other in "".join(fields)]
                hint = f"; the separator of the first row is {separator!r}" if others else ""
                raise SetupError(f"{origin}: a row must have {number} fields, got {len(fields)}{hint}.")
            place, *corners, class_name = (fields[columns[name]] for name in _COLUMNS)
            if not place:
                raise SetupError(f"{origin}: the path is empty.")
            others = {name: fields[i] for name, i in columns.items() if name not in _COLUMNS}
            rows.append(_Row(origin, place.replace("\\", "/"), corners, class_name, others))
            if len(rows) == most:
                break
    except csv.Error as error:
        raise SetupError(f"{file}:{reader.line_num}: is not CSV: {error}.") from None
    return rows


def _guess_columns(fields: Sequence[str]) -> tuple[dict[str, int], int]:
    """(column -> place, number of fields) by the first row of a file that does not name its columns.

    pandas writes the number of a row in front, SKU-110K the size of the image behind.
    """
    count = len(fields)
    while count > 6 and not fields[count - 1]:
        count -= 1
    start = int(count in (7, 9) and fields[0].isdecimal())
    has_size = count - start == 8 and all(field.isdecimal() for field in fields[count - 2 : count])
    return {name: i for i, name in enumerate(_COLUMNS, start)}, start + (8 if has_size else 6)


def _read_header(file: Path, fields: list[str]) -> dict[str, int]:
    """Column -> place if the first row holds names; {} if it is a box."""
    lower = [field.lower() for field in fields]
    known = {name: next((i for i, f in enumerate(lower) if f in words), None) for name, words in _COLUMNS.items()}
    if known["path"] is None and known["x1"] is None and known["x2"] is None:
        return {}
    lacking = [name for name, place in known.items() if place is None]
    if lacking:
        raise SetupError(f"{file}:1: the columns lack {', '.join(lacking)}: name them {','.join(_COLUMNS)}.")
    return known | {f: i for i, f in enumerate(fields) if i not in known.values() and f}
