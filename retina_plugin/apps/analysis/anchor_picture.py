"""Draws images with each box's best anchor, coloured by pyramid level."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data.detection_utils import read_image
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ...errors import SetupError
from ...ops.anchors import nearest_anchors
from ..report.plots import PALETTE
from .coverage_numbers import AnchorCoverage
from .ground_truth import GroundTruth

__all__ = ["anchors_figure", "outlines", "pick_images", "read_picture"]

# Inches by number of columns; at 100 dpi the figure stays below 2000 px.
PANEL_WIDTHS = {1: 12.0, 2: 7.5, 3: 6.4}
TRUTH_COLOR, UNREACHED_COLOR = "black", "#FF2D2D"  # both are drawn on a wider white line


def pick_images(truth: GroundTruth, unreached: np.ndarray, number: int) -> list[int]:
    """Pick up to ``number`` images: the one with most unreached boxes, if any, then evenly spaced ones with boxes."""
    with_boxes = np.unique(truth.images)
    spread = with_boxes[np.linspace(0, len(with_boxes) - 1, num=min(number, len(with_boxes))).round().astype(int)]
    worst = np.bincount(truth.images[unreached], minlength=1).argmax() if len(unreached) else spread[:1]
    return list(dict.fromkeys([*np.atleast_1d(worst).tolist(), *spread.tolist()]))[:number]


def read_picture(truth: GroundTruth, image: int) -> np.ndarray:
    """Read an image of the set as (H, W, 3) uint8 RGB.

    Raises:
        SetupError: the file cannot be read, or has another size than the annotations say.
    """
    file_name = truth.content.file_names[image]
    try:
        picture = np.asarray(read_image(file_name, "RGB"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{truth.content.name}: image {file_name} cannot be read to draw on it: {error}.") from error
    if picture.shape[:2] != tuple(truth.sizes[image]):
        raise SetupError(
            f"{truth.content.name}: image {file_name} is {picture.shape[1]} x {picture.shape[0]} pixels, but the "
            f"annotations say {truth.sizes[image][1]} x {truth.sizes[image][0]}: correct its width and height."
        )
    return picture


def outlines(boxes: np.ndarray, **style) -> LineCollection:
    """Outlines of (n, 4) XYXY boxes as one collection of lines; n may be 0."""
    x1, y1, x2, y2 = np.asarray(boxes, dtype=float).reshape(-1, 4).T
    corners = np.stack([x1, y1, x2, y1, x2, y2, x1, y2, x1, y1], axis=1).reshape(-1, 5, 2)
    # No snapping to pixels, so that a line and the wider line below it stay aligned.
    return LineCollection(list(corners), snap=False, **style)


def anchors_figure(
    truth: GroundTruth,
    images: Sequence[int],
    pictures: Sequence[np.ndarray],
    coverages: Sequence[AnchorCoverage],
    frames: Sequence[tuple[Tensor, Tensor]],
) -> Figure:
    """Draw boxes, and each box's best anchor dashed in the colour of its level; a row per image, a column per config.

    Args:
        truth: the data set.
        images: indices of the images, at least one.
        pictures: pixels of these images, (H, W, 3) RGB.
        coverages: coverages of one to three configs.
        frames: for each config the (M, 4) boxes and (N, 2) sizes of the resized images.
    """
    shapes = [pictures[i].shape[0] / pictures[i].shape[1] for i in range(len(images))]
    panel_width = PANEL_WIDTHS[len(coverages)]
    figure = Figure(
        figsize=(panel_width * len(coverages), panel_width * sum(shapes) + 0.35 * len(images) + 0.8),
        layout="constrained",
    )
    panels = figure.subplots(len(images), len(coverages), squeeze=False, height_ratios=shapes)
    for row, (image, picture) in enumerate(zip(images, pictures, strict=True)):
        for axes, coverage, (boxes, sizes) in zip(panels[row], coverages, frames, strict=True):
            _draw_panel(axes, truth, image, picture, coverage, boxes, sizes)
    names = list(dict.fromkeys(name for coverage in coverages for name in coverage.layout.level_names))
    handles = [
        Line2D([], [], color=PALETTE[k % len(PALETTE)], linestyle="--", label=f"best anchor on {name}")
        for k, name in enumerate(names)
    ]
    handles += [
        Line2D([], [], color=TRUTH_COLOR, label="ground truth"),
        Line2D([], [], color=UNREACHED_COLOR, linewidth=2.5, label="ground truth that no anchor reaches"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 2 * len(coverages)), fontsize=10)
    return figure


def best_anchor_boxes(coverage: AnchorCoverage, boxes: Tensor, images: np.ndarray, chosen: np.ndarray) -> Tensor:
    """Return the best anchors of the ``chosen`` boxes, (n, 4) XYXY, pixels of the resized images."""
    layout, shapes = coverage.layout, coverage.layout.shapes()
    starts = np.cumsum([0, *(len(cells) for cells in layout.cell_anchors)])
    found = [torch.zeros(0, 4, dtype=torch.float64)]
    for m in chosen.tolist():
        level = shapes[coverage.shapes[m]][0]
        cell = layout.cell_anchors[level][coverage.shapes[m] - starts[level]]
        grid = coverage.grids[images[m], level][None]
        near = nearest_anchors(boxes[m][None], cell[None], grid, stride=layout.strides[level], offset=layout.offset)
        found.append(near[0])
    return torch.cat(found)


def _draw_panel(
    axes: Axes,
    truth: GroundTruth,
    image: int,
    picture: np.ndarray,
    coverage: AnchorCoverage,
    boxes: Tensor,
    sizes: Tensor,
) -> None:
    height, width = sizes[image].tolist()
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="bilinear", alpha=0.75)
    chosen = np.flatnonzero(truth.images == image)
    anchors = best_anchor_boxes(coverage, boxes, truth.images, chosen).numpy()
    shapes = coverage.layout.shapes()
    levels = [shapes[s][0] for s in coverage.shapes[chosen]]
    reached = coverage.best[chosen] >= coverage.lower_iou
    corners = boxes[chosen].numpy()
    axes.add_collection(outlines(corners, colors="white", linewidths=2.6))
    axes.add_collection(outlines(corners[reached], colors=TRUTH_COLOR, linewidths=1.1))
    axes.add_collection(outlines(corners[~reached], colors=UNREACHED_COLOR, linewidths=1.8))
    colors = [PALETTE[level % len(PALETTE)] for level in levels]
    axes.add_collection(outlines(anchors, colors=colors, linewidths=1.2, linestyles=(0, (3, 1.5))))
    # Leave a border for anchors that extend beyond the image.
    axes.set(xlim=(-0.04 * width, 1.04 * width), ylim=(1.04 * height, -0.04 * height), xticks=[], yticks=[])
    name = truth.content.file_names[image].rsplit("/", 1)[-1]
    mean = coverage.best[chosen].mean() if len(chosen) else float("nan")
    axes.set_title(
        f"{coverage.name}\n{name}, {width} x {height} px: {len(chosen)} boxes, mean best IoU {mean:.2f}, "
        f"{int((~reached).sum())} not reached", fontsize=10,
    )  # fmt: skip
