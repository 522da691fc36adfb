"""What a registered data set says about its images and boxes: one form for COCO JSON files and for Python loaders."""

import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode

from ..errors import SetupError
from .coco_json import REMEDY, class_names_in_order, read_coco_json
from .image_paths import refuse_line_breaks, refuse_outside
from .register import ALLOW_OUTSIDE
from .safe_json import is_number

__all__ = ["DatasetContent", "load_content"]


@dataclass
class DatasetContent:
    """N images with M boxes that are no crowds."""

    name: str
    # The JSON file, or the set's name again where Python code makes the records.
    source: str
    # By class index; None if the set does not tell.
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
    # By class index; for a set that does not tell its classes as many as occur.
    class_counts: Counter = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    @property
    def num_annotated(self) -> int:
        """Images with at least one box."""
        return len(np.unique(self.box_images))

    def set_boxes(self, boxes: list, images: list, classes: list) -> None:
        """Take over boxes XYWH, the index of the image and of the class of each."""
        self.boxes = np.array(boxes, dtype=float).reshape(-1, 4)
        self.box_images = np.array(images, dtype=int)
        self.box_classes = np.array(classes, dtype=int)
        self.class_counts = Counter(self.box_classes.tolist())


def load_content(
    name: str, *, for_training: bool, for_test: bool, faults: list[SetupError] | None = None
) -> DatasetContent:
    """Read the data set ``name``.

    Args:
        name: a registered data set.
        for_training: it must have annotations.
        for_test: its annotations must have what COCO's evaluation reads (area, iscrowd).
        faults: takes the faults of single records, which are then left out; None to refuse the first.

    Raises:
        SetupError: the set as a whole, or the first record, is nothing that Detectron2 could use or would read aright.
    """
    metadata = MetadataCatalog.get(name)
    # A loader of another origin may leave out or change what a JSON file says, so its own records count.
    if DatasetCatalog[name].__module__ == register_coco_instances.__module__:
        return _load_coco(name, metadata, faults, for_training=for_training, for_test=for_test)
    return _load_records(name, metadata.get("thing_classes"), faults)


def _load_coco(
    name: str, metadata: Any, faults: list[SetupError] | None, *, for_training: bool, for_test: bool
) -> DatasetContent:
    path = str(metadata.json_file)
    data = read_coco_json(name, path)
    content = DatasetContent(name, path, class_names_in_order(data))
    registered = metadata.get("thing_classes")
    if registered and list(registered) != content.class_names:
        raise SetupError(
            f"{name}: {path} has the classes {_shorten(content.class_names)}, but {name} is registered with "
            f"{_shorten(registered)}: give the file another name, with DATASETS.TRAIN_JSON / VAL_JSON."
        )
    _add_coco_images(content, data["images"], faults)
    annotations = data.get("annotations")
    if annotations is None and not for_training:
        content.warnings.append(f"{name}: {path} has no annotations: detections are saved, AP is not computed.")
        return content
    if not isinstance(annotations, list):
        found = "none" if annotations is None else type(annotations).__name__
        raise SetupError(f"{name}: {path} needs a list of annotations (COCO format), got {found}.")
    keys = ("id", "image_id", "category_id", "bbox", *(("area", "iscrowd") if for_test else ()))
    _add_coco_boxes(content, annotations, data["categories"], keys, faults)
    if for_test and 0 in content.annotation_ids:
        content.warnings.append(
            f"{name}: {path} has an annotation with id 0, which COCO's evaluation takes for no match: count from 1."
        )
    return content


def _good(records: list, check: Callable[[Any], None], faults: list[SetupError] | None) -> list:
    """The records that pass ``check``; where ``faults`` is None the first that does not is refused."""
    good = []
    for record in records:
        try:
            check(record)
        except SetupError as error:
            if faults is None:
                raise
            faults.append(error)
        else:
            good.append(record)
    return good


def _check_coco_image(where: str, image: Any) -> None:
    if not isinstance(image, dict):
        raise SetupError(f"{where} must be an object with id, file_name, width and height, got {image!r}.")
    lacking = [key for key in ("id", "file_name", "width", "height") if image.get(key) in (None, "")]
    if lacking:
        raise SetupError(f"{where} has no {lacking[0]}: {_shorten(image)}.")
    if not isinstance(image["file_name"], str):
        raise SetupError(f"{where} must have text as file_name, got {image['file_name']!r} (id {image['id']}).")
    for key in ("width", "height"):
        if not _is_number(image[key]) or not 0 < image[key] < math.inf:
            raise SetupError(f"{where} must have a {key} above 0 as a number, got {image[key]!r} (id {image['id']}).")


def _add_coco_images(content: DatasetContent, images: list, faults: list[SetupError] | None) -> None:
    where = f"{content.name}: an image in {content.source}"
    images = _good(images, lambda image: _check_coco_image(where, image), faults)
    kinds = {type(image["id"]) for image in images}
    if len(kinds) > 1 or not kinds <= {int, str}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise SetupError(f"{content.name}: image ids in {content.source} must be all numbers or all text, got {found}.")
    _refuse_repeated(f"{content.name}: {content.source} has more than one image with the id", (i["id"] for i in images))
    metadata = MetadataCatalog.get(content.name)
    root = metadata.image_root
    content.file_names = [os.path.join(root, image["file_name"]) for image in images]
    refuse_line_breaks(content.file_names, f"{content.name}: {content.source}")
    if root and "://" not in root and not metadata.get(ALLOW_OUTSIDE):
        refuse_outside(content.file_names, [root], f"{content.name}: {content.source}")
    content.image_ids = [image["id"] for image in images]
    content.sizes = np.array([(image["width"], image["height"]) for image in images], dtype=float)


def _add_coco_boxes(
    content: DatasetContent, annotations: list, categories: list, keys: tuple[str, ...],
    faults: list[SetupError] | None,
) -> None:  # fmt: skip
    image_of = {image_id: i for i, image_id in enumerate(content.image_ids)}
    class_of = {category_id: i for i, category_id in enumerate(sorted(category["id"] for category in categories))}
    annotations = _good(annotations, lambda a: _check_annotation(content, a, class_of, keys), faults)
    boxes, box_images, box_classes, strays = [], [], [], []
    for annotation in annotations:
        if annotation["image_id"] not in image_of:
            strays.append(annotation)
        elif not annotation.get("iscrowd", 0):
            boxes.append(annotation["bbox"])
            box_images.append(image_of[annotation["image_id"]])
            content.annotation_ids.append(annotation["id"])
            box_classes.append(class_of[annotation["category_id"]])
    _refuse_repeated(
        f"{content.name}: {content.source} has more than one annotation with the id", (a["id"] for a in annotations)
    )
    if strays:
        text = (
            f"{content.name}: {len(strays)} of {len(annotations)} annotations in {content.source} belong to no image, "
            f"the first is id {strays[0]['id']!r} with image_id {strays[0]['image_id']!r}"
        )
        if len(strays) == len(annotations):
            raise SetupError(f"{text}: image_id must be the id of an image, such as {content.image_ids[0]!r}.")
        content.warnings.append(f"{text}. Detectron2 leaves them out.")
    content.set_boxes(boxes, box_images, box_classes)


def _check_annotation(content: DatasetContent, annotation: Any, class_of: dict, keys: tuple[str, ...]) -> None:
    where = f"{content.name}: an annotation in {content.source}"
    if not isinstance(annotation, dict):
        raise SetupError(f"{where} must be an object with {', '.join(keys)}, got {annotation!r}.")
    for key in keys:
        if key not in annotation:
            hint = " (COCO's evaluation needs it; area is width x height, iscrowd 0)" if key in keys[4:] else ""
            raise SetupError(f"{where} has no {key}{hint}: {_shorten(annotation)}.")
    for key, kinds in (("id", int), ("image_id", (int, str)), ("category_id", int)):
        if not isinstance(annotation[key], kinds):
            raise SetupError(f"{where} must have a number as {key}, got {annotation[key]!r}: {_shorten(annotation)}.")
    if annotation["category_id"] not in class_of:
        raise SetupError(
            f"{where} has category_id {annotation['category_id']!r}, which is not among the categories "
            f"{_shorten(list(class_of))} (annotation id {annotation['id']!r})."
        )
    bbox = annotation["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise SetupError(
            f"{where} must have bbox [x, y, width, height], got {bbox!r} (annotation id {annotation['id']!r})."
        )
    if annotation.get("ignore", 0):
        raise SetupError(f"{where} has ignore 1 (id {annotation['id']!r}), which Detectron2 refuses: use iscrowd 1.")


def _load_records(name: str, class_names: list[str] | None, faults: list[SetupError] | None) -> DatasetContent:
    try:
        records = DatasetCatalog.get(name)
    except SetupError:
        raise
    except Exception as error:  # a loader is anyone's code
        remedy = f"\n{REMEDY}" if isinstance(error, FileNotFoundError) else ""
        raise SetupError(f"data set {name} cannot be loaded: {type(error).__name__}: {error}.{remedy}") from error
    content = DatasetContent(name, name, list(class_names) if class_names else None)
    if not isinstance(records, list):
        content.warnings.append(f"{name} yields {type(records).__name__}, not a list: its content is not checked.")
        return content
    if not records:
        raise SetupError(f"data set {name} is empty: its function returns no images.")
    boxes, box_images, box_classes = [], [], []
    records = _good(records, lambda record: _check_record(name, record), faults)
    for i, record in enumerate(records):
        image_id = record.get("image_id", i)
        crowdless = [a for a in record.get("annotations", []) if not a.get("iscrowd", 0)]
        for annotation in _good(crowdless, lambda a, k=image_id: _check_box(content, a, k), faults):
            boxes.append(_to_xywh(name, annotation, image_id))
            box_images.append(i)
            content.annotation_ids.append(annotation.get("id", "none"))
            box_classes.append(_record_class(content, annotation, image_id))
        content.image_ids.append(image_id)
        content.file_names.append(str(record.get("file_name", "")))
    content.sizes = np.array([(r.get("width", math.nan), r.get("height", math.nan)) for r in records], dtype=float)
    content.set_boxes(boxes, box_images, box_classes)
    return content


def _check_box(content: DatasetContent, annotation: dict, image_id: Hashable) -> None:
    _to_xywh(content.name, annotation, image_id)
    _record_class(content, annotation, image_id)


def _check_record(name: str, record: Any) -> None:
    if not isinstance(record, dict):
        raise SetupError(f"{name}: a record must be a dict in Detectron2's format, got {type(record).__name__}.")
    for key in ("width", "height"):
        if key in record and not _is_number(record[key]):
            raise SetupError(
                f"{name}: {key} must be a number, got {record[key]!r} (image id {record.get('image_id')!r})."
            )


def _to_xywh(name: str, annotation: dict, image_id: Hashable) -> list[float]:
    bbox, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    if mode not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        raise SetupError(f"{name}: bbox_mode must be XYXY_ABS or XYWH_ABS, got {mode!r} (image id {image_id!r}).")
    numbers = [] if bbox is None else list(bbox)
    if len(numbers) != 4 or not all(map(_is_number, numbers)):
        raise SetupError(f"{name}: bbox must be 4 numbers, got {bbox!r} (image id {image_id!r}).")
    x, y, right, bottom = map(float, numbers)
    return [x, y, right - x, bottom - y] if mode == BoxMode.XYXY_ABS else [x, y, right, bottom]


def _record_class(content: DatasetContent, annotation: dict, image_id: Hashable) -> int:
    class_id = annotation.get("category_id")
    limit = len(content.class_names) if content.class_names else math.inf
    if not isinstance(class_id, (int, np.integer)) or isinstance(class_id, bool) or not 0 <= class_id < limit:
        raise SetupError(
            f"{content.name}: category_id must be a whole number in [0, {limit}), got {class_id!r} "
            f"(image id {image_id!r})."
        )
    return int(class_id)


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return is_number(value)
    return isinstance(value, (float, np.integer, np.floating))


def _refuse_repeated(text: str, values: Iterable[Hashable]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise SetupError(f"{text} {repeated[0]!r} ({len(repeated)} such ids): make each id unique.")


def _shorten(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
