"""Decodes an image file once, to find damage and to compare it with other images. Needs only Pillow and numpy."""

import hashlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...data.images import ImageHeader, read_header

__all__ = ["ImageScan", "scan_image"]

# dHash: the signs of 8 x 8 horizontal differences, 64 bits that resizing, compression, brightness and contrast keep.
_HASH_ROWS, _HASH_COLUMNS = 8, 9
# Pixels. Thumbnails confirm that images with near hashes are alike; 256 bytes an image.
THUMB_SIDE = 16
_DIGEST_BYTES = 16  # of BLAKE2: among a billion files, two share a digest with a chance of 1e-21


@dataclass(frozen=True)
class ImageScan:
    """Header, hashes and thumbnail of an image file; all but ``header`` are empty if it cannot be decoded."""

    header: ImageHeader
    digest: bytes = b""  # of the file's bytes
    dhash: bytes = b""  # 64 bits
    thumb: bytes = b""  # THUMB_SIDE x THUMB_SIDE gray levels, row by row


def scan_image(file_name: str) -> ImageScan:
    """Read and decode a local file, a JPEG at an eighth of its size; damage anywhere in the file is found."""
    header = read_header(file_name)
    if header.fault:
        return ImageScan(header)
    try:
        digest = hashlib.blake2b(Path(file_name).read_bytes(), digest_size=_DIGEST_BYTES).digest()
        with warnings.catch_warnings(), Image.open(file_name) as image:
            warnings.simplefilter("ignore")  # Pillow warns about metadata
            # Decode a JPEG at a reduced size, at least twice that of the thumbnail. Other formats ignore this.
            image.draft("L", (2 * THUMB_SIDE, 2 * THUMB_SIDE))
            gray = ImageOps.exif_transpose(image)
            if gray.mode in ("I", "F") or gray.mode.startswith("I;16"):  # Pillow's conversion would clip at 255
                values = np.asarray(gray, dtype=np.float64)
                gray = Image.fromarray((values * (255 / max(values.max(initial=1), 1))).clip(0, 255).astype(np.uint8))
            else:
                gray = gray.convert("L")
    except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        return ImageScan(replace(header, fault=f"cannot be read ({type(error).__name__}: {error})"))
    grid = np.asarray(gray.resize((_HASH_COLUMNS, _HASH_ROWS), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(grid[:, 1:] > grid[:, :-1])
    thumb = gray.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX).tobytes()
    return ImageScan(header, digest, bits.tobytes(), thumb)
