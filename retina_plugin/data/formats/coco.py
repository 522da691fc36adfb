"""COCO JSON, as one format among the others: for a split, or beside sets of other formats."""

import os
from pathlib import Path

from ...errors import SetupError
from ...findings import raise_first_error
from ..coco import read_coco
from ..images import read_sizes
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
    coco = read_coco(str(path), str(file), for_detectron2=False)
    doubtful = raise_first_error(coco.findings)
    root = images or _image_folder(file, coco.images[0]["file_name"])
    places = {image["id"]: root / image["file_name"] for image in coco.images}
    sizes = read_sizes(dict.fromkeys(places.values()))
    by_id: dict[int | str, AnnotatedImage] = {}
    for number, image in enumerate(coco.images, 1):
        place = places[image["id"]]
        claimed = (image.get("width"), image.get("height"))
        if all(map(is_number, claimed)):
            check_claimed_size(place, sizes[place], claimed, f"{file}: image {number}")
        by_id[image["id"]] = AnnotatedImage(place, *sizes[place])
    for number, annotation in enumerate(coco.annotations, 1):
        if image := by_id.get(annotation["image_id"]):
            x, y, width, height = annotation["bbox"]
            class_name = coco.class_names[coco.class_of[annotation["category_id"]]]
            origin, is_crowd = f"{file}: annotation {number}", bool(annotation.get("iscrowd", 0))
            image.boxes.append(Box(x, y, x + width, y + height, class_name, origin, is_crowd))
    remarks = [Remark(found.what, str(file)) for found in doubtful]
    return BoxSet(str(path), root, list(by_id.values()), coco.class_names, remarks)


def _find_file(folder: Path, subset: str) -> Path:
    place = folder / "annotations" if (folder / "annotations").is_dir() else folder
    files = list_files(place, (".json",))
    chosen = [file for file in files if any(name in file.stem for name in SUBSET_NAMES.get(subset, ()))] or files
    if len(chosen) != 1:
        found = ", ".join(file.name for file in chosen[:5]) or "none"
        raise SetupError(f"{place} must have one COCO JSON file, got {found}: name the file.")
    return chosen[0]


def _image_folder(file: Path, first: str) -> Path:
    """The first usual place that has the first image; without one, the file's folder."""
    parents = [file.parent, file.parent.parent]
    places = [p for parent in parents for p in (parent / "images" / file.stem, parent / "images", parent / file.stem)]
    return next((place for place in places + parents if place.is_dir() and os.path.isfile(place / first)), file.parent)
