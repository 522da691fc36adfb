"""COCO JSON, as one format among the others: for a split, or beside sets of other formats."""

import os
from pathlib import Path
from typing import Any

from ...errors import SetupError
from ..coco_json import class_names_in_order, read_coco_json
from ..image_header import read_sizes
from ..safe_json import is_number
from .box_set import AnnotatedImage, Box, BoxSet, Remark, check_claimed_size
from .files import SUBSET_NAMES, list_files

__all__ = ["read"]


def read(path: Path, images: Path | None = None, subset: str = "") -> BoxSet:
    """Read a COCO JSON file.

    Args:
        path: the file; or a folder with one, in ``annotations`` or itself, with ``subset`` in its name among several.
        images: folder of the images; by default ``images`` beside the file or its folder, else the file's.
        subset: "train" or "val", to choose a file of the folder.

    Raises:
        SetupError: naming file and annotation.
    """
    file = path if path.is_file() else _find_file(path, subset)
    content = read_coco_json(str(path), str(file))
    root = images or _image_folder(file, subset, content["images"])
    found = BoxSet(str(path), root, [], class_names_in_order(content))
    class_of = {category["id"]: category["name"] for category in content["categories"]}
    by_id = _read_images(file, root, content["images"])
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        kind = "none" if annotations is None else type(annotations).__name__
        raise SetupError(f"{file} needs a list of annotations (COCO format), got {kind}.")
    for number, annotation in enumerate(annotations, 1):
        box, image_id = _read_annotation(f"{file}: annotation {number}", annotation, class_of)
        if image_id in by_id:
            by_id[image_id].boxes.append(box)
        else:
            found.remarks.append(Remark("box dropped: its image_id is of no image", box.origin))
    if annotations and not any(image.boxes for image in by_id.values()):
        raise SetupError(f"{file}: no annotation has the image_id of an image.")
    found.images = list(by_id.values())
    return found


def _find_file(folder: Path, subset: str) -> Path:
    place = folder / "annotations" if (folder / "annotations").is_dir() else folder
    files = list_files(place, (".json",))
    chosen = [file for file in files if any(name in file.stem for name in SUBSET_NAMES.get(subset, ()))] or files
    if len(chosen) != 1:
        found = ", ".join(file.name for file in chosen[:5]) or "none"
        raise SetupError(f"{place} must have one COCO JSON file, got {found}: name the file.")
    return chosen[0]


def _image_folder(file: Path, subset: str, images: list) -> Path:
    """The first usual place that has the first image; without one, the file's folder."""
    first = images[0].get("file_name") if isinstance(images[0], dict) else None
    parents = [file.parent, file.parent.parent]
    places = [p for parent in parents for p in (parent / "images" / file.stem, parent / "images", parent / file.stem)]
    return next(
        (place for place in places + parents if place.is_dir() and os.path.isfile(place / str(first))), file.parent
    )


def _read_images(file: Path, root: Path, images: list) -> dict[Any, AnnotatedImage]:
    paths: dict[Any, Path] = {}
    for number, image in enumerate(images, 1):
        origin = f"{file}: image {number}"
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or "id" not in image:
            raise SetupError(f"{origin} needs id and file_name, got {str(image)[:80]}.")
        if not isinstance(image["id"], (int, str)) or image["id"] in paths:
            raise SetupError(f"{origin} needs an id of its own, got {image['id']!r}.")
        paths[image["id"]] = root / image["file_name"]
    sizes = read_sizes(dict.fromkeys(paths.values()))
    for number, image in enumerate(images, 1):
        claimed = (image.get("width"), image.get("height"))
        if all(map(is_number, claimed)):
            place = paths[image["id"]]
            check_claimed_size(place, sizes[place], claimed, f"{file}: image {number}")
    return {image_id: AnnotatedImage(place, *sizes[place]) for image_id, place in paths.items()}


def _read_annotation(origin: str, annotation: Any, class_of: dict[int, str]) -> tuple[Box, Any]:
    if not isinstance(annotation, dict):
        raise SetupError(f"{origin} must be an object, got {str(annotation)[:80]}.")
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        raise SetupError(f"{origin} must have bbox [x, y, width, height], got {bbox!r}.")
    if bbox[2] < 0 or bbox[3] < 0:
        raise SetupError(f"{origin} has a negative width or height, {bbox}: bbox is [x, y, width, height].")
    category = annotation.get("category_id")
    if not isinstance(category, int) or category not in class_of:
        raise SetupError(f"{origin} has category_id {category!r}, which is not among the categories.")
    if isinstance(annotation.get("image_id"), (list, dict)):
        raise SetupError(f"{origin} must have a number or text as image_id, got {annotation.get('image_id')!r}.")
    x, y, width, height = bbox
    box = Box(x, y, x + width, y + height, class_of[category], origin, bool(annotation.get("iscrowd", 0)))
    return box, annotation.get("image_id")
