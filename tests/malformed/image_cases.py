"""Image files, in a folder of YOLO labels."""

import numpy as np
from PIL import Image

from . import Case, write

B = "images/b.png"


def save(mode_or_array, name="images/b.png", **options):
    def spoil(root):
        (root / B).unlink()
        image = Image.fromarray(mode_or_array) if isinstance(mode_or_array, np.ndarray) else Image.new(*mode_or_array)
        image.save(root / name, **options)

    return spoil


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6  # the key of the orientation; 6: by a quarter
    return exif


def huge_header(root):
    """A PNG that says it is 60000 x 60000 pixels; its checksum is right."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (root / B).write_bytes(data + struct.pack(">I", 10) + b"IDAT" + bytes(14))


def put_folder(root):
    (root / "pictures/b.png").unlink()
    (root / "pictures/b.png").mkdir()


IMAGE_CASES = [
    Case("image_empty", "yolo", write(B, b""), "1 image cannot be used: set/images/b.png is empty. Fix or remove it."),
    Case(
        "image_is_html",
        "yolo",
        write(B, "<html>404</html>"),
        "1 image cannot be used: set/images/b.png is not an image but text ('<html>404</html>'...). Fix or remove it.",
    ),
    Case(
        "image_is_random",
        "yolo",
        write(B, bytes(range(200))),
        "1 image cannot be used: set/images/b.png is not an image that Pillow can read. Fix or remove it.",
    ),
    Case(
        "image_header_cut_off",
        "yolo",
        write(B, b"\x89PNG\r\n\x1a\n\0\0"),
        "1 image cannot be used: set/images/b.png is not an image that Pillow can read. Fix or remove it.",
    ),
    Case(
        "image_of_16_bits",
        "yolo",
        save(np.full((48, 64), 1000, np.uint16)),
        "1 image cannot be used: set/images/b.png has more than 8 bits a channel (mode I;16), which Detectron2 "
        "would cut at 255: convert it to 8 bits. Fix or remove it.",
    ),
    Case(
        "image_of_floats",
        "yolo",
        save(np.full((48, 64), 0.5, np.float32), "images/b.tif"),
        "1 image cannot be used: set/images/b.tif has more than 8 bits a channel (mode F), which Detectron2 would "
        "cut at 255: convert it to 8 bits. Fix or remove it.",
    ),
    Case(
        "image_turned_tiff",
        "yolo",
        save(("RGB", (64, 48)), "images/b.tif", exif=turned()),
        "1 image cannot be used: set/images/b.tif is a TIFF with the EXIF orientation 6, which Pillow and "
        "Detectron2 would each apply: save it upright. Fix or remove it.",
    ),
    Case(
        "image_beyond_memory",
        "yolo",
        huge_header,
        "1 image cannot be used: set/images/b.png cannot be read (DecompressionBombError: Image size (3600000000 "
        "pixels) exceeds limit of 178956970 pixels, could be decompression bomb DOS attack.). Fix or remove it.",
    ),
    Case(
        "image_is_a_folder",
        "csv",
        put_folder,
        "1 image cannot be used: set/pictures/b.png is a folder. Fix or remove it.",
    ),
]
