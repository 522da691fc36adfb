"""Images of an evaluation, drawn for a page: truth beside predictions."""

import logging
import os

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from ...errors import SetupError
from ...evaluation.boxes import Detections, Truth
from ..report.pictures import data_address, prediction_panels

__all__ = ["draw_image"]

logger = logging.getLogger(__name__)


def draw_image(truth: Truth, found: Detections, i: int, image_root: str, *, threshold: float) -> tuple[str, str] | None:
    """Draw the truth and the predictions of image ``i``.

    Args:
        threshold: detections with a lower score are left out.

    Returns:
        two data addresses of JPEG files; None if the image cannot be read, with a line in the log.
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
    return data_address(left), data_address(right)
