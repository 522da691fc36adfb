"""Image files of a data set, looked at without decoding them: there, readable, of the size on record, complete."""

import logging
import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image

from ..data.coco_json import REMEDY
from ..errors import SetupError
from .dataset_content import DatasetContent

__all__ = ["MAX_IMAGES", "check_images", "find_fault"]

# Headers looked at in one set: seconds on a local disk. Beyond it an evenly spaced sample stands for the set.
MAX_IMAGES = 20_000
_MANY = 5_000  # from here on a line in the log says why it takes a while
_SHOWN = 3  # faulty files named in the error

_EXIF_ORIENTATION = 274
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_WIDE_MODES = ("I;16", "I;16B", "I;16L", "I", "F")  # more than 8 bits a channel
_TAIL = 4096  # some writers append a few bytes after the end marker
_END_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}


def check_images(content: DatasetContent, *, max_images: int = MAX_IMAGES) -> list[str]:
    """Open the files of ``content``, all or ``max_images`` of them spread evenly.

    Files are not decoded, except where the end of a JPEG or PNG looks cut off; damage inside a file comes to light when
    it is read. Addresses of remote storage are not looked at.

    Returns:
        warnings.

    Raises:
        SetupError: the first faulty files and how many there are.
    """
    _check_folder(content)
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
        elif mode in _WIDE_MODES:
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


def _check_folder(content: DatasetContent) -> None:
    root = MetadataCatalog.get(content.name).get("image_root")
    if not root or "://" in str(root) or os.path.isdir(root):
        return
    full = "" if os.path.isabs(root) else f" ({os.path.abspath(root)})"
    kind = "is a file" if os.path.exists(root) else "does not exist"
    remedy = REMEDY.replace("_JSON", "_IMAGES").replace("file", "folder")
    raise SetupError(f"{content.name}: the image folder {root}{full} {kind}. {remedy}")


def find_fault(file_name: str, size: tuple[float, float]) -> tuple[str, str]:
    """What is wrong with an image file, "" if nothing is, and its Pillow mode ("" if it cannot be opened).

    Args:
        file_name: a local file.
        size: (width, height) on record, pixels; NaN where the record has none.
    """
    if not os.path.exists(file_name):
        return "is missing", ""
    if not os.path.isfile(file_name):
        return "is a folder" if os.path.isdir(file_name) else "is no regular file", ""
    try:
        with open(file_name, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on metadata; Detectron2 will show them
            image = Image.open(file)
            mode = image.mode
            fault = _find_size_fault(image, size)
            if not fault and _looks_cut_off(file, image.format):
                file.seek(0)
                Image.open(file).load()
            return fault, mode
    except Image.UnidentifiedImageError:
        return _describe_unknown(file_name), ""
    except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        return f"cannot be read ({type(error).__name__}: {error})", ""


def _find_size_fault(image: Image.Image, size: tuple[float, float]) -> str:
    width, height = image.size
    # Without its EXIF chunk in front, a PNG would be decoded for the question.
    asked = image.format != "PNG" or "exif" in image.info
    turned = asked and _orientation(image) in _TURNED
    if turned:
        width, height = height, width
    if all(found == expected or np.isnan(expected) for found, expected in zip((width, height), size, strict=True)):
        return ""
    expected = f"{size[0]:g}x{size[1]:g}"
    if turned and (height, width) == size:
        return (
            f"is {width}x{height} after the EXIF rotation that Detectron2 applies, but on record {expected} "
            "(swapped): annotate the turned image, or remove the EXIF orientation"
        )
    swapped = " (swapped: EXIF rotation?)" if (height, width) == size else ""
    return f"is {width}x{height}, but on record {expected}{swapped}"


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # unreadable EXIF: Detectron2 then leaves the image as it is
        return None


def _looks_cut_off(file: BinaryIO, image_format: str | None) -> bool:
    marker = _END_MARKERS.get(image_format or "")
    if marker is None:
        return False
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _TAIL))
    return marker not in file.read()


def _describe_unknown(file_name: str) -> str:
    head = Path(file_name).read_bytes()[:64] if os.path.getsize(file_name) else b""
    if not head:
        return "is empty"
    if head.lstrip()[:1] in (b"<", b"{"):
        return f"is no image but text ({head.lstrip()[:20].decode('latin-1')!r}...)"
    return "is no image that Pillow can read"
