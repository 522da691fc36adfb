"""YOLO: one text file per image with lines ``class cx cy w h``, all but the class as parts of the image's sides.

An image without a text file, or with an empty one, has no objects. A polygon becomes the box around it.
"""

import math
from collections import Counter
from pathlib import Path

from ...errors import SetupError
from ..images import read_sizes
from .box_set import AnnotatedImage, Box, BoxSet, Remark
from .files import read_text
from .pairing import IMAGE_WORDS, belong_together, check_pairs, find_folder, fold, images_in_use
from .parts import part_of, part_of_name, pick_part
from .yolo_layout import YoloLayout, find_layout

__all__ = ["are_labels", "read"]

# A guard: writers round to six decimals; beyond this the numbers are pixels.
_BEYOND = 0.01


def read(path: Path, images: Path | None = None, subset: str = "", classes: list[str] | None = None) -> BoxSet:
    """Read the label files of a folder.

    Args:
        path: a folder, or its ``data.yaml`` or ``obj.data``.
        images: folder of the images; by default what ``data.yaml`` or a list says, else ``images`` in ``path``, else
            ``path``. A label has the name of its image, beside it or where its path has ``labels`` for ``images``.
        subset: "train" or "val": only that part, by ``data.yaml``, list or folder, if there is one; "" for everything.
        classes: class names by number; by default of ``data.yaml``, ``classes.txt``, ``obj.names`` or ``*.names``.

    Raises:
        SetupError: naming file and line.
    """
    layout = find_layout(path, images, subset, classes)
    found = BoxSet(str(path), layout.index.folder, [], layout.names, layout.remarks)
    labels = _pair(layout, found)
    listed = layout.listed
    if layout.is_complete:
        chosen = list(listed)
        forgotten = [image for image in labels if image not in listed]
        found.remarks += [Remark("image left out: no part of the set names it", str(image)) for image in forgotten]
    else:
        chosen = layout.index.files if images else images_in_use(layout.index, {*labels, *listed})
    parts = {image: listed.get(image) or part_of(image, layout.index.folder) for image in chosen}
    chosen, remarks = pick_part(chosen, subset, parts.__getitem__, found.source)
    found.remarks += remarks
    if images is None and not layout.is_complete:
        found.root = _narrow(found.root, chosen, subset)
    sizes = read_sizes(chosen, layout.index.folder)
    for image, size in sizes.items():
        boxes = []
        if label := labels.get(image):
            for number, line in enumerate(read_text(label).splitlines(), 1):
                if line.strip():
                    origin = f"{label}:{number}"
                    boxes.append(_read_line(origin, line, layout.names, size, layout.has_keypoints, found.remarks))
        else:
            found.remarks.append(Remark("image without a label file taken as one without objects", str(image)))
        found.images.append(AnnotatedImage(image, *size, boxes))
    return found


def _narrow(folder: Path, images: list[Path], subset: str) -> Path:
    """The folder of the images, or of their part, that names in the COCO form start from."""
    place = find_folder(folder, IMAGE_WORDS[:2])
    whole = [place, folder] if place else [folder]
    parts = [e for p in whole for e in sorted(p.iterdir()) if subset and part_of_name(e.name) == subset and e.is_dir()]
    return next(p for p in (*parts, *whole) if all(image.is_relative_to(p) for image in images))


def are_labels(file: Path) -> bool:
    """True for a text file whose first line is that of a box or polygon."""
    try:
        line = next(filter(None, map(str.split, read_text(file).splitlines())), None)
        return line is not None and len(line) > 4 and all(math.isfinite(float(word)) for word in line)
    except (SetupError, ValueError):
        return False


def _pair(layout: YoloLayout, found: BoxSet) -> dict[Path, Path]:
    """The label file of each image that has one; remarks on the other label files.

    Raises:
        SetupError: no label has an image, or too many have none.
    """
    counts = Counter(fold(file.stem) for file in layout.labels)
    labels: dict[Path, Path] = {}
    orphans = []
    for file in layout.labels:
        images = layout.index.find_own(file, counts[fold(file.stem)] == 1)
        if not images and are_labels(file):
            orphans.append(file)
        for image in images:
            other = labels.setdefault(image, file)
            if other != file:
                # Beside the image, or in the folder that belongs to its own.
                kept, left = sorted(
                    (other, file),
                    key=lambda label: (label.parent != image.parent, not belong_together(image.parent, label.parent)),
                )
                labels[image] = kept
                found.remarks.append(Remark("label file left out: its image has another", str(left)))
    files = layout.index.files
    if not labels and not orphans:
        example = files[0].with_suffix(".txt").name
        raise SetupError(
            f"{found.source}: none of {len(files)} images has a label file, such as {example} for {files[0]}: "
            "put it beside the image, or in a folder labels beside the folder of the images."
        )
    check_pairs(found.source, orphans, len(labels) + len(orphans), labels, layout.index, "label file")
    found.remarks += [Remark("label file left out: it has no image", str(file)) for file in orphans]
    return labels


def _read_line(
    origin: str, line: str, names: list[str], size: tuple[int, int], has_keypoints: bool, remarks: list[Remark]
) -> Box:
    words = line.split()
    count = len(words)
    is_polygon = count >= 7 and count % 2 == 1 and not has_keypoints
    if count != 5 and not is_polygon and not (has_keypoints and count > 5):
        found = f"{count} word{'s' if count > 1 else ''}: separate them by spaces"
        found = "6 numbers: a detection with its score? Train on labels" if count == 6 else found
        raise SetupError(f"{origin}: a line must be class cx cy w h, got {found}.")
    try:
        number, *values = map(float, words if is_polygon else words[:5])
        if not number.is_integer():
            raise ValueError
    except ValueError:
        raise SetupError(
            f"{origin}: a line must be a whole number and four numbers, got {line.strip()[:80]!r}."
        ) from None
    if not 0 <= number < len(names):
        raise SetupError(
            f"{origin}: class {number:.0f} is not among the {len(names)} names, which count from 0 to "
            f"{len(names) - 1}: add its name, or correct the number."
        )
    what, given = ("the points of a polygon" if is_polygon else "cx cy w h"), " ".join(words[1 : 1 + len(values)][:8])
    if not all(map(math.isfinite, values)):
        raise SetupError(f"{origin}: {what} must be finite numbers, got {given}.")
    if max(values) > 1 + _BEYOND or min(values if is_polygon else values[:2]) < -_BEYOND:
        raise SetupError(
            f"{origin}: {what} must be parts of the image in [0, 1], got {given}: divide pixels by its size."
        )
    width, height = size
    class_name = names[int(number)]
    if is_polygon:
        remarks.append(Remark("polygon taken as the box around it", origin))
        xs, ys = values[::2], values[1::2]
        return Box(min(xs) * width, min(ys) * height, max(xs) * width, max(ys) * height, class_name, origin)
    cx, cy, w, h = values
    if w < 0 or h < 0:
        raise SetupError(f"{origin}: w and h must be at least 0, got {words[3]} and {words[4]}.")
    box = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    return Box(*box, class_name, origin)
