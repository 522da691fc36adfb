"""Matching without the matrix of IoU gives what Detectron2's matrix and matcher give, bit for bit."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import Boxes, Instances, pairwise_iou

from benchmarks.memory import peak_bytes
from retina_plugin import FocalRetinaNet, SafeMatcher
from retina_plugin.modeling.anchor_generator import OctaveAnchorGenerator
from retina_plugin.ops import matching as anchor_matching
from retina_plugin.ops.matching import AnchorTiles, best_overlaps

SIZE = 64  # pixels, square image


def matcher_of(allow=True, floor=0.0, thresholds=(0.4, 0.5), labels=(0, -1, 1)):
    return SafeMatcher(thresholds, labels, allow_low_quality_matches=allow, low_quality_min_iou=floor)


def grid_anchors() -> torch.Tensor:
    generator = OctaveAnchorGenerator(
        base_size=4.0, scales_per_octave=3, aspect_ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32], offset=0.0
    )
    return Boxes.cat(generator([torch.zeros(1, 1, SIZE // s, SIZE // s) for s in (8, 16, 32)])).tensor  # (756, 4)


def random_boxes(number: int, seed: int, *, whole=False) -> torch.Tensor:
    """Boxes of 2 to 60 pixels, some of them beyond the border; ``whole`` pixels make ties."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator) * SIZE - 10
    boxes = torch.cat([corner, corner + 2 + 58 * torch.rand(number, 2, generator=generator)], dim=1)
    return (boxes / 8).round() * 8 if whole else boxes


def assert_equals_the_matrix(matcher, boxes, anchors):
    iou = pairwise_iou(Boxes(boxes), Boxes(anchors))
    overlaps, labels = matcher.match_boxes(AnchorTiles(anchors), boxes)
    matches, expected = matcher(iou)
    assert torch.equal(overlaps.box, matches) and overlaps.box.dtype == matches.dtype
    assert torch.equal(labels, expected) and labels.dtype == expected.dtype
    if len(boxes):
        assert torch.equal(overlaps.iou, iou.max(dim=0).values)
        if matcher.allow_low_quality_matches:
            assert torch.equal(overlaps.box_iou, iou.max(dim=1).values)
    return overlaps, labels


@pytest.fixture(params=[(128, 2**18, 1024), (16, 2048, 40), (50, 500, 30)], ids=["shipped", "small", "one_tile"])
def match_pieces(request, monkeypatch):
    """Sizes of the pieces: none of them may change a result."""
    tile, pairs, boxes = request.param
    monkeypatch.setattr(anchor_matching, "TILE", tile)
    monkeypatch.setattr(anchor_matching, "PAIRS_CPU", pairs)
    monkeypatch.setattr(anchor_matching, "BOX_CHUNK", boxes)


@pytest.mark.parametrize("allow, floor", [(True, 0.0), (True, 0.4), (False, 0.0)])
@pytest.mark.parametrize("whole", [True, False], ids=["ties", "no_ties"])
@pytest.mark.parametrize("number", [1, 2, 30, 120])
def test_match_boxes_equals_the_matrix(match_pieces, number, whole, allow, floor):
    boxes = random_boxes(number, seed=number, whole=whole)
    boxes = torch.cat([boxes, boxes[: number // 3]])  # the same box twice: the first of them has the anchors
    _, labels = assert_equals_the_matrix(matcher_of(allow, floor), boxes, grid_anchors())
    assert number < 30 or set(labels.tolist()) == {-1, 0, 1}


def test_match_boxes_equals_detectron2(match_pieces):
    # Detectron2's own matcher, which differs only where a box overlaps no anchor: here each overlaps some.
    anchors, boxes = grid_anchors(), random_boxes(60, seed=1).clamp(0, SIZE)
    iou = pairwise_iou(Boxes(boxes), Boxes(anchors))
    boxes, iou = boxes[iou.max(dim=1).values > 0], iou[iou.max(dim=1).values > 0]
    matches, expected = Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)(iou)
    overlaps, labels = matcher_of().match_boxes(AnchorTiles(anchors), boxes)
    assert len(boxes) > 50 and torch.equal(overlaps.box, matches) and torch.equal(labels, expected)


@pytest.mark.parametrize("allow", [True, False])
def test_match_boxes_of_anchors_in_any_order(match_pieces, allow):
    anchors = random_boxes(500, seed=2, whole=True)
    anchors = torch.cat([anchors, anchors[:100], torch.tensor([[5.0, 5.0, 5.0, 9.0]])])  # ties; one without area
    assert_equals_the_matrix(matcher_of(allow), random_boxes(80, seed=3, whole=True), anchors)


def test_match_boxes_that_overlap_nothing(match_pieces):
    degenerate = [[8.0, 8.0, 8.0, 40.0], [30.0, 30.0, 20.0, 20.0], [0.0, 0.0, 0.0, 0.0]]
    outside = [[900.0, 900.0, 950.0, 950.0], [-300.0, 0.0, -200.0, 50.0]]
    alone = torch.tensor(degenerate + outside)
    overlaps, labels = assert_equals_the_matrix(matcher_of(), alone, grid_anchors())
    assert not labels.any() and not overlaps.best_mask.any()
    assert_equals_the_matrix(matcher_of(), torch.cat([alone, random_boxes(9, seed=4), alone]), grid_anchors())


@pytest.mark.parametrize(
    "box, label", [([0.0, 0.0, 8.0, 8.0], 1), ([0.0, 0.0, 8.0, 3.0], 1), ([9.0, 9.0, 12.0, 12.0], 0)]
)
def test_match_boxes_single_anchor(match_pieces, box, label):
    _, labels = assert_equals_the_matrix(matcher_of(), torch.tensor([box]), torch.tensor([[0.0, 0.0, 8.0, 8.0]]))
    assert labels.tolist() == [label]


@pytest.mark.parametrize("labels", [(0, -1, 1), (-1, 0, 1)])
def test_match_boxes_without_boxes_gives_the_first_label(match_pieces, labels):
    _, found = assert_equals_the_matrix(matcher_of(labels=labels), torch.zeros(0, 4), grid_anchors())
    assert set(found.tolist()) == {labels[0]}


def test_match_boxes_other_thresholds():
    matcher = matcher_of(thresholds=(0.3,), labels=(0, 1))
    assert_equals_the_matrix(matcher, random_boxes(50, seed=5), grid_anchors())


def test_match_boxes_that_are_not_finite():
    inf, nan = float("inf"), float("nan")
    boxes = torch.tensor([[0.0, 0.0, inf, inf], [0.0, 0.0, 40.0, 40.0], [-inf, 0.0, inf, 9.0], [nan, 0.0, 8.0, 8.0]])
    overlaps, labels = assert_equals_the_matrix(matcher_of(), boxes, grid_anchors())
    assert (overlaps.box[labels == 1] == 1).all() and (labels == 1).any()


def test_best_overlaps_memory_is_far_below_the_matrix():
    tiles, boxes = AnchorTiles(grid_anchors().repeat(32, 1)), random_boxes(2000, seed=6)
    matrix = 4 * tiles.num_anchors * len(boxes)  # bytes, 194 MB
    assert peak_bytes(lambda: best_overlaps(tiles, boxes, min_iou=0.0)) < matrix / 8


@pytest.mark.parametrize("ours", [True, False], ids=["SafeMatcher", "Matcher"])
def test_label_anchors_equals_detectron2(make_batch, tiny_cfg, ours):
    model = build_model(tiny_cfg)
    assert isinstance(model, FocalRetinaNet)
    if not ours:
        model.anchor_matcher = Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)
    truths = [image["instances"] for image in make_batch((64, 96, 4), (64, 96, 0), (64, 96, 1))]
    truths.append(Instances((64, 96), gt_boxes=Boxes(random_boxes(40, seed=7)), gt_classes=torch.arange(40) % 3))
    anchors = model.anchor_generator([torch.zeros(1, 1, 64 // s, 96 // s) for s in model.anchor_generator.strides])
    labels, boxes = model.label_anchors(anchors, truths)
    expected_labels, expected_boxes = RetinaNet.label_anchors(model, anchors, truths)
    for found, expected in zip([*labels, *boxes], [*expected_labels, *expected_boxes], strict=True):
        assert found.dtype == expected.dtype and torch.equal(found, expected)
    assert ((labels[0] >= 0) & (labels[0] < model.num_classes)).any() and (labels[1] == model.num_classes).all()
