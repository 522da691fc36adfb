"""YOLO: one text file per image with lines ``class cx cy w h``, all but the class as parts of the image's sides.

An image without a text file, or with an empty one, has no objects.
"""

import math
from pathlib import Path

from ...errors import SetupError
from ..images import read_sizes
from .box_set import AnnotatedImage, Box, BoxSet, Remark
from .files import list_files, read_text
from .yolo_layout import find_layout

__all__ = ["read"]

# A guard: writers round to six decimals; beyond this the numbers are pixels.
_BEYOND = 0.01


def read(path: Path, images: Path | None = None, subset: str = "", classes: list[str] | None = None) -> BoxSet:
    """Read the label files of a folder.

    Args:
        path: a folder, or its ``data.yaml``.
        images: folder of the images; by default what ``data.yaml`` says, else ``images`` in ``path``, else ``path``.
            Labels lie beside an image, or in ``labels`` where its path has ``images``.
        subset: "train" or "val": only that part, by ``data.yaml`` or by folder, if there is one; "" for everything.
        classes: class names by number; by default of ``data.yaml``, ``classes.txt``, ``obj.names`` or ``*.names``.

    Raises:
        SetupError: naming file and line.
    """
    layout = find_layout(path, images, subset, classes)
    found = BoxSet(str(path), layout.root, [], layout.names)
    sizes = read_sizes(layout.images, layout.root)
    labels = {image: _label_file(image) for image in sizes}
    for image, size in sizes.items():
        lines = []
        if labels[image].exists():
            lines = enumerate(read_text(labels[image]).splitlines(), 1)
        else:
            found.remarks.append(Remark("image without a label file taken as one without objects", str(image)))
        boxes = [_read_line(f"{labels[image]}:{i}", line, layout.names, size) for i, line in lines if line.strip()]
        found.images.append(AnnotatedImage(image, *size, boxes))
    if sizes and not any(label.is_file() for label in labels.values()):
        raise SetupError(
            f"{path}: none of {len(sizes)} images has a label file, such as {next(iter(labels.values()))}."
        )
    known = set(labels.values())
    folders = [folder for folder in sorted({label.parent for label in known}) if folder.is_dir()]
    for file in dict.fromkeys(file for folder in folders for file in list_files(folder, (".txt",))):
        if file not in known and file.name not in layout.other_texts:
            found.remarks.append(Remark("label file left out: it has no image", str(file)))
    return found


def _label_file(image: Path) -> Path:
    """Beside the image, or with its last folder ``images`` replaced by ``labels``."""
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    if beside.is_file() or "images" not in parts[:-1]:
        return beside
    last = len(parts) - 2 - parts[-2::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def _read_line(origin: str, line: str, names: list[str], size: tuple[int, int]) -> Box:
    words = line.split()
    if len(words) != 5:
        raise SetupError(f"{origin}: a line must be class cx cy w h, got {_describe_length(len(words))}.")
    try:
        cx, cy, w, h = map(float, words[1:])
        number = int(words[0])
    except ValueError:
        raise SetupError(
            f"{origin}: a line must be a whole number and four numbers, got {line.strip()[:80]!r}."
        ) from None
    if not 0 <= number < len(names):
        raise SetupError(
            f"{origin}: class {number} is not among the {len(names)} names, which count from 0 to {len(names) - 1}: "
            "add its name, or correct the number."
        )
    if not all(map(math.isfinite, (cx, cy, w, h))):
        raise SetupError(f"{origin}: cx cy w h must be finite numbers, got {' '.join(words[1:])}.")
    if max(cx, cy, w, h) > 1 + _BEYOND or min(cx, cy) < -_BEYOND:
        raise SetupError(
            f"{origin}: cx cy w h must be parts of the image in [0, 1], got {' '.join(words[1:])}: "
            "divide pixels by its size."
        )
    if w < 0 or h < 0:
        raise SetupError(f"{origin}: w and h must be at least 0, got {words[3]} and {words[4]}.")
    width, height = size
    box = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    return Box(*box, names[number], origin)


def _describe_length(count: int) -> str:
    if count == 6:
        return "6 numbers: a detection with its score? Train on labels"
    if count == 9:
        return "9 numbers: an oriented box (or a polygon of 4 points), which is not supported. Write upright boxes"
    if count >= 7 and count % 2:
        return f"{count} numbers: a polygon, which is not supported. Write the box around it"
    return f"{count} word{'s' if count > 1 else ''}: separate them by spaces"
