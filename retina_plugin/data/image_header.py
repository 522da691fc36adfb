"""The size of an image file as Detectron2 will read it, from its header."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ..errors import SetupError

__all__ = ["is_turned", "oriented_size", "read_sizes"]

_EXIF_ORIENTATION = 274
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_SHOWN = 3  # faulty files named in the error


def is_turned(image: Image.Image) -> bool:
    """Whether the EXIF orientation, which Detectron2 applies, swaps width and height."""
    # Without its EXIF chunk in front, a PNG would be decoded for the question.
    if image.format == "PNG" and "exif" not in image.info:
        return False
    try:
        return image.getexif().get(_EXIF_ORIENTATION) in _TURNED
    except Exception:  # unreadable EXIF: Detectron2 then leaves the image as it is
        return False


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) after the EXIF orientation, pixels."""
    return image.size[::-1] if is_turned(image) else image.size


def read_sizes(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """(width, height) after the EXIF orientation of each image, pixels; nothing is decoded.

    Raises:
        SetupError: the first files that cannot be opened, and how many there are.
    """
    sizes, faults = {}, []
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks on metadata; Detectron2 will show them
                with Image.open(path) as image:
                    sizes[path] = oriented_size(image)
        except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, ValueError ...
            faults.append(f"{path} {_describe(path, error)}")
    if faults:
        more = f" ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        noun = "image cannot be" if len(faults) == 1 else "images cannot be"
        raise SetupError(f"{len(faults)} {noun} used: {'; '.join(faults[:_SHOWN])}{more}. Mend or remove them.")
    return sizes


def _describe(path: Path, error: Exception) -> str:
    if not path.exists():
        return "is missing"
    if path.is_dir():
        return "is a folder"
    if not os.path.getsize(path):
        return "is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "is no image that Pillow can read"
    return f"cannot be read ({type(error).__name__}: {error})"
