"""``octave_sizes`` and ``OctaveAnchorGenerator``: paper Sec. 4 and Table 1c."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch.testing import assert_close

from retina_plugin import OctaveAnchorGenerator
from retina_plugin.ops import octave_sizes

STRIDES = [8, 16, 32, 64, 128]


def test_octave_sizes_of_the_paper():
    sizes = octave_sizes(STRIDES, base_size=4.0, scales_per_octave=3)
    # 32 px on P3 to 512 px on P7, times 1, 2^(1/3) = 1.2599 and 2^(2/3) = 1.5874; 512 * 1.5874 = 812.75 (Sec. 4: 813).
    expected = [
        [32.0, 40.32, 50.80],
        [64.0, 80.63, 101.59],
        [128.0, 161.27, 203.19],
        [256.0, 322.54, 406.37],
        [512.0, 645.08, 812.75],
    ]
    assert_close(torch.tensor(sizes), torch.tensor(expected), rtol=0, atol=5e-3)


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
def test_octave_sizes_tile_the_octaves(scales):
    # One step further than a level's last size is the next level's first one: a constant ratio through all levels.
    sizes = torch.tensor(octave_sizes(STRIDES, base_size=4.0, scales_per_octave=scales), dtype=torch.float64)
    assert sizes.shape == (5, scales)
    ratios = sizes.flatten()[1:] / sizes.flatten()[:-1]
    assert_close(ratios, torch.full_like(ratios, 2 ** (1 / scales)))


def test_octave_sizes_scale_with_base_size():
    assert octave_sizes([8, 16], base_size=2.0, scales_per_octave=1) == [[16.0], [32.0]]


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_size": 0.0},
        {"base_size": -1.0},
        {"base_size": float("nan")},
        {"base_size": float("inf")},
        {"scales_per_octave": 0},
    ],
    ids=str,
)
def test_octave_anchors_refuse_an_impossible_size(arguments):
    (name,) = arguments
    sizes = {"base_size": 4.0, "scales_per_octave": 3, **arguments}
    with pytest.raises(ValueError, match=f"MODEL.ANCHOR_GENERATOR.{name.upper()} must be"):
        OctaveAnchorGenerator(**sizes, aspect_ratios=[1.0], strides=[8], offset=0.0)


@pytest.mark.parametrize("strides", [[8, 16, 32, 64, 128], [4, 8], [16]], ids=str)
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("ratios", [[[1.0]], [[0.5, 1.0, 2.0]]], ids=str)
@pytest.mark.parametrize("scales", [1, 2, 3, 4])
def test_octave_anchors_equal_detectron2_with_the_sizes_written_out(strides, offset, ratios, scales):
    maps = [torch.zeros(1, 1, 40 // stride + 1, 64 // stride + 1) for stride in strides]
    octave = OctaveAnchorGenerator(
        base_size=4.0, scales_per_octave=scales, aspect_ratios=ratios, strides=strides, offset=offset
    )
    sizes = [[4 * stride * 2 ** (j / scales) for j in range(scales)] for stride in strides]
    default = DefaultAnchorGenerator(sizes=sizes, aspect_ratios=ratios, strides=strides, offset=offset)
    assert octave.num_anchors == default.num_anchors == [scales * len(ratios[0])] * len(strides)
    for ours, theirs, feature_map in zip(octave(maps), default(maps), maps, strict=True):
        assert len(ours) == scales * len(ratios[0]) * feature_map[0, 0].numel()
        assert torch.equal(ours.tensor, theirs.tensor)


def test_octave_anchors_ratio_is_height_over_width_at_constant_area():
    generator = OctaveAnchorGenerator(
        base_size=4.0, scales_per_octave=1, aspect_ratios=[[0.5, 1.0, 2.0]], strides=[8], offset=0.0
    )
    (anchors,) = generator([torch.zeros(1, 1, 1, 1)])
    x1, y1, x2, y2 = anchors.tensor.unbind(dim=1)
    assert_close((y2 - y1) / (x2 - x1), torch.tensor([0.5, 1.0, 2.0]))
    assert_close(anchors.area(), torch.full((3,), 32.0**2))
    assert_close((x1 + x2, y1 + y2), (torch.zeros(3), torch.zeros(3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "scales, ratios, per_location", [(1, 1, 1), (2, 1, 2), (1, 3, 3), (2, 3, 6), (3, 3, 9), (4, 3, 12)]
)
def test_octave_anchors_from_config_as_in_table_1c(tiny_cfg, scales, ratios, per_location):
    tiny_cfg.MODEL.ANCHOR_GENERATOR.NAME = "OctaveAnchorGenerator"
    tiny_cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE = scales
    tiny_cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0] if ratios == 1 else [0.5, 1.0, 2.0]]
    tiny_cfg.MODEL.ANCHOR_GENERATOR.OFFSET = 0.5
    generator = build_anchor_generator(tiny_cfg, [ShapeSpec(stride=stride) for stride in STRIDES])
    assert isinstance(generator, OctaveAnchorGenerator)
    assert generator.num_anchors == [per_location] * 5 and generator.offset == 0.5
    first = generator([torch.zeros(1, 1, 1, 1)] * 5)[0]
    assert_close(
        first.area(), torch.tensor([(32 * 2 ** (j / scales)) ** 2 for j in range(scales) for _ in range(ratios)])
    )


def test_octave_anchors_of_an_image_at_600_pixels(tiny_cfg):
    # 600 x 800 padded to 32: 608 x 800. Cells 76*100 + 38*50 + 19*25 + 10*13 + 5*7 = 10,140; times 9.
    tiny_cfg.MODEL.ANCHOR_GENERATOR.NAME = "OctaveAnchorGenerator"
    generator = build_anchor_generator(tiny_cfg, [ShapeSpec(stride=stride) for stride in STRIDES])
    cells = [(76, 100), (38, 50), (19, 25), (10, 13), (5, 7)]
    assert sum(len(boxes) for boxes in generator([torch.zeros(1, 1, *cell) for cell in cells])) == 91_260
