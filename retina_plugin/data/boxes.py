"""The one rule for boxes that cannot be trained on, for every format and every key (docs/own_data.md)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..findings import ERROR, WARNING

__all__ = ["find_box_faults"]

# A guard. Published sets have a few clicks among their boxes (blood cells: 2 of 4,888), and are usable as they are. A
# wrong order of columns, or coordinates of another size of the image, hits most boxes.
MAX_UNUSABLE_SHARE = 0.1
# A box may stick out by the rounding of its corners, pixels.
ROUNDING = 1.0


@dataclass(frozen=True)
class BoxFault:
    """Boxes of one set with the same fault."""

    check: str  # a name in CATALOG
    severity: str
    mask: np.ndarray  # (M,) bool, at least one True
    text: str  # end of a sentence that begins "3 of 40 boxes"


def find_box_faults(corners: np.ndarray, sizes: np.ndarray) -> Iterator[BoxFault]:
    """Yield each kind of fault among boxes that are not crowds.

    Boxes without area or outside their image are warnings up to ``MAX_UNUSABLE_SHARE`` of all, since training and
    conversion leave them out; beyond it they are errors.

    Args:
        corners: (M, 4) XYXY, pixels.
        sizes: (M, 2) width and height of the image of each box, pixels; NaN where they are not known.
    """
    if not len(corners):
        return
    low, high = corners[:, :2], corners[:, 2:]
    finite = np.isfinite(corners).all(axis=1)
    inverted = finite & (high < low).any(axis=1)
    whole = finite & ~inverted
    empty = whole & (high == low).any(axis=1)
    # Comparisons with a size that is not known (NaN) are False.
    outside = whole & ~empty & ((low >= sizes) | (high <= 0)).any(axis=1)
    out = whole & ~empty & ~outside & ((low < -ROUNDING) | (high > sizes + ROUNDING)).any(axis=1)
    normalised = finite & (high.max() <= 1 and not (sizes <= 2).any())
    looks_xywh = out.mean() > 0.25 and (high - low > low).all()
    hint = "; they look like corners [x1, y1, x2, y2] that were read as [x, y, width, height]" if looks_xywh else ""
    unusable = WARNING if (empty | outside).mean() <= MAX_UNUSABLE_SHARE else ERROR
    for fault in (
        BoxFault("box-not-finite", ERROR, ~finite, "hold NaN or infinity"),
        BoxFault("box-inverted", ERROR, inverted, "have a negative width or height"),
        BoxFault("box-normalised", ERROR, normalised, "lie within 0..1, so they seem normalised"),
        BoxFault("box-empty", unusable, empty, "have no width or height"),
        BoxFault("box-outside", unusable, outside, "lie outside their image"),
        BoxFault("box-sticks-out", WARNING, out, f"stick out of their image and will be clipped{hint}"),
    ):
        if fault.mask.any():
            yield fault
