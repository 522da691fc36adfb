"""Image files by their headers: the size that Detectron2 reads, and every reason why a file cannot be used."""

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import SetupError
from .image_paths import check_named

__all__ = [
    "IMAGE_SUFFIXES", "MISSING", "MISSING_REMEDY", "ImageHeader", "describe_page", "find_fault",
    "is_picture", "join_faults", "read_header", "read_sizes",
]  # fmt: skip

# Suffixes of the images in a folder. A file that is named itself may have any.
IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
_EXIF_ORIENTATION = 274
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_TAIL = 4096  # some writers append a few bytes after the end marker
_END_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_UNKNOWN_SIZE = (float("nan"), float("nan"))
_SHOWN = 3  # faulty files named in an error
MISSING = "is missing"
MISSING_REMEDY = (
    "Put the files there, take their records out, or give their folder (DATASETS.TRAIN_IMAGES / VAL_IMAGES)."
)
# Formats that Pillow knows by name only, or reads by running another program (Ghostscript).
_NO_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


@dataclass(frozen=True)
class ImageHeader:
    """The content of a file's header."""

    fault: str  # why the file cannot be read as it is meant, "" if it can
    mode: str = ""  # Pillow's; "" if the file cannot be opened
    # Pixels as shown, after the EXIF rotation that Detectron2 applies; 0 if unknown.
    width: int = 0
    height: int = 0
    turned: bool = False  # that rotation swaps width and height

    @property
    def is_deep(self) -> bool:
        """True for more than 8 bits a channel: Pillow's modes I, I;16 and its variants, and F."""
        return self.mode.startswith("I") or self.mode == "F"


def read_header(file_name: str | os.PathLike) -> ImageHeader:
    """Look at a local file; only one that seems cut off at its end is decoded."""
    if not os.path.isfile(file_name):  # opening a pipe would wait for ever; Path.exists raises where a name is too long
        if os.path.isdir(file_name):
            return ImageHeader("is a folder" if os.access(file_name, os.R_OK) else "is a folder that you may not read")
        return ImageHeader("is not a regular file" if os.path.exists(file_name) else "is missing")
    try:
        with open(file_name, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on metadata; Detectron2 will show them
            image = Image.open(file)
            if image.format in _NO_PICTURES:
                return ImageHeader(f"is not a picture but {image.format}")
            header = describe_page(image)
            marker = _END_MARKERS.get(image.format or "")
            if marker:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - _TAIL))
                if marker not in file.read():
                    file.seek(0)
                    Image.open(file).load()
            return header
    except Image.UnidentifiedImageError:
        with open(file_name, "rb") as file:
            head = file.read(64)
        if head.lstrip()[:1] == b"<":
            return ImageHeader(f"is not an image but text ({head.lstrip()[:20].decode('latin-1')!r}...)")
        if head.lstrip()[:1] == b"{":  # which may hold a secret, so it is not shown
            return ImageHeader("is not an image but text (JSON)")
        return ImageHeader("is not an image that Pillow can read" if head else "is empty")
    except PermissionError:
        return ImageHeader("cannot be read: you have no permission")
    except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        return ImageHeader(f"cannot be read ({type(error).__name__}: {error})")


def describe_page(image: Image.Image) -> ImageHeader:
    """Describe the page of an open image that it stands at."""
    orientation = _orientation(image)
    turned = orientation in _TURNED
    width, height = image.size[::-1] if turned else image.size
    fault = ""
    if image.format == "TIFF" and orientation in range(2, 9):
        fault = (
            f"is a TIFF with the EXIF orientation {orientation}, which Pillow and Detectron2 would each apply: "
            "save it upright"
        )
    elif Image.MAX_IMAGE_PIXELS and width * height > 2 * Image.MAX_IMAGE_PIXELS:  # Pillow looks at the first page only
        fault = f"has {width * height} pixels, over the limit of {2 * Image.MAX_IMAGE_PIXELS}: make it smaller"
    return ImageHeader(fault, image.mode, width, height, turned)


def is_picture(file_name: str | os.PathLike) -> bool:
    """Tell whether Pillow knows a regular file as a picture, damaged or not; nothing is decoded."""
    try:
        with warnings.catch_warnings(), Image.open(file_name) as image:
            warnings.simplefilter("ignore")
            return image.format not in _NO_PICTURES
    except Image.DecompressionBombError:
        return True
    except Exception:  # a damaged header makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        return False


def find_fault(header: ImageHeader, size: tuple[float, float] = _UNKNOWN_SIZE) -> str:
    """Say why an image cannot be trained on or detected in; "" if it can.

    Args:
        size: (width, height) on record, pixels; NaN where the record has none.
    """
    if header.fault:
        return header.fault
    if header.is_deep:  # only its owner knows the range of its values
        return (
            f"has more than 8 bits a channel (mode {header.mode}), which Detectron2 would cut at 255: "
            "convert it to 8 bits"
        )
    width, height = header.width, header.height
    # NaN, an unknown number, equals no number, itself included.
    if all(found == expected or expected != expected for found, expected in zip((width, height), size, strict=True)):
        return ""
    swapped = (height, width) == tuple(size)
    if header.turned and swapped:
        return (
            f"is {width}x{height} after the EXIF rotation that Detectron2 applies, but on record "
            f"{size[0]:g}x{size[1]:g} (swapped): annotate the turned image, or remove the EXIF orientation"
        )
    hint = " (swapped: EXIF rotation?)" if swapped else ""
    return f"is {width}x{height}, but on record {size[0]:g}x{size[1]:g}{hint}"


def join_faults(faults: list[str]) -> str:
    """The first faults in one sentence, with the number of the others."""
    more = f" ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return f"{'; '.join(faults[:_SHOWN])}{more}"


def read_sizes(paths: Iterable[Path], *roots: Path) -> dict[Path, tuple[int, int]]:
    """(width, height) after the EXIF orientation of each image, pixels.

    Args:
        roots: folders of the images beside those of the bound that is in force.

    Raises:
        SetupError: an image is outside the folders of its set; or the first files that cannot be used, and how many
            there are.
    """
    paths = list(paths)
    check_named(paths, *roots)
    headers = {path: read_header(path) for path in paths}
    faults = [f"{path} {fault}" for path, header in headers.items() if (fault := find_fault(header))]
    if faults:
        noun, those = ("image", "it") if len(faults) == 1 else ("images", "them")
        remedy = MISSING_REMEDY if all(fault.endswith(MISSING) for fault in faults) else f"Fix or remove {those}."
        raise SetupError(f"{len(faults)} {noun} cannot be used: {join_faults(faults)}. {remedy}")
    return {path: (header.width, header.height) for path, header in headers.items()}


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where there is none that can be read."""
    # Without its EXIF chunk in front, a PNG would be decoded for the question.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # unreadable EXIF: Detectron2 then leaves the image as it is
        return 1
