"""Checks an image array, or reads an image file; returns (H, W, 3) uint8 BGR."""

import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy, read_image
from PIL import Image, ImageOps

from ...data.images import describe_page, find_fault, read_header
from ...errors import SetupError, one_line

__all__ = ["ImageLike", "as_bgr", "read_pages", "to_format"]

# TIFF's tag NewSubfileType, and its bits of a smaller copy of another page and of a mask.
_KIND_OF_PAGE, _NO_PAGE = 254, 0b101

ImageLike = np.ndarray | str | os.PathLike


def as_bgr(image: ImageLike, channel_order: str = "BGR") -> np.ndarray:
    """Check an array, or read a file.

    Args:
        image: (H, W, 3) uint8; or the path of a file that Pillow reads. A file's EXIF rotation is applied, and gray,
            palette, CMYK and alpha images are converted to three colours.
        channel_order: "BGR" or "RGB", the order of an array's channels; ignored for a file.

    Returns:
        (H, W, 3) uint8 BGR; the array itself if it is BGR already.

    Raises:
        SetupError: the image is neither, has no pixels, or cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        path = os.path.expanduser(image)
        if fault := find_fault(read_header(path)):
            raise SetupError(f"Image {one_line(image)} {fault}.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks on metadata and on large images
                return np.ascontiguousarray(read_image(Path(path), "BGR"))
        except Exception as error:  # damage makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
            raise SetupError(f"Image {one_line(image)} {_describe_damage(error)}.") from error
    if image is None:
        raise SetupError("The image is None: cv2.imread gives that for a file it cannot read; check its path.")
    if not isinstance(image, np.ndarray):
        remedy = "predictor.batch takes several images" if isinstance(image, (list, tuple)) else "convert it"
        raise SetupError(f"An image must be a NumPy array or a path, got {type(image).__name__}: {remedy}.")
    if image.ndim != 3 or image.shape[2] != 3:
        raise SetupError(f"An image must have shape (H, W, 3), got {image.shape}: {_shape_remedy(image.shape)}.")
    if image.dtype != np.uint8:
        raise SetupError(f"An image must be uint8 with values from 0 to 255, got {image.dtype}: convert it.")
    if image.size == 0:
        raise SetupError(f"An image must have pixels, got shape {image.shape}: leave it out.")
    return image if channel_order == "BGR" else image[:, :, ::-1]


def read_pages(path: str, limit: int | None) -> Iterator[tuple[int | None, np.ndarray | SetupError]]:
    """Read an image file, every page of a TIFF and every frame of a GIF, WebP, PNG or AVIF file.

    Left out are a TIFF's smaller copies and masks of a page, and the second picture of an MPO, which is a preview.

    Args:
        limit: pages to read at most; None for all.

    Yields:
        the number of the page from 0, None where the file has only one; and its pixels, (H, W, 3) uint8 BGR, or the
        reason why it cannot be read.
    """
    try:
        first = as_bgr(path)
    except SetupError as error:
        yield None, error
        return
    with open(os.path.expanduser(path), "rb") as file:
        image = Image.open(file)
        try:
            several = image.format != "MPO" and getattr(image, "is_animated", False)
        except Exception as error:  # as below; the first page can be read
            several = False
            yield None, SetupError(f"Image {one_line(path)}: its second page {_describe_damage(error)}.")
        yield 0 if several else None, first
        for page in itertools.islice(itertools.count(1), limit - 1 if limit else None) if several else ():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image.seek(page)
                    if image.format == "TIFF" and image.tag_v2.get(_KIND_OF_PAGE, 0) & _NO_PAGE:
                        continue
                    if fault := find_fault(describe_page(image)):
                        raise SetupError(f"Image {one_line(path)}: page {page} {fault}.")
                    found = convert_PIL_to_numpy(ImageOps.exif_transpose(image), "BGR")
            except EOFError:
                return
            except SetupError as error:
                found = error
            except Exception as error:  # damage makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
                # What comes behind a damaged page is not known.
                yield page, SetupError(f"Image {one_line(path)}: page {page} {_describe_damage(error)}.")
                return
            yield page, found


def _describe_damage(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return f"cannot be read ({type(error).__name__}: {one_line(error)})"


def to_format(bgr: np.ndarray, image_format: str) -> np.ndarray:
    """Convert a BGR image to a format of ``INPUT.FORMAT``, as Detectron2 converts the files it reads."""
    return bgr if image_format == "BGR" else convert_PIL_to_numpy(Image.fromarray(bgr[:, :, ::-1]), image_format)


def _shape_remedy(shape: tuple[int, ...]) -> str:
    if len(shape) == 2 or shape[2:] == (1,):
        return "make three channels of a gray one with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    if len(shape) == 4:
        return "give the images of a batch as a list to predictor.batch"
    if shape[2:] == (4,):
        return "drop the alpha channel with image[:, :, :3]"
    return "put the channels last with image.transpose(1, 2, 0)" if shape[0] == 3 else "convert it"
