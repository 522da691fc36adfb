"""Draws detections into their image, and encodes the result."""

import cv2
import numpy as np

from ...errors import SetupError, first_line
from ..report.pictures import LONG_SIDE, SHORT_SIDE, ascii_name, draw_boxes
from .predictor import Detections

__all__ = ["draw_detections", "encode_drawing"]

# Pixels. If the short side is longer, lines and letters grow with the image, since a screen shrinks it.
FULL_SIDE = 720
LONGEST_SIDE = 65_500  # of a JPEG
JPEG_QUALITY = 90  # keeps text and thin lines sharp


def draw_detections(bgr: np.ndarray, detections: Detections) -> np.ndarray:
    """Draw the boxes into a copy of an image, in the colours of the classes, the best scores on top.

    A small image is enlarged so that the labels can be read, and one that no JPEG can hold is shrunk.

    Args:
        bgr: (H, W, 3) uint8.
        detections: the detections in that image.

    Returns:
        (H', W', 3) uint8 BGR; H' >= H and W' >= W up to LONGEST_SIDE.
    """
    height, width = bgr.shape[:2]
    scale = max(1.0, min(SHORT_SIDE / min(height, width), LONG_SIDE / max(height, width)))
    scale = min(scale, LONGEST_SIDE / max(height, width))
    panel = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    if scale != 1:
        size = [max(1, round(side * scale)) for side in (width, height)]
        panel = cv2.resize(panel, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
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


def encode_drawing(bgr: np.ndarray, detections: Detections, suffix: str) -> bytes:
    """Draw as ``draw_detections`` and encode the picture.

    Args:
        suffix: ".jpg", ".jpeg" or ".png".

    Raises:
        SetupError: OpenCV or the memory fails.
    """
    parameters = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    try:
        success, encoded = cv2.imencode(suffix, draw_detections(bgr, detections), parameters)
    except (cv2.error, MemoryError) as error:
        raise SetupError(f"{bgr.shape[1]}x{bgr.shape[0]} pixels cannot be drawn ({first_line(error)})") from error
    if not success:
        raise SetupError(f"{bgr.shape[1]}x{bgr.shape[0]} pixels cannot be drawn as {suffix}")
    return encoded.tobytes()
