"""The one reader of COCO-format JSON: training, evaluation, conversion and the doctor get the same verdict on a file.

A file that is unusable as a whole raises; a record that is unusable is left out and becomes a finding.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager

from ..errors import SetupError
from ..findings import Finding, finding
from .image_paths import refuse_line_breaks, refuse_outside
from .safe_json import is_number, load_json

__all__ = [
    "REMEDY", "class_names_in_order", "find_group", "is_difficult", "is_usable", "names_with_boxes", "read_coco",
    "read_coco_json", "record_findings", "shorten",
]  # fmt: skip

REMEDY = "Set DETECTRON2_DATASETS to the folder of Detectron2's sets, or DATASETS.TRAIN_JSON / VAL_JSON to your file."
# Keys of an annotation -> the types that their values may have.
_ID_KINDS = (("id", int), ("image_id", (int, str)), ("category_id", int))


@dataclass
class CocoFile:
    """The usable records of a file, as they stand in it."""

    name: str  # of the data set, for messages
    path: str
    class_names: list[str]  # K, in the order of their ids
    class_of: dict[int, int]  # category id -> class in [0, K)
    images: list[dict]  # each with an id of its own
    annotations: list[dict]  # some may have the image_id of no image: see ``findings``
    findings: list[Finding] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)  # the file without images and annotations

    def image_paths(self, root: str, *, allow_outside: bool) -> list[str]:
        """The path of each image below the folder ``root``.

        Raises:
            SetupError: a name of two lines, or one that leads out of ``root`` unless ``allow_outside``.
        """
        source = f"{self.name}: {self.path}"
        paths = [os.path.join(root, image["file_name"]) for image in self.images]
        refuse_line_breaks(paths, source)
        if root and not allow_outside:
            refuse_outside(paths, [root], source)
        return paths


def read_coco(
    name: str, json_file: str, *, for_detectron2: bool = True, for_scoring: bool = False, needs_boxes: bool = True
) -> CocoFile:
    """Read a COCO-format file and check each record.

    Args:
        name: name of the data set, for messages.
        json_file: a path, or an address that Detectron2 can fetch.
        for_detectron2: images must have a size and annotations an id, since Detectron2 will read the file itself.
        for_scoring: annotations must have what COCO's metrics read: area and iscrowd.
        needs_boxes: the list of annotations must be there.

    Raises:
        SetupError: the file is missing, not JSON, not in the COCO format or has an id twice.
    """
    data = read_coco_json(name, json_file, drop_twins=not for_detectron2)
    path = PathManager.get_local_path(str(json_file))
    faults: list[str] = []
    group = None if for_detectron2 else find_group(data)
    if group:
        data["categories"] = [category for category in data["categories"] if category is not group]
    images = _usable(data["images"], "image", path, faults, lambda image: _image_fault(image, for_detectron2))
    kinds = {type(image["id"]) for image in images}
    if len(kinds) > 1 or not kinds <= {int, str}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise SetupError(f"{name}: image ids in {path} must be all numbers or all text, got {found}.")
    _refuse_repeated(f"{name}: {path} has more than one image with the id", (image["id"] for image in images))
    class_of = {class_id: i for i, class_id in enumerate(sorted(category["id"] for category in data["categories"]))}
    rest = {key: value for key, value in data.items() if key not in ("images", "annotations")}
    content = CocoFile(name, path, class_names_in_order(data), class_of, images, [], rest=rest)

    records, doubtful = data.get("annotations"), []
    if group:
        text = f"category 0 {group['name']!r} is the supercategory of all others and has no box, so it is no class"
        doubtful.append(f"{text} (DATASETS.CLASSES can list it)")
    if records is None and not needs_boxes:
        doubtful.append(f"{name}: {path} has no annotations: detections are saved, AP is not computed")
    elif not isinstance(records, list):
        found = "none" if records is None else type(records).__name__
        raise SetupError(f"{name}: {path} needs a list of annotations (COCO format), got {found}.")
    keys = ("image_id", "category_id", "bbox")
    keys = (("id", *keys) if for_detectron2 else keys) + (("area", "iscrowd") if for_scoring else ())
    content.annotations = annotations = _usable(
        records or [], "annotation", path, faults, lambda annotation: _annotation_fault(annotation, class_of, keys)
    )
    if for_detectron2:
        ids = [annotation["id"] for annotation in annotations]
        _refuse_repeated(f"{name}: {path} has more than one annotation with the id", ids)
        if for_scoring and 0 in ids:
            text = f"{name}: {path} has an annotation with id 0, which COCO's evaluation takes for no match"
            doubtful.append(f"{text}: count from 1")
    known = {image["id"] for image in images}
    strays = [annotation for annotation in annotations if annotation["image_id"] not in known]
    if strays and images:
        first = f"the first is id {strays[0].get('id')!r} with image_id {strays[0]['image_id']!r}"
        text = f"{name}: {len(strays)} of {len(annotations)} annotations in {path} belong to no image, {first}"
        if len(strays) == len(annotations):
            kinds = ["text" if isinstance(i, str) else "a number" for i in (strays[0]["image_id"], images[0]["id"])]
            mixed = f"; image_id is {kinds[0]} and an image's id {kinds[1]}: write both alike"
            hint = mixed if kinds[0] != kinds[1] else ""
            raise SetupError(f"{text}: image_id must be the id of an image, such as {images[0]['id']!r}{hint}.")
        doubtful.append(f"{text}. They are left out")
    content.findings = record_findings(name, path, faults) + [finding("record-doubtful", name, t) for t in doubtful]
    content.findings += find_doubts(name, path, images, annotations, for_detectron2=for_detectron2)
    return content


def find_doubts(
    name: str, path: str, images: list[dict], annotations: list[dict], *, for_detectron2: bool
) -> Iterator[Finding]:
    """Find records that are likely not meant."""
    first: dict[str, Any] = {}
    twice = [image for image in images if first.setdefault(image["file_name"], image["id"]) != image["id"]]
    if twice:
        text = (
            f"{name}: {len(twice)} of {len(images)} images are the same file as another under its own id, such as "
            f"{twice[0]['file_name']}: in training the objects of one are background in the other"
        )
        pairs = [(image["file_name"], image["id"]) for image in twice]
        places = [{"file": file, "image_id": i, "value": f"same as id {first[file]!r}"} for file, i in pairs]
        yield finding("image-twice", name, text, places=places)
    lost = [annotation for annotation in annotations if not is_usable(annotation.get("segmentation"))]
    if lost and for_detectron2:
        text = (
            f"{name}: {len(lost)} of {len(annotations)} annotations in {path} have a segmentation without a polygon of "
            f"three points, the first is id {lost[0].get('id')!r}: Detectron2 does not train on them"
        )
        remedy = "Delete the segmentation, or give the file by DATASETS.TRAIN_PATH, which does without."
        yield finding("record-doubtful", name, text, remedy)


def is_usable(segmentation: Any) -> bool:
    """False where Detectron2 leaves an annotation out, or stops, for its segmentation."""
    if isinstance(segmentation, dict):
        return not segmentation or {"counts", "size"} <= segmentation.keys()
    if isinstance(segmentation, list):
        polygons = [each for each in segmentation if isinstance(each, list)]
        is_list = len(polygons) == len(segmentation)
        return not segmentation or (is_list and any(len(each) % 2 == 0 and len(each) >= 6 for each in polygons))
    return not segmentation


def read_coco_json(name: str, json_file: str, *, drop_twins: bool = False) -> dict[str, Any]:
    """The content of ``json_file`` of the data set ``name``, with images and categories that are lists.

    Args:
        drop_twins: leave out categories without annotations that have the name of another, as Roboflow writes them;
            Detectron2 would count them.

    Raises:
        SetupError: the file is missing, empty, not JSON, or not in the COCO format.
    """
    path = PathManager.get_local_path(str(json_file))
    if os.path.isdir(path):
        raise SetupError(f"{name}: the annotation file {path} is a folder: name the JSON file in it.")
    if not os.path.exists(path):
        full = f" ({os.path.abspath(path)})" if not os.path.isabs(path) else ""
        raise SetupError(f"{name}: the annotation file {path}{full} does not exist. {REMEDY}")
    try:
        content = load_json(Path(path))
    except SetupError as error:
        raise SetupError(f"{name}: {error}") from None
    except json.JSONDecodeError as error:
        where = f"is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        if error.pos == 0 and not os.path.getsize(path):
            where = "is empty"
        raise SetupError(f"{name}: the annotation file {path} {where}.") from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{name}: the annotation file {path} is not text: give COCO-format JSON.") from error
    except OSError as error:
        raise SetupError(f"{name}: the annotation file {path} cannot be read: {error.strerror}.") from error
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else type(content).__name__
        raise SetupError(
            f"{name}: {path} must hold one object with images, annotations and categories (COCO format), got {kind}."
        )
    for key in ("images", "categories"):
        if not isinstance(content.get(key), list) or not content[key]:
            found = "an empty list" if content.get(key) == [] else "none" if key not in content else "no list"
            raise SetupError(f"{name}: {path} needs a list of {key} (COCO format), got {found}.")
    categories = content["categories"]
    for category in categories:
        name_of = category.get("name") if isinstance(category, dict) else None
        if not isinstance(name_of, str) or not name_of or type(category.get("id")) is not int:
            raise SetupError(f"{name}: a category in {path} needs a whole number as id and a name, got {category!r}.")
    refuse_line_breaks((category["name"] for category in categories), f"{name}: {path}")
    names = Counter(category["name"] for category in categories)
    used = _used_ids(content)
    plain = [each for each in categories if names[each["name"]] == 1 or str(each["id"]) in used]
    if drop_twins and plain:
        content["categories"] = categories = plain
    for key in ("id", "name"):
        counts = Counter(category[key] for category in categories)
        if repeated := [value for value, count in counts.items() if count > 1]:
            other = ", or give the file by DATASETS.TRAIN_PATH or VAL_PATH, which leave out the one without boxes"
            other *= not drop_twins and len(plain) == len(names)
            raise SetupError(
                f"{name}: {path} has more than one category with the {key} {repeated[0]!r}: make it unique{other}."
            )
    return content


def class_names_in_order(content: dict[str, Any]) -> list[str]:
    """The names of the categories by id: the order in which Detectron2 numbers the classes."""
    return [category["name"] for category in sorted(content["categories"], key=lambda category: category["id"])]


def names_with_boxes(content: dict[str, Any]) -> set[str]:
    """The names of the categories that annotations have."""
    used = _used_ids(content)
    return {category["name"] for category in content["categories"] if str(category["id"]) in used}


def find_group(content: dict[str, Any]) -> dict[str, Any] | None:
    """The category that Roboflow writes for all classes: id 0, the others' supercategory, without annotations."""
    group = next((category for category in content["categories"] if category["id"] == 0), None)
    others = [category for category in content["categories"] if category is not group]
    if group is None or not others or "0" in _used_ids(content):
        return None
    return group if all(category.get("supercategory") == group["name"] for category in others) else None


def _used_ids(content: dict[str, Any]) -> set[str]:
    records = content.get("annotations")
    return {str(a.get("category_id")) for a in records if isinstance(a, dict)} if isinstance(records, list) else set()


def is_difficult(annotation: dict) -> bool:
    """True for an object that VOC marks difficult: it is trained on, and in scoring neither found nor missed."""
    return bool(annotation.get("difficult", 0)) and not annotation.get("iscrowd", 0)


def _refuse_repeated(text: str, ids: Iterable[Hashable]) -> None:
    """Refuse ids of which one occurs twice; ``text`` begins the message."""
    repeated = [value for value, count in Counter(ids).items() if count > 1]
    if repeated:
        raise SetupError(f"{text} {repeated[0]!r} ({len(repeated)} such ids): make each id unique.")


def record_findings(name: str, source: str, faults: list[str]) -> list[Finding]:
    """One finding of all records that are left out; [] without any."""
    if not faults:
        return []
    what = f"{len(faults)} records in {source} cannot be used; the first: {faults[0]}" if faults[1:] else faults[0]
    places = [{"file": source, "value": fault} for fault in faults]
    return [finding("record-unusable", name, f"{name}: {what}", places=places)]


def shorten(value: Any) -> str:
    """A value for a message: lists without their brackets, at most 120 characters."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _image_fault(image: Any, needs_size: bool) -> str:
    """Name the fault of an image's record, as the end of a sentence; "" for none."""
    sides = ("width", "height") if needs_size else ()
    if not isinstance(image, dict):
        return f"must be an object with id, file_name, width and height, got {shorten(image)!r}"
    lacking = [key for key in ("id", "file_name", *sides) if image.get(key) in (None, "")]
    if lacking:
        return f"has no {lacking[0]}: {shorten(image)}"
    if not isinstance(image["file_name"], str):
        return f"must have text as file_name, got {image['file_name']!r} (id {image['id']})"
    if not isinstance(image["id"], (int, str)):
        return f"must have a number or text as id, got {shorten(image['id'])}"
    for key in sides:
        if not is_number(image[key]) or not 0 < image[key] < math.inf:
            return f"must have a {key} above 0 as a number, got {image[key]!r} (id {image['id']})"
    return ""


def _annotation_fault(annotation: Any, class_of: dict[int, int], keys: tuple[str, ...]) -> str:
    """Name the fault of an annotation's record, as the end of a sentence; "" for none."""
    if not isinstance(annotation, dict):
        return f"must be an object with {', '.join(keys)}, got {shorten(annotation)!r}"
    for key in keys:
        if key not in annotation:
            hint = " (COCO's evaluation needs it; area is width x height, iscrowd 0)" * (key in ("area", "iscrowd"))
            return f"has no {key}{hint}: {shorten(annotation)}"
    for key, kinds in _ID_KINDS:
        if key in keys and not (isinstance(annotation[key], kinds) and (key != "id" or is_number(annotation[key]))):
            return f"must have a number as {key}, got {shorten(repr(annotation[key]))}: {shorten(annotation)}"
    bbox, category_id = annotation["bbox"], annotation["category_id"]
    fault = ""
    if category_id not in class_of:
        fault = f"has category_id {category_id!r}, which is not among the categories {shorten(list(class_of))}"
    elif not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        fault = f"must have bbox [x, y, width, height], got {bbox!r}"
    elif annotation.get("ignore", 0):
        fault = "has ignore 1, which Detectron2 refuses: for one object use difficult 1, for many use iscrowd 1"
    return f"{fault} (annotation id {annotation['id']!r})" if fault and "id" in annotation else fault


def _usable(records: list, kind: str, path: str, faults: list[str], find_fault: Callable[[Any], str]) -> list[dict]:
    """The records without a fault; the faults of the others are added to ``faults``."""
    usable = []
    for number, record in enumerate(records, 1):
        if fault := find_fault(record):
            faults.append(f"{kind} {number} in {path} {fault}")
        else:
            usable.append(record)
    return usable
