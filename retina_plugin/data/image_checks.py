"""Image files of a data set, looked at without decoding them: there, readable, of the size on record, complete."""

import logging
import os

import numpy as np
from detectron2.data import MetadataCatalog

from ..errors import SetupError
from .coco_json import REMEDY
from .dataset_content import DatasetContent
from .image_files import WIDE_MODES, find_fault

__all__ = ["MAX_IMAGES", "check_folder", "check_images"]

# Headers looked at in one set: seconds on a local disk. Beyond it an evenly spaced sample stands for the set.
MAX_IMAGES = 20_000
_MANY = 5_000  # from here on a line in the log says why it takes a while
_SHOWN = 3  # faulty files named in the error


def check_images(content: DatasetContent, *, max_images: int = MAX_IMAGES) -> list[str]:
    """Open the files of ``content``, all or ``max_images`` of them spread evenly.

    Files are not decoded, except where the end of a JPEG or PNG looks cut off; damage inside a file comes to light when
    it is read. Addresses of remote storage are not looked at.

    Returns:
        warnings.

    Raises:
        SetupError: the first faulty files and how many there are.
    """
    check_folder(content)
    local = [i for i, name in enumerate(content.file_names) if name and "://" not in name]
    picked = (
        local if len(local) <= max_images else [local[i] for i in np.linspace(0, len(local) - 1, max_images, dtype=int)]
    )
    if len(picked) > _MANY:
        sample = f" (a sample of {len(local)})" if len(picked) < len(local) else ""
        logging.getLogger(__name__).info("%s: looking at %d images%s", content.name, len(picked), sample)
    faults, wide = [], []
    for i in picked:
        fault, mode = find_fault(content.file_names[i], tuple(content.sizes[i]))
        if fault:
            faults.append(f"{content.file_names[i]} {fault}")
        elif mode in WIDE_MODES:
            wide.append(content.file_names[i])
    if faults:
        more = f" ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise SetupError(
            f"{content.name}: {len(faults)} of {len(picked)} images cannot be used: {'; '.join(faults[:_SHOWN])}{more}."
        )
    if wide:
        text = f"{len(wide)} of {len(picked)} images have more than 8 bits a channel (the first: {wide[0]})"
        return [f"{content.name}: {text}; Detectron2 cuts values above 255: convert them."]
    return []


def check_folder(content: DatasetContent) -> None:
    """Refuse a set whose folder of images is not there."""
    root = MetadataCatalog.get(content.name).get("image_root")
    if not root or "://" in str(root) or os.path.isdir(root):
        return
    full = "" if os.path.isabs(root) else f" ({os.path.abspath(root)})"
    kind = "is a file" if os.path.exists(root) else "does not exist"
    remedy = REMEDY.replace("_JSON", "_IMAGES").replace("file", "folder")
    raise SetupError(f"{content.name}: the image folder {root}{full} {kind}. {remedy}")
