"""Boxes that cannot be trained on, found before Detectron2 drops or clips them without a word."""

import numpy as np

from ..errors import SetupError
from .dataset_content import DatasetContent

__all__ = ["check_boxes"]

# Large published sets carry a few boxes without area, and Detectron2 leaves them out. Up to this share they get a
# warning, so that such a file is usable as it is. A guard: 1 in 10,000 cannot shape a training.
_RARE_SHARE = 1e-4
# A box may stick out by the rounding of its corners.
_ROUNDING = 1.0


def check_boxes(content: DatasetContent) -> list[str]:
    """Look at every box that is no crowd.

    Returns:
        warnings: boxes that stick out of their image, and the rare box without area or outside its image.

    Raises:
        SetupError: boxes with NaN or infinity, of negative size, without area, outside the image, or all within 0..1.
    """
    boxes = content.boxes
    if not len(boxes):
        return []
    sizes = content.sizes[content.box_images]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    finite = np.isfinite(boxes).all(axis=1)
    # Comparisons with a size that is not known (NaN) are False.
    outside = ((low >= sizes) | (high <= 0)).any(axis=1)
    _refuse(content, ~finite, "hold NaN or infinity: write numbers")
    _refuse(content, (boxes[:, 2:] < 0).any(axis=1), "have a negative width or height: bbox is [x, y, width, height]")
    if high.max() <= 1 and not (sizes <= 2).any():
        _refuse(content, finite, "lie within 0..1, so they seem normalised: multiply by the size of the image")
    warnings = _refuse(
        content, (boxes[:, 2:] == 0).any(axis=1), "have no width or height: correct or delete them", rare=True
    )
    warnings += _refuse(content, outside, "lie outside their image: correct or delete them", rare=True)
    out = ((low < -_ROUNDING) | (high > sizes + _ROUNDING)).any(axis=1) & ~outside
    if out.any():
        warnings.append(f"{_describe(content, out)} stick out of their image and will be clipped{_hint(boxes, out)}.")
    return warnings


def _refuse(content: DatasetContent, bad: np.ndarray, text: str, *, rare: bool = False) -> list[str]:
    """Raise if any box is bad; with ``rare``, warn where they are few among many."""
    if not bad.any():
        return []
    sentence = f"{_describe(content, bad)} {text}."
    if rare and bad.mean() <= _RARE_SHARE:
        return [f"{sentence} Training leaves them out."]
    raise SetupError(sentence)


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
