"""What every reader of an annotation format makes: images with their sizes, boxes with their origins, class names.

Coordinates are edges in pixels of the image as Detectron2 reads it (after the EXIF orientation): a box that covers an
image of W x H is (0, 0, W, H).
"""

import math
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import SetupError

__all__ = ["AnnotatedImage", "Box", "BoxSet", "Remark", "check_claimed_size", "summarise_remarks"]

# A box may stick out by the rounding of its corners without a remark.
_ROUNDING = 1.0
# A guard. Published sets have a few clicks among their boxes (blood cells: 2 of 4,888); a wrong order of columns, or
# coordinates of another size of the image, hits most of them.
_MAX_DROPPED_SHARE = 0.1
_SHOWN_CLASSES = 10


class Box(NamedTuple):
    """One object."""

    x1: float
    y1: float
    x2: float
    y2: float
    class_name: str
    # Where it is written: "file:line", or the file and the number of the record.
    origin: str
    is_crowd: bool = False


class Remark(NamedTuple):
    """Something that was left out or changed: equal sentences are counted together."""

    what: str
    origin: str


@dataclass
class AnnotatedImage:
    """An image file and its boxes; none means that the image is known to have no object."""

    path: Path
    width: int
    height: int
    boxes: list[Box] = field(default_factory=list)
    # Values of further columns, for a split by one of them.
    columns: dict[str, str] = field(default_factory=dict)


@dataclass
class BoxSet:
    """A data set in memory."""

    # The file or folder it was read from, for messages.
    source: str
    # Images outside it are written with their absolute path.
    root: Path
    images: list[AnnotatedImage]
    # In the order of a names file; None where the format has none, which sorts them by name.
    given_classes: list[str] | None = None
    remarks: list[Remark] = field(default_factory=list)

    @property
    def class_counts(self) -> Counter:
        """Boxes by class name."""
        return Counter(box.class_name for image in self.images for box in image.boxes)

    @property
    def class_names(self) -> list[str]:
        """The given ones, else those that occur, sorted."""
        return self.given_classes if self.given_classes is not None else sorted(self.class_counts)

    def relative_name(self, image: AnnotatedImage) -> str:
        """The image's path within ``root``, with slashes; the absolute path of one outside."""
        try:
            return image.path.relative_to(self.root).as_posix()
        except ValueError:
            return os.path.abspath(image.path)

    def tidy(self) -> "BoxSet":
        """Drop boxes without area or outside their image, clip those that stick out, and say so in ``remarks``.

        Raises:
            SetupError: there are no images, a box cannot be meant, or so many would be dropped that the coordinates
                are in doubt.
        """
        if not self.images:
            raise SetupError(f"{self.source} has no images.")
        self.images.sort(key=self.relative_name)
        num_boxes, dropped = sum(len(image.boxes) for image in self.images), []
        for image in self.images:
            image.boxes = [good for box in image.boxes if (good := _tidy_box(box, image, dropped, self.remarks))]
        if len(dropped) > _MAX_DROPPED_SHARE * num_boxes:
            what, origin = dropped[0]
            raise SetupError(
                f"{self.source}: {len(dropped)} of {num_boxes} boxes cannot be used; the first {what} ({origin}). "
                "Check the order of the coordinates and the size of the image that they belong to."
            )
        self.remarks += [Remark(f"box dropped: it {what}", origin) for what, origin in dropped]
        self._check_class_names()
        return self

    def _check_class_names(self) -> None:
        known = None if self.given_classes is None else set(self.given_classes)
        lower: dict[str, str] = {}
        for image in self.images:
            for box in image.boxes:
                if not box.class_name:
                    raise SetupError(f"{box.origin}: the class of a box is empty: name it.")
                if known is not None and box.class_name not in known:
                    raise SetupError(
                        f"{box.origin}: the class {box.class_name!r} is not among the {len(known)} given "
                        f"({_shorten(self.given_classes)}): add it there, or mend its name."
                    )
                other = lower.setdefault(box.class_name.lower(), box.class_name)
                if other != box.class_name and known is None:
                    self.remarks.append(Remark(f"class {box.class_name!r} differs from {other!r} in case", box.origin))

    def to_coco(self, class_names: list[str]) -> dict[str, Any]:
        """The set as COCO's JSON: ids count from 1, images by name, classes in the order of ``class_names``."""
        class_ids = {name: i for i, name in enumerate(class_names, 1)}
        annotations: list[dict] = []
        for image_id, image in enumerate(self.images, 1):
            for x1, y1, x2, y2, class_name, _, is_crowd in image.boxes:
                width, height = round(x2 - x1, 4), round(y2 - y1, 4)
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": class_ids[class_name],
                    "bbox": [round(x1, 4), round(y1, 4), width, height], "area": round(width * height, 4),
                    "iscrowd": int(is_crowd),
                })  # fmt: skip
        return {
            "images": [
                {"id": i, "file_name": self.relative_name(image), "width": image.width, "height": image.height}
                for i, image in enumerate(self.images, 1)
            ],
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for name, i in class_ids.items()],
        }


def check_claimed_size(path: Path, size: tuple[int, int], claimed: tuple[float, float], origin: str) -> None:
    """Compare the size of an image, after EXIF, with what its annotation says.

    Raises:
        SetupError: they differ, so that the boxes belong to another image, size or orientation.
    """
    if tuple(claimed) == tuple(size):
        return
    found, expected = f"{size[0]}x{size[1]}", f"{claimed[0]:g}x{claimed[1]:g}"
    if tuple(claimed) == tuple(size)[::-1]:
        raise SetupError(
            f"{origin}: the image size is given as {expected}, but {path} is {found} as Detectron2 reads it (after "
            "its EXIF orientation): annotate the turned image, or remove the orientation from the file."
        )
    raise SetupError(f"{origin}: the image size is given as {expected}, but {path} is {found}: mend one of them.")


def summarise_remarks(remarks: list[Remark]) -> list[str]:
    """One sentence a kind: how often, and where first."""
    counts = Counter(remark.what for remark in remarks)
    first = {remark.what: remark.origin for remark in reversed(remarks)}
    return [
        f"{what} ({origin})" if counts[what] == 1 else f"{counts[what]} x {what} (the first: {origin})"
        for what in counts
        for origin in [first[what]]
    ]


def _tidy_box(box: Box, image: AnnotatedImage, dropped: list[Remark], remarks: list[Remark]) -> Box | None:
    corners = box[:4]
    text = ", ".join(f"{value:g}" for value in corners)
    if not all(map(math.isfinite, corners)):
        raise SetupError(f"{box.origin}: the box {text} holds NaN or infinity: write numbers.")
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        raise SetupError(
            f"{box.origin}: the box {text} (left, top, right, bottom) has its edges in the wrong order: "
            "swap them, or check the order of the coordinates."
        )
    if x1 == x2 or y1 == y2:
        dropped.append(Remark("has no width or height", box.origin))
        return None
    if x1 >= image.width or y1 >= image.height or x2 <= 0 or y2 <= 0:
        dropped.append(Remark("lies outside its image", box.origin))
        return None
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(image.width)), min(y2, float(image.height)))
    if max(abs(a - b) for a, b in zip(corners, clipped, strict=True)) > _ROUNDING:
        remarks.append(Remark("box clipped: it sticks out of its image", box.origin))
    return box._replace(x1=clipped[0], y1=clipped[1], x2=clipped[2], y2=clipped[3])


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN_CLASSES]) + (", ..." if len(names) > _SHOWN_CLASSES else "")
