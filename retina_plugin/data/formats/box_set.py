"""The result of every reader of an annotation format: images with sizes, boxes with origins, class names.

Coordinates are edges in pixels of the image as Detectron2 reads it (after the EXIF orientation): a box that covers an
image of W x H is (0, 0, W, H).
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import SetupError
from ...findings import ERROR, finding
from ..boxes import find_box_faults
from ..coco import is_usable
from ..safe_json import is_number

__all__ = [
    "AnnotatedImage", "Box", "BoxSet", "Remark", "check_claimed_size", "join_sets", "order_classes",
    "summarise_remarks",
]  # fmt: skip

# Remarks on boxes with a fault that does not refuse the set (data/boxes.py).
_REMARKS = {
    "box-empty": "box dropped: it has no width or height",
    "box-outside": "box dropped: it lies outside its image",
    "box-sticks-out": "box clipped: it sticks out of its image",
}
# The same of a COCO file, which passes through as it is.
_KEPT = {
    "box-empty": "box kept, which training leaves out: it has no width or height",
    "box-outside": "box kept, which training leaves out: it lies outside its image",
    "box-sticks-out": "box kept, which training clips: it sticks out of its image",
}
_SHOWN_CLASSES = 10


class Box(NamedTuple):
    """One object."""

    x1: float
    y1: float
    x2: float
    y2: float
    class_name: str
    # "file:line", or the file and the number of the record.
    origin: str
    is_crowd: bool = False
    # Marked so in VOC: trained on, but neither found nor missed in scoring.
    is_difficult: bool = False
    # The annotation in a COCO file, which is written as it stands.
    record: dict | None = None

    def clip(self, width: int, height: int) -> "Box | None":
        """The part within an image; None if it has no area."""
        x1, y1, x2, y2 = (max(self.x1, 0.0), max(self.y1, 0.0), min(self.x2, float(width)), min(self.y2, float(height)))
        return self._replace(x1=x1, y1=y1, x2=x2, y2=y2) if x1 < x2 and y1 < y2 else None


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
    # The image's record in a COCO file, which is written as it stands.
    record: dict | None = None


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
    # A COCO file without its images and annotations; None for other formats, and sets of several files.
    coco: dict[str, Any] | None = None

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

    def clean(self) -> "BoxSet":
        """Drop boxes without area or outside their image, clip those that stick out, and note both in ``remarks``.

        Boxes of a COCO file stay as they are; each is noted.

        Raises:
            SetupError: there are no images, or boxes that cannot be meant: the one rule of ``data/boxes.py``.
        """
        is_coco = any(image.record for image in self.images)
        if not is_coco:
            self.images.sort(key=self.relative_name)
        self.check_boxes(_KEPT if is_coco else _REMARKS)
        for image in () if is_coco else self.images:
            clipped = [(box, box.clip(image.width, image.height)) for box in image.boxes]
            image.boxes = [inside for _, inside in clipped if inside]
            crowds = [box for box, inside in clipped if box.is_crowd and not inside]
            self.remarks += [Remark("crowd dropped: it has no area in its image", box.origin) for box in crowds]
        return self.check_names()

    def check_boxes(self, remarks: dict[str, str]) -> None:
        """Refuse boxes that cannot be meant, and note others by the sentences of ``remarks``."""
        rows = [(box, image) for image in self.images for box in image.boxes if not box.is_crowd]
        corners = np.array([box[:4] for box, _ in rows], dtype=float).reshape(-1, 4)
        sizes = np.array([(image.width, image.height) for _, image in rows], dtype=float).reshape(-1, 2)
        for fault in find_box_faults(corners, sizes):
            faulty = [rows[i][0] for i in fault.mask.nonzero()[0]]
            if fault.severity == ERROR:
                first = ", ".join(f"{value:g}" for value in faulty[0][:4])
                text = (
                    f"{self.source}: {len(faulty)} of {len(rows)} boxes (the first: {first} as left, top, right, "
                    f"bottom; {faulty[0].origin}) {fault.text}"
                )
                raise SetupError(str(finding(fault.check, self.source, text)))
            self.remarks += [Remark(remarks[fault.check], box.origin) for box in faulty]

    def check_names(self) -> "BoxSet":
        """Refuse a set without images, and classes that are not among those given."""
        if not self.images:
            raise SetupError(f"{self.source} has no images.")
        known = None if self.given_classes is None else set(self.given_classes)
        lower: dict[str, str] = {}
        for image in self.images:
            for box in image.boxes:
                if not box.class_name:
                    raise SetupError(f"{box.origin}: the class of a box is empty: name it.")
                if known is not None and box.class_name not in known:
                    listed = ", ".join(name[:40] for name in self.given_classes[:_SHOWN_CLASSES])
                    listed += ", ..." * (len(known) > _SHOWN_CLASSES)
                    raise SetupError(
                        f"{box.origin}: the class {box.class_name!r} is not among the {len(known)} given "
                        f"({listed}): add it there, or correct its name."
                    )
                other = lower.setdefault(box.class_name.lower(), box.class_name)
                if other != box.class_name and known is None:
                    self.remarks.append(Remark(f"class {box.class_name!r} differs from {other!r} in case", box.origin))
        return self

    def to_coco(self, class_names: list[str]) -> dict[str, Any]:
        """The set as COCO's JSON, classes in the order of ``class_names``.

        What was read from COCO stays as it was: other fields, boxes, and the ids that are different in the whole set.
        Else ids count from 1, and images are in the order of their names.
        """
        categories = self._categories(class_names)
        class_ids = {category["name"]: category["id"] for category in categories}
        boxes = [(image, box) for image in self.images for box in image.boxes]
        image_ids = _own_ids([image.record for image in self.images])
        box_ids = _own_ids([box.record for _, box in boxes])
        if any(type(each) is not int for each in box_ids) or 0 in box_ids:  # pycocotools takes 0 for no match
            box_ids = list(range(1, len(boxes) + 1))
        id_of = dict(zip(map(id, self.images), image_ids, strict=True))
        annotations = [
            {**_annotation(box), "id": box_id, "image_id": id_of[id(image)], "category_id": class_ids[box.class_name]}
            for (image, box), box_id in zip(boxes, box_ids, strict=True)
        ]
        images = [
            {**(image.record or {}), "id": image_id, "file_name": self._file_name(image),
             "width": image.width, "height": image.height}
            for image, image_id in zip(self.images, image_ids, strict=True)
        ]  # fmt: skip
        return {**(self.coco or {}), "images": images, "annotations": annotations, "categories": categories}

    def _file_name(self, image: AnnotatedImage) -> str:
        own = image.record and image.record["file_name"]
        return own if own and self.root / own == image.path else self.relative_name(image)

    def _categories(self, class_names: list[str]) -> list[dict[str, Any]]:
        """The categories of the COCO file with their ids, and those that it lacks, if their order can be kept."""
        own = {category["name"]: category for category in (self.coco or {}).get("categories", ())}
        if sorted(own, key=lambda name: own[name]["id"]) == class_names:
            return self.coco["categories"]
        first = next((i for i, name in enumerate(class_names) if name in own), 0)
        last = min(0, own[class_names[first]]["id"] - first - 1) if own.keys() & set(class_names) else 0
        ids = []
        for name in class_names:
            last = max(last + 1, own[name]["id"]) if name in own else last + 1
            ids.append(last)
        if any(name in own and own[name]["id"] != i for name, i in zip(class_names, ids, strict=True)):
            ids = list(range(1, len(class_names) + 1))
        return [{**own.get(name, {}), "id": i, "name": name} for name, i in zip(class_names, ids, strict=True)]


def _own_ids(records: list[dict | None]) -> list:
    """The ids of COCO records, if no two are equal and all are numbers or all text; else 1, 2, 3 and so on."""
    ids = [record.get("id") if record else None for record in records]
    if {type(each) for each in ids} in ({int}, {str}) and len(set(ids)) == len(ids):
        return ids
    return list(range(1, len(records) + 1))


def _annotation(box: Box) -> dict[str, Any]:
    """A COCO annotation without its ids."""
    width, height = round(box.x2 - box.x1, 4), round(box.y2 - box.y1, 4)
    area = round(width * height, 4)
    if box.record is None:
        difficult = {"difficult": 1} if box.is_difficult else {}
        bbox = [round(box.x1, 4), round(box.y1, 4), width, height]
        return {"id": 0, "image_id": 0, "category_id": 0, "bbox": bbox, "area": area,
                "iscrowd": int(box.is_crowd), **difficult}  # fmt: skip
    lacking = {"iscrowd": 0} | ({} if is_number(box.record.get("area")) else {"area": area})
    own = {key: value for key, value in box.record.items() if key not in lacking or value is not None}
    if not is_usable(own.get("segmentation")):
        del own["segmentation"]
    return lacking | own


def order_classes(sets: Sequence[BoxSet]) -> list[str]:
    """The classes of several sets: those of names files in their order, then the others by name."""
    given = [name for part in sets for name in part.given_classes or []]
    return list(dict.fromkeys([*given, *sorted(set().union(*(part.class_counts for part in sets)))]))


def join_sets(sets: Sequence[BoxSet]) -> BoxSet:
    """One set of several, with the images of all.

    Raises:
        SetupError: two of them have an image in common.
    """
    if len(sets) == 1:
        return sets[0]
    seen: dict[str, BoxSet] = {}
    for part in sets:
        for image in part.images:
            other = seen.setdefault(os.path.abspath(image.path), part)
            if other is not part:
                raise SetupError(
                    f"{other.source} and {part.source} both have the image {image.path}: name each folder once."
                )
    try:
        root = os.path.commonpath([part.root for part in sets])
    except ValueError:  # relative and absolute paths, or two drives
        root = os.path.abspath("")
    joined = BoxSet(", ".join(part.source for part in sets), Path(root), [])
    joined.images = sorted((image for part in sets for image in part.images), key=joined.relative_name)
    if all(part.coco and part.coco["categories"] == (sets[0].coco or {}).get("categories") for part in sets):
        joined.coco = sets[0].coco
    joined.remarks = [remark for part in sets for remark in part.remarks]
    if any(part.given_classes is not None for part in sets):
        joined.given_classes = order_classes(sets)
    return joined


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
    raise SetupError(f"{origin}: the image size is given as {expected}, but {path} is {found}: correct one of them.")


def summarise_remarks(remarks: list[Remark]) -> list[str]:
    """One sentence per kind: how often it occurs, and where first."""
    counts = Counter(remark.what for remark in remarks)
    first = {remark.what: remark.origin for remark in reversed(remarks)}
    return [
        f"{what} ({origin})" if counts[what] == 1 else f"{counts[what]} x {what} (the first: {origin})"
        for what in counts
        for origin in [first[what]]
    ]
