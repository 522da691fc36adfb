"""Draws detections into their image."""

import cv2
import numpy as np

from ..report.pictures import LONG_SIDE, SHORT_SIDE, ascii_name, draw_boxes
from .predictor import Detections

__all__ = ["draw_detections"]

# Pixels. If the short side is longer, lines and letters grow with the image, since a screen shrinks it.
FULL_SIDE = 720


def draw_detections(bgr: np.ndarray, detections: Detections) -> np.ndarray:
    """Draw the boxes into a copy of an image, in the colours of the classes, the best scores on top.

    A small image is enlarged so that the labels can be read.

    Args:
        bgr: (H, W, 3) uint8.
        detections: the detections in that image.

    Returns:
        (H', W', 3) uint8 BGR with H' >= H.
    """
    height, width = bgr.shape[:2]
    scale = max(1.0, min(SHORT_SIDE / min(height, width), LONG_SIDE / max(height, width)))
    panel = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    if scale > 1:
        panel = cv2.resize(panel, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC)
    order = range(len(detections))[::-1]
    names = [ascii_name(name, k) for k, name in enumerate(detections.class_names)]
    draw_boxes(
        panel,
        detections.boxes[::-1] * scale,
        [int(detections.classes[i]) for i in order],
        [f"{names[detections.classes[i]]} {detections.scores[i]:.2f}" for i in order],
        [True] * len(detections),
        pen=max(1.0, min(panel.shape[:2]) / FULL_SIDE),
    )
    return cv2.cvtColor(panel, cv2.COLOR_RGB2BGR)
