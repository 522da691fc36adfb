"""Images of a judgement, drawn for a page: truth beside predictions."""

import logging
import os
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from ...errors import SetupError
from ...evaluation.boxes import Detections, Truth
from ..report.pictures import jpeg, prediction_panels
from .page_parts import page_text, picture

__all__ = ["draw_image", "picture_list"]

logger = logging.getLogger(__name__)


def draw_image(
    truth: Truth, found: Detections, i: int, image_root: str, *, threshold: float
) -> tuple[bytes, bytes] | None:
    """JPEG files of the truth and the predictions of image ``i``; None where it cannot be read, which the log says.

    Args:
        threshold: detections with a lower score are left out.
    """
    boxes = np.flatnonzero((truth.images == i) & ~truth.crowd)
    shown = found.where((found.images == i) & (found.scores >= threshold))
    path = os.path.join(image_root, truth.file_names[i])
    record = {
        "file_name": path,
        "annotations": [
            {"bbox": truth.boxes[b].tolist(), "bbox_mode": BoxMode.XYWH_ABS, "category_id": int(truth.classes[b])}
            for b in boxes
        ],
    }
    corners = np.hstack([shown.boxes[:, :2], shown.boxes[:, :2] + shown.boxes[:, 2:]])
    predictions = Instances(
        tuple(int(side) for side in truth.sizes[i][::-1]),
        pred_boxes=Boxes(torch.from_numpy(corners).float()),
        scores=torch.from_numpy(shown.scores),
        pred_classes=torch.from_numpy(shown.classes),
    )
    try:
        left, right = prediction_panels(record, predictions, truth.class_names)
    except SetupError:
        raise
    except Exception as error:  # Pillow raises many kinds
        logger.info("no picture of %s: %s", path, error)
        return None
    return jpeg(left), jpeg(right)


def picture_list(drawn: Sequence[tuple[str, list[tuple[str, bytes]]]]) -> str:
    """Images below each other, the pictures of each beside each other or, on a phone, below each other.

    Args:
        drawn: caption and (what it shows, JPEG file) of each.
    """
    figures = []
    for caption, files in drawn:
        pictures = "".join(
            f"<figure>{picture(file, f'{what}: {caption}')}<figcaption>{page_text(what)}</figcaption></figure>"
            for what, file in files
        )
        figures.append(f'<div><h3>{page_text(caption)}</h3><div class="pair">{pictures}</div></div>')
    return f'<div class="pictures">{"".join(figures)}</div>'
