"""Small pictures that a hash can tell apart."""

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64


def draw(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A picture of soft blotches; another seed gives another picture, another size the same one."""
    blotches = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    return Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC)
