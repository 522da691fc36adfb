"""One image with its positive and ignored anchors in the colours of their boxes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..report.plots import PALETTE
from .anchor_picture import UNREACHED_COLOR, outlines

if TYPE_CHECKING:
    from .assignment import Assignment

__all__ = ["DPI", "assignment_figure", "box_colors"]

DPI = 100
# Inches at this DPI: a small image is enlarged until letters fit beside it, a large one reduced.
WIDTH_LIMITS = (11.0, 19.0)
BORDER = 0.06  # of the image's side, shown around it for anchors that stick out
BOX_COLORS = PALETTE[:-1]  # grey is too faint on a picture


def assignment_figure(picture: np.ndarray, size: tuple[int, int], assignment: "Assignment", numbers: dict) -> Figure:
    """Draw the image, its ignored anchors (thin, dashed), its positive ones (solid) and its boxes (thick).

    Args:
        picture: (H, W, 3) uint8 RGB, the original image.
        size: height and width of the resized image, the frame of the drawing.
        assignment: labels of its anchors.
        numbers: what ``assignment.json`` says about the image.
    """
    height, width = size
    figure_width = min(max(width / DPI, WIDTH_LIMITS[0]), WIDTH_LIMITS[1])
    figure = Figure(figsize=(figure_width, figure_width * height / width + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="bilinear", alpha=0.7)
    anchors, labels = assignment.anchors.numpy(), assignment.labels.numpy()
    matched = assignment.matched.numpy()
    boxes = assignment.boxes.numpy()
    colors = np.array(box_colors(boxes) or BOX_COLORS[:1])
    ignored, positive = labels == -1, labels == 1
    # Thick lines would cover small boxes and their anchors.
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) * figure_width * DPI / width
    line_width = float(np.clip(np.median(sides) / 25, 1.5, 3)) if len(boxes) else 3.0
    axes.add_collection(
        outlines(anchors[ignored], colors=colors[matched[ignored]], linewidths=0.6, linestyles=(0, (4, 3)), alpha=0.45)
    )
    axes.add_collection(outlines(anchors[positive], colors=colors[matched[positive]], linewidths=1.0, alpha=0.9))
    alone = np.array([box["positives"] == 0 for box in numbers["boxes"]], dtype=bool)
    axes.add_collection(outlines(boxes, colors="white", linewidths=line_width + 1.8))
    axes.add_collection(outlines(boxes[~alone], colors=colors[: len(boxes)][~alone], linewidths=line_width))
    axes.add_collection(outlines(boxes[alone], colors=UNREACHED_COLOR, linewidths=line_width))
    for x1, y1, x2, y2 in boxes[alone]:
        axes.plot([x1, x2, np.nan, x1, x2], [y1, y2, np.nan, y2, y1], color=UNREACHED_COLOR, linewidth=1.5)
    shown = np.concatenate([anchors[positive], [[0, 0, width, height]]])
    left, top = np.maximum(shown[:, :2].min(axis=0), [-BORDER * width, -BORDER * height])
    right, bottom = np.minimum(shown[:, 2:].max(axis=0), [(1 + BORDER) * width, (1 + BORDER) * height])
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.set_title(_title(numbers), fontsize=11)
    figure.legend(handles=_handles(numbers), loc="outside lower center", ncols=2, fontsize=10)
    return figure


def box_colors(boxes: np.ndarray) -> list[str]:
    """A colour for each of (M, 4) XYXY boxes; those of one colour lie far from each other. [] for none."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    chosen: list[int] = []
    for m in range(len(boxes)):
        distance = np.full(len(BOX_COLORS), np.inf)
        for other, color in enumerate(chosen):
            distance[color] = min(distance[color], float(np.linalg.norm(centers[m] - centers[other])))
        chosen.append(int(distance.argmax()))  # a colour not in use is infinitely far
    return [BOX_COLORS[color] for color in chosen]


def _title(numbers: dict) -> str:
    levels = ", ".join(f"{name} {number}" for name, number in numbers["positives_by_level"].items())
    size = numbers["resized"]
    return (
        f"{Path(numbers['file_name']).name} (id {numbers['image_id']}) at {size['width']} x {size['height']} px, "
        f"{len(numbers['boxes'])} boxes\npositive anchors by level: {levels}"
    )


def _handles(numbers: dict) -> list[Line2D]:
    grey = "0.35"
    return [
        Line2D([], [], color=grey, linewidth=3, label="ground truth, a colour a box"),
        Line2D([], [], color=grey, linewidth=1, label=f"positive anchors: {numbers['positives']}"),
        Line2D([], [], color=grey, linewidth=0.8, linestyle="--",
               label=f"ignored: {numbers['ignored']}; background, not drawn: {numbers['negatives']}"),
        Line2D([], [], color=UNREACHED_COLOR, linewidth=3, marker="x",
               label=f"box without a positive anchor: {numbers['boxes_without_positive']}"),
    ]  # fmt: skip
