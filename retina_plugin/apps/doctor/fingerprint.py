"""An image file decoded once: whether that works, and what tells it from other images. Needs Pillow and numpy alone."""

import hashlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...data.images import ImageHeader, read_header

__all__ = ["THUMB_SIDE", "ImageLook", "look_at"]

# 8 x 8 signs of horizontal differences (dHash): 64 bits, unmoved by size, compression, brightness and contrast.
_HASH_ROWS, _HASH_COLUMNS = 8, 9
# Gray levels that confirm what equal hashes suggest; 256 bytes an image.
THUMB_SIDE = 16
_DIGEST_BYTES = 16  # of BLAKE2: two of a billion files meet with a chance of 1e-21


@dataclass(frozen=True)
class ImageLook:
    """What one look at a file found; the fields after ``header`` are empty if it cannot be decoded."""

    header: ImageHeader
    digest: bytes = b""  # of the file's bytes
    dhash: bytes = b""  # 64 bits
    thumb: bytes = b""  # THUMB_SIDE x THUMB_SIDE gray levels, row by row


def look_at(file_name: str) -> ImageLook:
    """Read and decode a local file, a JPEG at an eighth of its size; damage anywhere in it is found."""
    header = read_header(file_name)
    if header.fault:
        return ImageLook(header)
    try:
        digest = hashlib.blake2b(Path(file_name).read_bytes(), digest_size=_DIGEST_BYTES).digest()
        with warnings.catch_warnings(), Image.open(file_name) as image:
            warnings.simplefilter("ignore")  # Pillow's remarks on metadata
            # Scaled while it is decoded; at least twice the side of the thumb is kept. Other formats ignore it.
            image.draft("L", (2 * THUMB_SIDE, 2 * THUMB_SIDE))
            gray = _to_gray(ImageOps.exif_transpose(image))
    except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        return ImageLook(replace(header, fault=f"cannot be read ({type(error).__name__}: {error})"))
    grid = np.asarray(gray.resize((_HASH_COLUMNS, _HASH_ROWS), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(grid[:, 1:] > grid[:, :-1])
    thumb = gray.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX).tobytes()
    return ImageLook(header, digest, bits.tobytes(), thumb)


def _to_gray(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # Pillow's own conversion cuts at 255
        values = np.asarray(image, dtype=np.float64)
        top = values.max(initial=1)
        return Image.fromarray((values * (255 / max(top, 1))).clip(0, 255).astype(np.uint8))
    return image.convert("L")
