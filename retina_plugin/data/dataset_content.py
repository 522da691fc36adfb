"""The images and boxes of a registered data set: one form for COCO JSON files and for Python loaders."""

import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode

from ..errors import SetupError
from ..findings import Finding, finding
from .coco import REMEDY, is_usable, read_coco, record_findings, shorten
from .register import allows_outside
from .safe_json import is_number

__all__ = ["DatasetContent", "load_content"]


@dataclass
class DatasetContent:
    """N images with M boxes that are not crowds."""

    name: str
    # The JSON file, or the set's name again where Python code makes the records.
    source: str
    # Names by class index; None if the set has none.
    class_names: list[str] | None
    file_names: list[str] = field(default_factory=list)
    image_ids: list[Hashable] = field(default_factory=list)
    # (N, 2) width and height, pixels; NaN where a loader leaves them out.
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    # (M, 4) XYWH, absolute pixels, as annotated.
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    # (M,) index of the box's image, and of its class.
    box_images: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    box_classes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    annotation_ids: list[Hashable] = field(default_factory=list)
    # Number of boxes by class index; without names, only of classes that occur.
    class_counts: Counter = field(default_factory=Counter)
    # Records that are left out (errors), and doubtful ones.
    findings: list[Finding] = field(default_factory=list)

    @property
    def num_annotated(self) -> int:
        """Images with at least one box."""
        return len(np.unique(self.box_images))

    @property
    def local_files(self) -> list[int]:
        """Indices of the images that are files of this machine."""
        return [i for i, name in enumerate(self.file_names) if name and "://" not in name]

    def place(self, image: int, **more: object) -> dict[str, object]:
        """The place of a finding: the file and id of an image by its index, and ``more``."""
        return {"file": self.file_names[image], "image_id": self.image_ids[image], **more}

    def add_boxes(self, rows: list[tuple[list[float], int, int, Hashable]]) -> None:
        """Take over the boxes: XYWH, index of the image, index of the class, and annotation id of each."""
        boxes, images, classes, ids = zip(*rows, strict=True) if rows else ([], [], [], [])
        self.boxes = np.array(boxes, dtype=float).reshape(-1, 4)
        self.box_images = np.array(images, dtype=int)
        self.box_classes = np.array(classes, dtype=int)
        self.annotation_ids = list(ids)
        self.class_counts = Counter(self.box_classes.tolist())


def load_content(name: str, *, for_training: bool, for_test: bool) -> DatasetContent:
    """Read the data set ``name``; records that cannot be used are left out and named in ``findings``.

    Args:
        name: a registered data set.
        for_training: it must have annotations.
        for_test: its annotations must have what COCO's evaluation reads (area, iscrowd).

    Raises:
        SetupError: the set as a whole is nothing that Detectron2 could use or would read aright.
    """
    metadata = MetadataCatalog.get(name)
    # A loader of another origin may leave out or change what a JSON file says, so its own records count.
    if DatasetCatalog[name].__module__ != register_coco_instances.__module__:
        return _load_records(name, metadata.get("thing_classes"))
    coco = read_coco(name, str(metadata.json_file), for_scoring=for_test, needs_boxes=for_training)
    registered = metadata.get("thing_classes")
    if registered and list(registered) != coco.class_names:
        raise SetupError(
            f"{name}: {coco.path} has the classes {shorten(coco.class_names)}, but {name} is registered with "
            f"{shorten(list(registered))}: give the file another name, with DATASETS.TRAIN_JSON / VAL_JSON."
        )
    if not registered:
        metadata.thing_classes = list(coco.class_names)  # a checkpoint is compared with them before the set is loaded
    content = DatasetContent(name, coco.path, coco.class_names, findings=coco.findings)
    for annotation in coco.annotations:
        segmentation = annotation.get("segmentation")
        is_list = isinstance(segmentation, list) and all(isinstance(polygon, list) for polygon in segmentation)
        if not is_list and not is_usable(segmentation):
            text = (
                f"{name}: the segmentation of annotation id {annotation['id']!r} in {coco.path} is no list of polygons"
            )
            content.findings.append(finding("record-unusable", name, text, "Delete it: only the box is read."))
            break
    content.file_names = coco.image_paths(metadata.image_root, allow_outside=allows_outside(name))
    content.image_ids = [image["id"] for image in coco.images]
    content.sizes = np.array([(i["width"], i["height"]) for i in coco.images], dtype=float).reshape(-1, 2)
    image_of = {image_id: i for i, image_id in enumerate(content.image_ids)}
    content.add_boxes([
        (a["bbox"], image_of[a["image_id"]], coco.class_of[a["category_id"]], a["id"])
        for a in coco.annotations
        if a["image_id"] in image_of and not a.get("iscrowd", 0)
    ])  # fmt: skip
    return content


def _load_records(name: str, class_names: list[str] | None) -> DatasetContent:
    try:
        records = DatasetCatalog.get(name)
    except SetupError:
        raise
    except Exception as error:  # a loader is anyone's code
        remedy = f"\n{REMEDY}" if isinstance(error, FileNotFoundError) else ""
        if isinstance(error, ModuleNotFoundError):  # such as lvis
            remedy = f"\nInstall it: pip install {error.name}"
        raise SetupError(f"data set {name} cannot be loaded: {type(error).__name__}: {error}.{remedy}") from error
    content = DatasetContent(name, name, list(class_names) if class_names else None)
    if not isinstance(records, list):
        text = f"{name} yields {type(records).__name__}, not a list: its content is not checked"
        content.findings = [finding("record-doubtful", name, text)]
        return content
    if not records:
        raise SetupError(f"data set {name} is empty: its function returns no images.")
    faults, rows, sizes = [], [], []
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            faults.append(f"a record must be a dict in Detectron2's format, got {type(record).__name__}")
            continue
        image_id = record.get("image_id", number)
        if bad := [key for key in ("width", "height") if key in record and not _is_number(record[key])]:
            faults.append(f"{bad[0]} must be a number, got {record[bad[0]]!r} (image id {image_id!r})")
            continue
        for annotation in record.get("annotations", []):
            if not annotation.get("iscrowd", 0):
                try:
                    box, class_id = _read_box(annotation, class_names)
                except ValueError as error:
                    faults.append(f"{error} (image id {image_id!r})")
                else:
                    rows.append((box, len(content.image_ids), class_id, annotation.get("id", "none")))
        content.image_ids.append(image_id)
        content.file_names.append(str(record.get("file_name", "")))
        sizes.append((record.get("width", math.nan), record.get("height", math.nan)))
    content.sizes = np.array(sizes, dtype=float).reshape(-1, 2)
    content.add_boxes(rows)
    content.findings = record_findings(name, name, faults)
    return content


def _read_box(annotation: dict, class_names: list[str] | None) -> tuple[list[float], int]:
    """XYWH and class of an annotation in Detectron2's format.

    Raises:
        ValueError: the end of a sentence about it.
    """
    bbox, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    if mode not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        raise ValueError(f"bbox_mode must be XYXY_ABS or XYWH_ABS, got {mode!r}")
    numbers = [] if bbox is None else list(bbox)
    if len(numbers) != 4 or not all(map(_is_number, numbers)):
        raise ValueError(f"bbox must be 4 numbers, got {bbox!r}")
    class_id, limit = annotation.get("category_id"), len(class_names) if class_names else math.inf
    if not isinstance(class_id, (int, np.integer)) or isinstance(class_id, bool) or not 0 <= class_id < limit:
        raise ValueError(f"category_id must be a whole number in [0, {limit}), got {class_id!r}")
    x, y, right, bottom = map(float, numbers)
    return ([x, y, right - x, bottom - y] if mode == BoxMode.XYXY_ABS else [x, y, right, bottom]), int(class_id)


def _is_number(value: Any) -> bool:
    return is_number(value) or isinstance(value, (np.integer, np.floating))
