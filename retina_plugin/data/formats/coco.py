"""COCO JSON, as one format among the others: for a split, or beside sets of other formats."""

import os
from pathlib import Path

from ...findings import raise_first_error
from ..coco import read_coco
from ..images import read_sizes
from ..safe_json import is_number
from .box_set import AnnotatedImage, Box, BoxSet, Remark, check_claimed_size
from .files import choose_file, list_files

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
    file = path
    if path.is_dir():
        place = path / "annotations" if (path / "annotations").is_dir() else path
        file = choose_file(place, list_files(place, (".json",)), subset, "COCO JSON file", whole_name=False)
    coco = read_coco(str(path), str(file), for_detectron2=False)
    doubtful = raise_first_error(coco.findings)
    # The first usual place that has the first image; without one, the file's folder.
    parents = [file.parent, file.parent.parent]
    usual = [p for parent in parents for p in (parent / "images" / file.stem, parent / "images", parent / file.stem)]
    first = coco.images[0]["file_name"]
    root = images or next((p for p in usual + parents if p.is_dir() and os.path.isfile(p / first)), file.parent)
    places = {image["id"]: root / image["file_name"] for image in coco.images}
    sizes = read_sizes(dict.fromkeys(places.values()), root)
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
