"""The paper's anchors: their sizes, and the best IoU of boxes with a dense grid that is not laid out (Sec. 4).

Intersection over union with an anchor of fixed shape falls with the intersection, which is the product of an overlap
in x and one in y. Each of them is symmetric in the distance between the two centres and never grows with it. So the
best anchor of a shape sits at the grid point nearest to the box's centre, and the grid's border only moves it there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["best_anchors", "grid_sizes", "nearest_anchors", "octave_sizes"]

# Boxes at a time: 8192 x 45 anchors x 8 bytes = 3 MB a temporary, which stays in a processor's cache.
CHUNK = 8192


def octave_sizes(strides: Sequence[int], *, base_size: float, scales_per_octave: int) -> list[list[float]]:
    """Compute the sides of the square anchors of each pyramid level, in pixels (Sec. 4).

    Args:
        strides: strides of the levels, in pixels, e.g. 8, 16, 32, 64, 128 for P3-P7.
        base_size: side of a level's smallest anchor in units of its stride, > 0.
        scales_per_octave: n >= 1; the sizes of a level are ``stride * base_size * 2^(j / n)``, j = 0 .. n - 1.

    Returns:
        One list of n sizes per level. With base_size 4 and n = 3 they run from 32 to 812.75 (Sec. 4: 32-813).
    """
    octave = [2 ** (j / scales_per_octave) for j in range(scales_per_octave)]
    return [[stride * base_size * scale for scale in octave] for stride in strides]


def grid_sizes(image_sizes: Tensor, strides: Sequence[int], *, size_divisibility: int, square_size: int = 0) -> Tensor:
    """Compute the rows and columns of each pyramid level for padded images.

    Args:
        image_sizes: (N, 2) long, height and width of the resized images before padding, pixels.
        strides: strides of the L levels, pixels.
        size_divisibility: both sides are padded to a multiple of it; 0 or 1 for no padding.
        square_size: > 0 pads to a square of this side first, as Detectron2's ``padding_constraints`` do.

    Returns:
        (N, L, 2) long: a level has ceil(padded side / stride) points a side.
    """
    padded = torch.full_like(image_sizes, square_size) if square_size > 0 else image_sizes
    if size_divisibility > 1:
        padded = _ceil_div(padded, torch.tensor(size_divisibility)) * size_divisibility
    return _ceil_div(padded[:, None, :], torch.tensor(list(strides))[None, :, None])


def nearest_anchors(boxes: Tensor, cell_anchors: Tensor, grid: Tensor, *, stride: int, offset: float) -> Tensor:
    """Find the anchor of each shape on one level whose centre is nearest to each box's.

    Args:
        boxes: (M, 4) XYXY, pixels of the resized image.
        cell_anchors: (A, 4) XYXY around the grid point 0, pixels.
        grid: (M, 2) long, rows and columns of the level in the box's image, each >= 1.
        stride: stride of the level, pixels.
        offset: distance of the first point from the corner of the image, in strides, in [0, 1).

    Returns:
        (M, A, 4) XYXY. If two anchors are equally near, either of them.
    """
    centers = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2  # (M, 1, 2) x, y
    cell_centers = (cell_anchors[:, :2] + cell_anchors[:, 2:]) / 2
    steps = ((centers - cell_centers[None]) / stride - offset).round()  # (M, A, 2)
    last = (grid.flip(1) - 1).to(boxes)[:, None, :]  # columns, rows
    steps = steps.clamp(min=0).minimum(last)
    return cell_anchors[None] + ((steps + offset) * stride).repeat(1, 1, 2)


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Compute the IoU in [0, 1] of (..., 4) and (..., 4) XYXY boxes, broadcast; 0 for two boxes without area."""
    lower, upper = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    intersection = (upper - lower).clamp(min=0).prod(dim=-1)
    union = _area(boxes) + _area(others) - intersection
    return torch.where(union > 0, intersection / union, 0.0)


def best_anchors(
    boxes: Tensor, levels: Sequence[Tensor], grids: Tensor, *, strides: Sequence[int], offset: float
) -> tuple[Tensor, Tensor]:
    """Find the best IoU of each box with any anchor of its image, and the shape that reaches it.

    Args:
        boxes: (M, 4) XYXY, pixels of the resized image, floating; M may be 0.
        levels: per level (A_l, 4) cell anchors, XYXY around a grid point.
        grids: (M, L, 2) long, rows and columns of each level in the box's image.
        strides: strides of the L levels, pixels.
        offset: distance of the first point of a level, in strides.

    Returns:
        (M,) IoU in [0, 1], and (M,) long index into the shapes of all levels, level by level; the first of equals.
    """
    best, shape = boxes.new_zeros(len(boxes)), torch.zeros(len(boxes), dtype=torch.long)
    for start in range(0, len(boxes), CHUNK):
        part = slice(start, start + CHUNK)
        ious = [
            _nearest_iou(boxes[part], cells.to(boxes), grids[part, i], stride=stride, offset=offset)
            for i, (cells, stride) in enumerate(zip(levels, strides, strict=True))
        ]
        best[part], shape[part] = torch.cat(ious, dim=1).max(dim=1)
    return best, shape


def _nearest_iou(boxes: Tensor, cells: Tensor, grid: Tensor, *, stride: int, offset: float) -> Tensor:
    """Compute the (M, A) IoU with ``nearest_anchors``: x and y apart, contiguous, several times as fast."""
    area = cells.new_ones(1)
    intersection, box_area = boxes.new_ones(len(boxes), len(cells)), boxes.new_ones(len(boxes), 1)
    for axis in (0, 1):
        low, high = boxes[:, None, axis], boxes[:, None, axis + 2]
        cell_low, cell_high = cells[None, :, axis].contiguous(), cells[None, :, axis + 2].contiguous()
        # Cell anchors of one level mostly share one centre, then this is (M, 1) and cheap.
        middles = (cell_low + cell_high) / 2
        middles = middles[:, :1] if bool((middles == middles[:, :1]).all()) else middles
        last = (grid[:, None, 1 - axis] - 1).to(boxes)
        point = (((low + high) / 2 - middles) / stride - offset).round().clamp(min=0).minimum(last)
        point = (point + offset) * stride
        overlap = torch.minimum(high, point + cell_high) - torch.maximum(low, point + cell_low)
        intersection = intersection * overlap.clamp(min=0)
        box_area, area = box_area * (high - low), area * (cell_high - cell_low)
    union = box_area + area - intersection
    return torch.where(union > 0, intersection / union, 0.0)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _ceil_div(a: Tensor, b: Tensor) -> Tensor:
    return (a + b - 1).div(b, rounding_mode="floor")
