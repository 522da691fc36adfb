"""``best_anchors`` against the IoU with every anchor that Detectron2's generator lays out."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes, pairwise_iou
from torch.testing import assert_close

from retina_plugin.ops import octave_sizes
from retina_plugin.ops.anchors import best_anchors, grid_sizes, nearest_anchors, paired_iou

STRIDES = [8, 16, 32, 64, 128]


def make_generator(offset: float, strides=STRIDES) -> DefaultAnchorGenerator:
    sizes = octave_sizes(strides, base_size=4.0, scales_per_octave=3)
    return DefaultAnchorGenerator(sizes=sizes, aspect_ratios=[[0.5, 1.0, 2.0]], strides=strides, offset=offset)


def brute_force(generator, boxes: torch.Tensor, grid: list[list[int]]) -> torch.Tensor:
    anchors = generator([torch.zeros(1, 1, *size) for size in grid])
    return pairwise_iou(Boxes(boxes.float()), Boxes.cat(anchors)).max(dim=1).values


def random_boxes(height: int, width: int, number: int) -> torch.Tensor:
    """Boxes of all sizes and ratios, many of them at a border; the last fills the image, the one before is 1 px."""
    size = torch.tensor([width, height], dtype=torch.float64)
    corners = (torch.rand(number, 2, 2, dtype=torch.float64) * 1.6 - 0.3).clamp(0, 1) * size
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    tiny = torch.tensor([[width - 1.0, height - 1.0, width, height]])
    return torch.cat([boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)], tiny, torch.tensor([[0, 0, width, height]])])


@pytest.mark.parametrize("offset", [0.0, 0.5, 0.3])
@pytest.mark.parametrize("height, width", [(130, 70), (33, 257), (96, 96)])
def test_best_iou_is_that_of_the_whole_grid(offset, height, width):
    generator = make_generator(offset)
    boxes = random_boxes(height, width, 120)
    assert len(boxes) > 80
    grid = grid_sizes(torch.tensor([[height, width]]), STRIDES, size_divisibility=32)
    expected = brute_force(generator, boxes, grid[0].tolist())
    cells = list(generator.cell_anchors)
    best, shape = best_anchors(boxes, cells, grid.expand(len(boxes), -1, -1), strides=STRIDES, offset=offset)
    assert_close(best.float(), expected, rtol=1e-4, atol=1e-5)  # Detectron2's anchors are float32
    # The shape named is one that reaches it.
    for box, iou, s in zip(boxes, best, shape.tolist(), strict=True):
        level, cell = divmod(s, 9)
        near = nearest_anchors(box[None], cells[level].double(), grid[:, level], stride=STRIDES[level], offset=offset)
        assert_close(paired_iou(box, near[0, cell]), iou)


def test_anchors_that_are_not_centred_on_their_point():
    generator = make_generator(0.5, [8])
    cells = [next(iter(generator.cell_anchors)) + torch.tensor([3.0, -5.0, 3.0, -5.0])]
    boxes = random_boxes(64, 48, 60)
    points = torch.cartesian_prod(torch.arange(8), torch.arange(6)) * 8 + 4  # y, x
    anchors = cells[0][None] + points[:, [1, 0, 1, 0]][:, None]
    expected = pairwise_iou(Boxes(boxes.float()), Boxes(anchors.reshape(-1, 4))).max(dim=1).values
    grid = torch.tensor([8, 6]).expand(len(boxes), 1, 2)
    best, _ = best_anchors(boxes, cells, grid, strides=[8], offset=0.5)
    assert_close(best.float(), expected, rtol=1e-4, atol=1e-5)


def test_chunks_do_not_change_the_result(monkeypatch):
    generator = make_generator(0.5)
    boxes = random_boxes(130, 70, 40)
    grid = grid_sizes(torch.tensor([[130, 70]]), STRIDES, size_divisibility=32).expand(len(boxes), -1, -1)
    arguments = (boxes, list(generator.cell_anchors), grid)
    whole = best_anchors(*arguments, strides=STRIDES, offset=0.5)
    monkeypatch.setattr("retina_plugin.ops.anchors.CHUNK", 7)
    assert_close(best_anchors(*arguments, strides=STRIDES, offset=0.5), whole)


def test_no_boxes_have_no_best_iou():
    best, shape = best_anchors(
        torch.zeros(0, 4), [torch.ones(1, 4)], torch.zeros(0, 1, 2, dtype=torch.long), strides=[8], offset=0.0
    )
    assert best.shape == shape.shape == (0,)


def test_hand_made_overlap():
    # One 8 x 8 anchor a point, points at 4, 12, 20 px. The box of 8 x 8 at (2, 0) is nearest to the first: they share
    # 6 x 8 and cover 2 * 64 - 48 = 80.
    cells = [torch.tensor([[-4.0, -4.0, 4.0, 4.0]])]
    best, _ = best_anchors(
        torch.tensor([[2.0, 0.0, 10.0, 8.0]]), cells, torch.tensor([[[3, 3]]]), strides=[8], offset=0.5
    )
    assert_close(best, torch.tensor([48 / 80]))


def test_paired_iou_of_boxes_without_area_is_zero():
    assert paired_iou(torch.zeros(2, 4), torch.zeros(2, 4)).tolist() == [0, 0]


@pytest.mark.parametrize(
    "size, divisibility, square, expected",
    [
        # 800 x 1333 pads to 800 x 1344: P7 is ceil(800 / 128) = 7 by ceil(1344 / 128) = 11.
        ((800, 1333), 32, 0, [[100, 168], [50, 84], [25, 42], [13, 21], [7, 11]]),
        ((33, 65), 0, 0, [[5, 9], [3, 5], [2, 3], [1, 2], [1, 1]]),
        ((33, 65), 32, 100, [[16, 16], [8, 8], [4, 4], [2, 2], [1, 1]]),  # 100 pads to 128
    ],
)
def test_grid_sizes_round_up(size, divisibility, square, expected):
    sizes = grid_sizes(torch.tensor([size]), STRIDES, size_divisibility=divisibility, square_size=square)
    assert sizes.tolist() == [expected]
