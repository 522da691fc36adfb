"""One image file, looked at without decoding it: there, readable, complete, of the size on record.

Needs Pillow alone, so that the worker processes of a scan start at once.
"""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

__all__ = ["WIDE_MODES", "ImageHeader", "describe_size", "find_fault", "read_header"]

WIDE_MODES = ("I;16", "I;16B", "I;16L", "I", "F")  # more than 8 bits a channel
_EXIF_ORIENTATION = 274
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_TAIL = 4096  # some writers append a few bytes after the end marker
_END_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}


@dataclass(frozen=True)
class ImageHeader:
    """What a file's header says."""

    fault: str  # why the file cannot be used, "" if it can
    mode: str = ""  # Pillow's; "" if the file cannot be opened
    # Pixels as shown, after the EXIF rotation that Detectron2 applies; 0 if unknown.
    width: int = 0
    height: int = 0
    turned: bool = False  # that rotation swaps width and height


def find_fault(file_name: str, size: tuple[float, float]) -> tuple[str, str]:
    """What is wrong with an image file, "" if nothing is, and its Pillow mode ("" if it cannot be opened).

    Args:
        file_name: a local file.
        size: (width, height) on record, pixels; NaN where the record has none.
    """
    header = read_header(file_name)
    return header.fault or describe_size(header, size), header.mode


def read_header(file_name: str) -> ImageHeader:
    """Look at a local file; only one that seems cut off at its end is decoded."""
    if not os.path.exists(file_name):
        return ImageHeader("is missing")
    if not os.path.isfile(file_name):
        return ImageHeader("is a folder" if os.path.isdir(file_name) else "is no regular file")
    try:
        with open(file_name, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on metadata; Detectron2 will show them
            image = Image.open(file)
            # Without its EXIF chunk in front, a PNG would be decoded for the question.
            turned = (image.format != "PNG" or "exif" in image.info) and _orientation(image) in _TURNED
            width, height = image.size[::-1] if turned else image.size
            header = ImageHeader("", image.mode, width, height, turned)
            if _looks_cut_off(file, image.format):
                file.seek(0)
                Image.open(file).load()
            return header
    except Image.UnidentifiedImageError:
        return ImageHeader(_describe_unknown(file_name))
    except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        return ImageHeader(f"cannot be read ({type(error).__name__}: {error})")


def describe_size(header: ImageHeader, size: tuple[float, float]) -> str:
    """How the file differs from the (width, height) on record; "" if it does not. NaN agrees with anything."""
    width, height = header.width, header.height
    # A number that is not known equals no number, itself included.
    if all(found == expected or expected != expected for found, expected in zip((width, height), size, strict=True)):
        return ""
    expected = f"{size[0]:g}x{size[1]:g}"
    if header.turned and (height, width) == tuple(size):
        return (
            f"is {width}x{height} after the EXIF rotation that Detectron2 applies, but on record {expected} "
            "(swapped): annotate the turned image, or remove the EXIF orientation"
        )
    swapped = " (swapped: EXIF rotation?)" if (height, width) == tuple(size) else ""
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
