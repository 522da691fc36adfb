"""Checks an image array, or reads an image file; returns (H, W, 3) uint8 BGR."""

import os
from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy, read_image
from PIL import Image

from ...data.images import find_fault, read_header
from ...errors import SetupError

__all__ = ["ImageLike", "as_bgr", "to_format"]

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
            raise SetupError(f"Image {image} {fault}.")
        try:
            return np.ascontiguousarray(read_image(Path(path), "BGR"))
        except Exception as error:  # damage makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
            raise SetupError(f"Image {image} cannot be read ({type(error).__name__}: {error}).") from error
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
