"""COCO JSON, as one format among the others: for a split, or beside sets of other formats. Records stay as they are."""

import os
from pathlib import Path

from ...findings import raise_first_error
from ..coco import CocoFile, is_usable, read_coco
from ..image_paths import check_named
from ..images import read_sizes
from ..safe_json import is_number
from .box_set import AnnotatedImage, Box, BoxSet, Remark, check_claimed_size, join_sets
from .coco_layout import KIND, find_files, find_image_folder
from .pairing import ImageIndex
from .parts import several_files

__all__ = ["read"]


def read(path: Path, images: Path | None = None, subset: str = "", *, open_images: bool = True) -> BoxSet:
    """Read a COCO JSON file, or the file of each part of a folder.

    Args:
        path: the file; or a folder with one below it, or one a part (``coco_layout.find_files``).
        images: folder of the images; by default the one near the file in which most of them are.
        subset: "train", "val" or "test", to choose a file of the folder.
        open_images: look at every image file; False leaves those with a size on record to later checks.

    Raises:
        SetupError: naming file and annotation.
    """
    files, remarks = find_files(path, subset) if path.is_dir() else ([path], [])
    folder = path if path.is_dir() else path.parent
    sets = [read_file(file, str(path), images, folder, open_images=open_images) for file in files]
    paths = [image.path for part in sets for image in part.images]
    if len(sets) > 1 and len(set(paths)) < len(paths):
        raise several_files(folder, files, KIND)
    found = join_sets(sets)
    found.source = str(path)
    found.remarks += remarks
    return found


def read_file(file: Path, source: str, images: Path | None, folder: Path, *, open_images: bool) -> BoxSet:
    coco = read_coco(source, str(file), for_detectron2=False)
    remarks = [Remark(found.what, str(file)) for found in raise_first_error(coco.findings)]
    root = images or find_image_folder(file, [image["file_name"] for image in coco.images], folder)
    places = find_images(coco, root)
    unsized = [i for i in coco.images if open_images or not all(is_number(i.get(side)) for side in ("width", "height"))]
    check_named(places.values(), root)
    sizes = read_sizes(dict.fromkeys(places[image["id"]] for image in unsized), root)
    found = BoxSet(source, root, [], coco.class_names, remarks, coco.rest)
    by_id: dict[int | str, AnnotatedImage] = {}
    for number, image in enumerate(coco.images, 1):
        place = places[image["id"]]
        claimed = (image.get("width"), image.get("height"))
        size = sizes.get(place, claimed)
        if all(map(is_number, claimed)):
            check_claimed_size(place, size, claimed, f"{file}: image {number}")
        by_id[image["id"]] = AnnotatedImage(place, *size, record=image)
    for number, annotation in enumerate(coco.annotations, 1):
        if image := by_id.get(annotation["image_id"]):
            x, y, width, height = annotation["bbox"]
            class_name = coco.class_names[coco.class_of[annotation["category_id"]]]
            origin, is_crowd = f"{file}: annotation {number}", bool(annotation.get("iscrowd", 0))
            image.boxes.append(Box(x, y, x + width, y + height, class_name, origin, is_crowd, record=annotation))
            if not is_usable(annotation.get("segmentation")):
                remarks.append(Remark("segmentation left out: it has no polygon of three points", origin))
    found.images = list(by_id.values())
    return found


def find_images(coco: CocoFile, root: Path) -> dict[int | str, Path]:
    """The file of each image by its id: the one of its name below ``root``, else one that is alike."""
    places = {image["id"]: root / image["file_name"] for image in coco.images}
    lacking = [image for image in coco.images if not os.path.isfile(places[image["id"]])]
    if lacking and root.is_dir():
        index, taken = ImageIndex(root), set(places.values())
        for image in lacking:
            found = index.find(image["file_name"])
            if found and found not in taken:
                places[image["id"]] = found
                taken.add(found)
    return places
