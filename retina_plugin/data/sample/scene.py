"""Draws the images of the built-in sample set: handwritten digits and look-alike clutter on photographs.

Digits and photographs ship inside scikit-learn, so nothing is downloaded. Sizes of the set, files and annotations are
in ``sample.py``. All lengths are pixels, all boxes (x, y, width, height) with whole numbers, tight around the ink.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ...errors import SetupError

__all__ = ["STYLES", "Scene", "SceneStyle", "Sources", "draw_scene", "load_sources"]

Box = tuple[int, int, int, int]

# A quarter of the digits and the right 40 % of each photograph (256 of 640 columns) are for val.
VAL_DIGIT_SHARE = 0.25
VAL_PHOTO_SHARE = 0.4
ZOOM = (1.0, 1.6)  # a background is enlarged at most this much: more looks out of focus
STRETCH = (0.45, 1.3)  # of height / width; takes a usual digit (1.5) across the range of the next line
NARROW = 1.6  # height / width from which a shape is not widened: a "one" would become a block
ASPECT_RATIOS = (0.5, 2.0)  # height / width after stretching: that of the paper's anchors (Sec. 4)
MAX_TILT = 10.0  # degrees; well below what turns a 6 into a 9 or a 1 into a 7
MAX_OVERLAP = 0.1  # of the smaller of two boxes: every digit keeps at least nine tenths of its box to itself
MIN_CONTRAST = 80.0  # grey levels (of 255) between ink and nine tenths of the background beneath it; read by eye
INK_THRESHOLD = 0.5  # a pixel belongs to an object when ink covers at least half of it
OPACITY = 0.95  # lets a trace of the photograph show through the ink
GAP = 0.25  # of an object's longer side: clutter beside it is at most so far away
PLACE_TRIES = 40  # positions tried for one item; it shrinks a little after each
SHRINK = 0.95
NOISE_STD = 4.0  # grey levels, as of a camera at moderate gain
GLYPH_SIDE = 80  # pixels; shapes are drawn at this size and then scaled
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class SceneStyle:
    """The look of the images of a set.

    ``image_sides``: shortest and longest side of an image; ``long_sides``: of the longer side of an object;
    ``mean_clutter``: items an image, anywhere; ``clutter_beside``: share of the objects that get an item beside them;
    ``min_objects`` an image, and ``mean_extra_objects`` beyond, exponential.
    """

    image_sides: tuple[int, int]
    long_sides: tuple[int, int]
    mean_clutter: float
    clutter_beside: float
    min_objects: int
    mean_extra_objects: float


STYLES = {
    # Images small enough to learn from on a CPU in minutes; 26 px is a small digit there, 20 is hard to read. Few
    # objects in most images, all 20 of the default in one of ten.
    "plain": SceneStyle((128, 192), (26, 64), 1.5, 0.0, 1, 8.0),
    # For docs/study_protocol.md: 3 to 8 objects with --max-objects 8, small on the image, look-alikes beside them.
    "crowded": SceneStyle((256, 256), (18, 40), 2.0, 0.75, 3, 1.5),
}


@dataclass(frozen=True)
class Sources:
    """Digits and photographs from which one split is drawn.

    ``digits``: (D, 8, 8) in [0, 1]; ``labels`` and ``indices``: (D,) class and index in ``load_digits``;
    ``photos``: file name, first column in the whole photograph, (H, W, 3) uint8 RGB.
    """

    digits: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    photos: list[tuple[str, int, np.ndarray]]


@dataclass(frozen=True)
class Scene:
    """One image (H, W, 3) uint8 RGB; ``objects``: (class, digit index, box); ``clutter``: boxes that are not objects;
    ``background``: file name of the photograph and the box in it."""

    image: np.ndarray
    objects: list[tuple[int, int, Box]]
    clutter: list[Box]
    background: tuple[str, Box]


def load_sources(seed: int) -> tuple[Sources, Sources]:
    """The sources of train and val. They share no digit and no column of a photograph.

    Raises:
        SetupError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits, load_sample_images  # here: scikit-learn may be missing
    except ImportError as e:
        raise SetupError(f"The sample set is made from scikit-learn's data: pip install scikit-learn ({e})") from None
    digits, photographs = load_digits(), load_sample_images()
    order = np.random.default_rng([seed, 0]).permutation(len(digits.target))
    num_val = round(len(order) * VAL_DIGIT_SHARE)

    def select(indices: np.ndarray, val: bool) -> Sources:
        photos = []
        for path, photo in zip(photographs.filenames, photographs.images, strict=True):
            cut = round(photo.shape[1] * (1 - VAL_PHOTO_SHARE))
            name = path.replace("\\", "/").rsplit("/", 1)[-1]
            photos.append((name, cut, photo[:, cut:]) if val else (name, 0, photo[:, :cut]))
        return Sources(digits.images[indices] / 16.0, digits.target[indices], indices, photos)  # samples are 0..16

    return select(np.sort(order[num_val:]), False), select(np.sort(order[:num_val]), True)


def draw_scene(
    sources: Sources, classes: np.ndarray, rng: np.random.Generator, style: SceneStyle = STYLES["plain"]
) -> Scene:
    """Draw one image that holds a digit of each of ``classes`` (n,), n >= 1, largest first, over its clutter.

    Two boxes share at most ``MAX_OVERLAP`` of the smaller. A digit for which no place is found after
    ``PLACE_TRIES`` is left out; at least one is always drawn (other backgrounds are tried until then).
    """
    least = style.long_sides[0]

    def draw_side() -> float:
        return _log_uniform(rng, style.long_sides)

    while True:
        canvas, background = _background(sources, style.image_sides, rng)
        clutter: list[Box] = []
        for _ in range(rng.poisson(style.mean_clutter)):
            box = _place(canvas, _clutter_glyph(sources, rng), draw_side(), clutter, rng, least)
            clutter += [box] if box else []
        objects: list[tuple[int, int, Box]] = []
        long_sides = sorted((draw_side() for _ in classes), reverse=True)
        for k, long_side in zip(classes, long_sides, strict=True):
            i = rng.choice(np.flatnonzero(sources.labels == k))
            taken = clutter + [box for _, _, box in objects]
            box = _place(canvas, _tilt(_enlarge(sources.digits[i]), rng), long_side, taken, rng, least)
            if box:
                objects.append((int(k), int(sources.indices[i]), box))
        for near in [box for _, _, box in objects] if style.clutter_beside else []:
            if rng.random() < style.clutter_beside:
                taken = clutter + [box for _, _, box in objects]
                box = _place(canvas, _clutter_glyph(sources, rng), max(near[2:]), taken, rng, least, near)
                clutter += [box] if box else []
        if objects:
            image = np.clip(canvas + rng.normal(0, NOISE_STD, canvas.shape), 0, 255).astype(np.uint8)
            return Scene(image, objects, clutter, background)


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _background(
    sources: Sources, sides: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[str, Box]]:
    """A crop of a photograph as (H, W, 3) float, possibly mirrored, and where it was taken."""
    name, first_column, photo = sources.photos[rng.integers(len(sources.photos))]
    height, width = (int(side) for side in rng.integers(sides[0], sides[1] + 1, 2))
    zoom = rng.uniform(*ZOOM)
    h, w = round(height / zoom), round(width / zoom)
    y, x = int(rng.integers(photo.shape[0] - h + 1)), int(rng.integers(photo.shape[1] - w + 1))
    crop = Image.fromarray(photo[y : y + h, x : x + w]).resize((width, height), Image.Resampling.BICUBIC)
    canvas = np.asarray(crop, dtype=np.float64)
    if rng.random() < 0.5:
        canvas = canvas[:, ::-1]
    return canvas.copy(), (name, (first_column + x, y, w, h))


def _enlarge(samples: np.ndarray) -> np.ndarray:
    """(s, s) in [0, 1] -> (GLYPH_SIDE, GLYPH_SIDE) in [0, 1], with an empty margin of one sample."""
    image = Image.fromarray((np.pad(samples, 1) * 255).astype(np.uint8))
    return np.asarray(image.resize((GLYPH_SIDE, GLYPH_SIDE), Image.Resampling.BICUBIC)) / 255.0


def _tilt(glyph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate a little, then turn the soft samples into ink with an edge about two pixels wide."""
    image = Image.fromarray((glyph * 255).astype(np.uint8))
    image = image.rotate(rng.uniform(-MAX_TILT, MAX_TILT), Image.Resampling.BICUBIC)
    return np.clip((np.asarray(image) / 255.0 - 0.35) / 0.3, 0, 1)  # ink from 35 %, full at 65 %: strokes stay whole


def _clutter_glyph(sources: Sources, rng: np.random.Generator) -> np.ndarray:
    """Clutter with as much ink as a digit: a digit with turned quadrants, a scribble or a blob of noise."""
    kind = rng.integers(3)
    if kind == 0:
        digit = sources.digits[rng.integers(len(sources.digits))]
        quadrants = [[np.rot90(half, rng.choice((1, 3))) for half in np.hsplit(row, 2)] for row in np.vsplit(digit, 2)]
        return _tilt(_enlarge(np.block(quadrants)), rng)  # by 90 degrees: upright pieces could be read as a "one"
    if kind == 1:
        image = Image.new("L", (GLYPH_SIDE, GLYPH_SIDE))
        points = rng.uniform(10, GLYPH_SIDE - 10, (7, 2))  # seven corners: more than any digit has
        ImageDraw.Draw(image).line([tuple(p) for p in points.tolist()], fill=255, width=7, joint="curve")
        return _tilt(np.asarray(image.filter(ImageFilter.GaussianBlur(2))) / 255.0, rng)
    return _tilt(_enlarge((rng.random((8, 8)) < 0.4).astype(float)), rng)  # 0.4: about the ink of a digit


def _place(
    canvas: np.ndarray, glyph: np.ndarray, long_side: float, taken: list[Box], rng: np.random.Generator, least: int,
    near: Box | None = None,
) -> Box | None:  # fmt: skip
    """Draw ``glyph`` into ``canvas`` where there is space and contrast; its tight box, or None without such a place.

    It shrinks from ``long_side`` to no less than ``least``. With ``near`` it stands beside that box.
    """
    y0, x0, h0, w0 = _ink_extent(glyph)
    shape = Image.fromarray((glyph[y0 : y0 + h0, x0 : x0 + w0] * 255).astype(np.uint8))
    stretch = (1.0, STRETCH[1]) if h0 / w0 > NARROW else STRETCH
    aspect = float(np.clip(h0 / w0 * _log_uniform(rng, stretch), *ASPECT_RATIOS))
    for _ in range(PLACE_TRIES):
        height, width = round(long_side * min(1, aspect)), round(long_side * min(1, 1 / aspect))
        long_side = max(least, long_side * SHRINK)
        alpha = np.asarray(shape.resize((width, height), Image.Resampling.BILINEAR)) / 255.0
        dy, dx, h, w = _ink_extent(alpha)
        alpha = alpha[dy : dy + h, dx : dx + w]
        rows, columns = (0, canvas.shape[0] - h), (0, canvas.shape[1] - w)
        if near:
            gap = round(GAP * max(near[2:]))
            rows, columns = _beside(near[1], near[3], h, gap, rows), _beside(near[0], near[2], w, gap, columns)
        y, x = int(rng.integers(rows[0], rows[1] + 1)), int(rng.integers(columns[0], columns[1] + 1))
        if any(_overlap((x, y, w, h), other) > MAX_OVERLAP for other in taken):
            continue
        patch = canvas[y : y + h, x : x + w]
        ink = _choose_ink(patch, rng)
        if ink is not None:
            patch += (ink - patch) * alpha[..., None] * OPACITY
            return x, y, w, h
    return None


def _beside(start: int, length: int, size: int, gap: int, bounds: tuple[int, int]) -> tuple[int, int]:
    """First and last start of a side of ``size`` at most ``gap`` from [start, start + length), within bounds."""
    return max(start - size - gap, bounds[0]), min(start + length + gap, bounds[1])


def _ink_extent(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """(y, x, height, width) of the pixels with at least INK_THRESHOLD ink; the whole array if there is none."""
    rows, columns = (np.flatnonzero((alpha >= INK_THRESHOLD).any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return 0, 0, *alpha.shape
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


def _overlap(a: Box, b: Box) -> float:
    """Shared area as a part of the smaller box, in [0, 1]."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / min(a[2] * a[3], b[2] * b[3])


def _choose_ink(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """An RGB colour at least MIN_CONTRAST darker or lighter than nine tenths of ``patch``; None if there is none."""
    low, high = np.percentile(patch @ LUMA, (10, 90))
    ranges = [(0.0, low - MIN_CONTRAST)] if low > MIN_CONTRAST else []
    ranges += [(high + MIN_CONTRAST, 255.0)] if high + MIN_CONTRAST < 255 else []
    if not ranges:
        return None
    target = rng.uniform(*ranges[rng.integers(len(ranges))])
    colour = rng.uniform(0, 255, 3)
    luma = float(colour @ LUMA)
    if luma > target:
        return colour * (target / luma)  # towards black: luma is linear, so it becomes the target
    return 255 - (255 - colour) * ((255 - target) / (255 - luma))  # towards white
