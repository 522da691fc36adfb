"""The size of an image file as Detectron2 will read it, from its header."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ..errors import SetupError

__all__ = ["orientation", "oriented_size", "read_sizes"]

_EXIF_ORIENTATION = 274
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # more than 8 bits a channel
_SHOWN = 3  # faulty files named in the error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where there is none that can be read."""
    # Without its EXIF chunk in front, a PNG would be decoded for the question.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # unreadable EXIF: Detectron2 then leaves the image as it is
        return 1


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) after the EXIF orientation that Detectron2 applies, pixels."""
    return image.size[::-1] if orientation(image) in _TURNED else image.size


def read_sizes(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """(width, height) after the EXIF orientation of each image, pixels; nothing is decoded.

    Raises:
        SetupError: the first files that cannot be opened, or that Detectron2 would misread, and how many there are.
    """
    sizes, faults = {}, []
    for path in paths:
        try:
            if not os.path.isfile(path):  # opening a pipe would wait for ever
                raise FileNotFoundError
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks on metadata; Detectron2 will show them
                with Image.open(path) as image:
                    _refuse_misread(image)
                    sizes[path] = oriented_size(image)
        except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, ValueError ...
            faults.append(f"{path} {_describe(path, error)}")
    if faults:
        more = f" ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        noun, which = ("image", "it") if len(faults) == 1 else ("images", "them")
        raise SetupError(
            f"{len(faults)} {noun} cannot be used: {'; '.join(faults[:_SHOWN])}{more}. Mend or remove {which}."
        )
    return sizes


class _MisreadError(Exception):
    """An image that Detectron2 would read as something else."""


def _refuse_misread(image: Image.Image) -> None:
    if image.mode in WIDE_MODES:  # and only its owner knows the range of its values
        raise _MisreadError(
            f"has more than 8 bits a channel (mode {image.mode}), which Detectron2 would cut at 255: write it with 8"
        )
    if image.format == "TIFF" and orientation(image) in range(2, 9):
        raise _MisreadError(
            f"is a TIFF with the EXIF orientation {orientation(image)}, which Pillow and Detectron2 would each apply: "
            "save it upright"
        )


def _describe(path: Path, error: Exception) -> str:
    if isinstance(error, _MisreadError):
        return str(error)
    if not os.path.exists(path):  # Path.exists raises where a name is too long
        return "is missing"
    if os.path.isdir(path):
        return "is a folder"
    if not os.path.isfile(path):
        return "is no regular file"
    if not os.path.getsize(path):
        return "is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "is no image that Pillow can read"
    return f"cannot be read ({type(error).__name__}: {error})"
