"""LabelMe: one JSON file per image.

A rectangle is two opposite corners in any order; a polygon, circle or mask becomes the box around it.
"""

import json
import math
from pathlib import Path
from typing import Any

from ...errors import SetupError
from ..safe_json import MAX_LISTS, is_number, parse_json
from .box_set import Box, BoxSet, Remark, check_claimed_size
from .files import list_files, read_text
from .pairing import ImageIndex, NotAnAnnotation, find_pairs
from .parts import part_of

__all__ = ["read"]

# Shapes that have a box around them, with the least number of their points.
_SHAPES = {"rectangle": 2, "polygon": 3, "circle": 2, "mask": 2}
_WITHOUT_AREA = ("point", "points", "line", "linestrip")


def read(path: Path, images: Path | None = None, subset: str = "") -> BoxSet:
    """Read the JSON files of a folder.

    Args:
        path: a folder of JSON files, or one of them.
        images: folder of the images; by default they lie beside the JSON files.
        subset: "train" or "val": only the folder of that name, if there is one; "" for everything.

    Raises:
        SetupError: naming file and shape.
    """
    folder = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else list_files(folder, (".json",))
    if not files:
        raise SetupError(f"{folder} has no JSON files (LabelMe).")
    index = ImageIndex(images or folder)
    found = BoxSet(str(path), index.folder, [])
    parts = {file: part_of(file, folder) for file in files}
    for file, content, image in find_pairs(found, files, index, _read_json, "JSON", subset, parts.__getitem__):
        claimed = (content.get("imageWidth"), content.get("imageHeight"))
        if all(is_number(side) and side for side in claimed):
            check_claimed_size(image.path, (image.width, image.height), claimed, str(file))
        shapes = enumerate(content["shapes"], 1)
        boxes = [_read_shape(f"{file}: shape {number}", shape, found.remarks) for number, shape in shapes]
        image.boxes = [box for box in boxes if box]
    return found


def _read_json(file: Path) -> tuple[dict[str, Any], str, str]:
    text = read_text(file)
    try:
        if text.count("[") > MAX_LISTS:
            raise SetupError(f"{file} has more than {MAX_LISTS} lists: is it an annotation?")
        content = parse_json(text, file)
    except json.JSONDecodeError as error:
        where = "is empty" if not text.strip() else f":{error.lineno} is not valid JSON: {error.msg}"
        raise SetupError(f"{file}{where if where[0] == ':' else ' ' + where}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise NotAnAnnotation(f"{file} must hold an object with a list of shapes (LabelMe).")
    name = content.get("imagePath") or ""
    if not isinstance(name, str):
        raise SetupError(f"{file}: imagePath must be text, got {name!r}.")
    return content, name, " (the copy in imageData is not used)" if content.get("imageData") else ""


def _read_shape(origin: str, shape: Any, remarks: list[Remark]) -> Box | None:
    if not isinstance(shape, dict):
        raise SetupError(f"{origin} must be an object with a label and points, got {str(shape)[:80]}.")
    if not isinstance(shape.get("label"), str):
        raise SetupError(f"{origin} needs a label, as text, got {shape.get('label')!r}.")
    kind = shape.get("shape_type") or "polygon"  # files before version 3 have polygons alone
    if isinstance(kind, str) and kind in _WITHOUT_AREA:
        remarks.append(Remark(f"shape left out: a {kind} has no box", origin))
        return None
    if not isinstance(kind, str) or kind not in _SHAPES:
        known = ", ".join(_SHAPES)
        raise SetupError(f"{origin} has shape_type {kind!r}, which has no upright box here: known are {known}.")
    points = shape.get("points")
    are_points = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in points
    )
    if not are_points or len(points) < _SHAPES[kind]:
        raise SetupError(f"{origin}: a {kind} needs at least {_SHAPES[kind]} points [x, y], got {str(points)[:80]}.")
    if kind != "rectangle":
        remarks.append(Remark(f"{kind} taken as the box around it", origin))
    xs, ys = zip(*points, strict=True)
    if kind == "circle":  # centre, and a point of the rim
        radius = math.dist(*points[:2])
        xs, ys = (xs[0] - radius, xs[0] + radius), (ys[0] - radius, ys[0] + radius)
    return Box(min(xs), min(ys), max(xs), max(ys), shape["label"].strip(), origin)
