"""Boxes that cannot be trained on, found before Detectron2 drops or clips them without a word."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import SetupError
from ..findings import ERROR, WARNING
from .dataset_content import DatasetContent

__all__ = ["BoxFault", "check_boxes", "find_box_faults"]

# Large published sets carry a few boxes without area, and Detectron2 leaves them out. Up to this share they get a
# warning, so that such a file is usable as it is. A guard: 1 in 10,000 cannot shape a training.
_RARE_SHARE = 1e-4
# A box may stick out by the rounding of its corners.
_ROUNDING = 1.0


@dataclass(frozen=True)
class BoxFault:
    """Boxes of one set with the same fault."""

    check: str  # a name in CATALOG
    severity: str
    mask: np.ndarray  # (M,) bool, at least one True
    says: str  # goes on after "3 of 40 boxes"
    remedy: str


def check_boxes(content: DatasetContent) -> list[str]:
    """Look at every box that is no crowd.

    Returns:
        warnings: boxes that stick out of their image, and the rare box without area or outside its image.

    Raises:
        SetupError: boxes with NaN or infinity, of negative size, without area, outside the image, or all within 0..1.
    """
    warnings = []
    for fault in find_box_faults(content):
        sentence = f"{_describe(content, fault.mask)} {fault.says}"
        if fault.severity == ERROR:
            raise SetupError(f"{sentence}: {fault.remedy}.")
        remedy = "" if fault.check == "box-sticks-out" else f": {fault.remedy}. Training leaves them out"
        warnings.append(f"{sentence}{remedy}.")
    return warnings


def find_box_faults(content: DatasetContent) -> Iterator[BoxFault]:
    """Every kind of fault that boxes have; those that stand in the way of training are errors, the others warnings."""
    boxes = content.boxes
    if not len(boxes):
        return
    sizes = content.sizes[content.box_images]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    finite = np.isfinite(boxes).all(axis=1)
    inverted = (boxes[:, 2:] < 0).any(axis=1)
    empty = (boxes[:, 2:] == 0).any(axis=1)
    # Comparisons with a size that is not known (NaN) are False.
    outside = ((low >= sizes) | (high <= 0)).any(axis=1)
    out = ((low < -_ROUNDING) | (high > sizes + _ROUNDING)).any(axis=1) & ~outside
    normalised = finite & (high.max() <= 1 and not (sizes <= 2).any())
    found = (
        BoxFault("box-not-finite", ERROR, ~finite, "hold NaN or infinity", "write numbers"),
        BoxFault(
            "box-inverted", ERROR, inverted, "have a negative width or height", "bbox is [x, y, width, height]"
        ),
        BoxFault(
            "box-normalised", ERROR, normalised,
            "lie within 0..1, so they seem normalised", "multiply by the size of the image",
        ),
        BoxFault("box-empty", _by_share(empty), empty, "have no width or height", "correct or delete them"),
        BoxFault("box-outside", _by_share(outside), outside, "lie outside their image", "correct or delete them"),
        BoxFault(
            "box-sticks-out", WARNING, out, f"stick out of their image and will be clipped{_hint(boxes, out)}",
            "correct them if the part outside is no rounding",
        ),
    )  # fmt: skip
    yield from (fault for fault in found if fault.mask.any())


def _by_share(mask: np.ndarray) -> str:
    return WARNING if mask.mean() <= _RARE_SHARE else ERROR


def _describe(content: DatasetContent, bad: np.ndarray) -> str:
    first = int(np.flatnonzero(bad)[0])
    image = content.box_images[first]
    box = ", ".join(f"{number:g}" for number in content.boxes[first])
    return (
        f"{content.name}: {int(bad.sum())} of {len(bad)} boxes (the first: [{box}], annotation id "
        f"{content.annotation_ids[first]}, image id {content.image_ids[image]}, {content.file_names[image]})"
    )


def _hint(boxes: np.ndarray, out: np.ndarray) -> str:
    """XYXY corners read as XYWH: every "width" exceeds x, every "height" y, and many boxes stick out."""
    looks_xyxy = (boxes[:, 2:] > boxes[:, :2]).all() and out.mean() > 0.25
    return "; they look like [x1, y1, x2, y2], but COCO has [x, y, width, height]" if looks_xyxy else ""
