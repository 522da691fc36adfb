"""Fuzzing targets that compute. The law of each is agreement with another way to compute it."""

import math
from types import SimpleNamespace

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from fuzzing import Target
from hypothesis import strategies as st

from retina_plugin.modeling.anchor_generator import OctaveAnchorGenerator
from retina_plugin.modeling.losses import CrossEntropyLoss, FocalLoss, FocalLossStar
from retina_plugin.modeling.matcher import SafeMatcher
from retina_plugin.modeling.meta_arch import FocalRetinaNet
from retina_plugin.ops.matching import AnchorTiles

# 1e37: FL*'s steepness of up to 8 times it is still a number of fp32.
LOGITS = st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, 1e-30, 88.0, -88.0, 104.0, -104.0, 1e37, -1e37])
ROWS = st.lists(st.tuples(LOGITS, LOGITS, st.integers(-1, 2)), max_size=12)


def compute_losses() -> Target:
    """Losses and gradients: finite, and those of the elementwise definition in float64."""
    alphas = st.none() | st.floats(0, 1)
    losses = st.one_of(
        st.builds(FocalLoss, gamma=st.floats(0, 8), alpha=alphas),
        st.builds(FocalLossStar, gamma=st.floats(0.125, 8), beta=st.floats(-4, 4), alpha=alphas),
        st.builds(CrossEntropyLoss, alpha=alphas),
    )

    def law(case) -> None:
        loss, rows = case
        logits = torch.tensor([row[:2] for row in rows]).reshape(-1, 2).requires_grad_()
        labels = torch.tensor([row[2] for row in rows], dtype=torch.long)
        found = loss(logits, labels)
        found.backward()
        exact = logits.detach().double().requires_grad_()
        is_positive = labels[:, None] == torch.arange(2)
        x_t = torch.where(is_positive, exact, -exact)
        alpha = loss.alpha
        weight = torch.ones(x_t.shape) if alpha is None else torch.where(is_positive, alpha, 1 - alpha)
        expected = (weight * loss.value(x_t))[labels >= 0].sum()
        if not math.isfinite(expected.item()) or expected > 1e38:  # a sum of logits of 1e37
            return
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-30)
        assert torch.isfinite(logits.grad).all() and found >= 0
        assert (logits.grad[labels < 0] == 0).all()

    return Target(st.tuples(losses, ROWS), lambda folder: law)


def make_anchors() -> Target:
    """Number, centres and areas of the anchors of a feature map."""
    ratios = st.lists(st.floats(0.05, 20), min_size=1, max_size=4)
    cases = st.tuples(
        st.floats(0.1, 16), st.integers(1, 5), ratios, st.sampled_from([4, 8, 16, 32]), st.integers(1, 6),
        # Nearer to 1 than fp32 has numbers, the end of Detectron2's grid is a matter of rounding.
        st.integers(1, 6), st.floats(0, 1, exclude_max=True, width=32),
    )  # fmt: skip

    def law(case) -> None:
        base_size, scales, aspect_ratios, stride, height, width, offset = case
        generator = OctaveAnchorGenerator(
            base_size=base_size, scales_per_octave=scales, aspect_ratios=[aspect_ratios], strides=[stride],
            offset=offset,
        )  # fmt: skip
        boxes = generator([torch.zeros(1, 1, height, width)])[0].tensor.double()
        boxes = boxes.reshape(height, width, scales, len(aspect_ratios), 4)
        sides = boxes[..., 2:] - boxes[..., :2]
        expected = [stride * base_size * 2 ** (j / scales) for j in range(scales)]
        areas = torch.tensor(expected).double()[:, None].square().expand(scales, len(aspect_ratios))
        torch.testing.assert_close(sides.prod(-1)[0, 0], areas, rtol=1e-4, atol=0.0)
        ratio = torch.tensor(aspect_ratios).double().expand(scales, -1)
        torch.testing.assert_close(sides[0, 0, ..., 1] / sides[0, 0, ..., 0], ratio, rtol=1e-3, atol=0.0)
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        x = (torch.arange(width).double() + offset) * stride
        torch.testing.assert_close(centres[0, :, 0, 0, 0], x, rtol=1e-5, atol=1e-3)

    return Target(cases, lambda folder: law)


CORNERS = st.floats(-50, 300, width=32) | st.integers(-8, 40).map(lambda i: 8.0 * i)
BOXES = st.lists(st.tuples(CORNERS, CORNERS, CORNERS, CORNERS), max_size=6)


def label_anchors() -> Target:
    """Labels: Detectron2's, but that no overlap makes no positive."""
    generator = OctaveAnchorGenerator(
        base_size=4.0, scales_per_octave=2, aspect_ratios=[[0.5, 1.0, 2.0]], strides=[16], offset=0.0
    )
    anchors = generator([torch.zeros(1, 1, 7, 9)])[0].tensor
    tiles = AnchorTiles(anchors)

    def law(case) -> None:
        rows, allow, in_order = case
        boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
        if in_order:
            boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)
        ours = SafeMatcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=allow, low_quality_min_iou=0.0)
        overlaps, labels = ours.match_boxes(tiles, boxes)
        iou = pairwise_iou(Boxes(boxes), Boxes(anchors))
        assert (labels[overlaps.iou == 0] == 0).all()
        if not len(boxes) or not in_order:
            assert torch.isin(labels, torch.tensor([0, -1, 1])).all()
            return
        matches, expected = Matcher([0.4, 0.5], [0, -1, 1], allow)(iou)
        reached = iou.max(0).values > 0
        if (iou.max(1).values > 0).all():  # else Detectron2 takes every anchor for the best of a box that has none
            assert torch.equal(labels, expected)
        assert torch.equal(overlaps.box[reached], matches[reached])

    return Target(st.tuples(BOXES, st.booleans(), st.booleans()), lambda folder: law)


def decode_boxes() -> Target:
    """Candidates of a level: those of every pair of anchor and class, sorted, without the padding."""
    number = st.floats(-30, 30, width=32)
    rows = st.lists(st.tuples(number, number, *[st.floats(-9, 9, width=32)] * 4), min_size=1, max_size=12)
    cases = st.tuples(rows, st.floats(0, 1), st.integers(1, 20), st.integers(1, 64), st.integers(1, 64))

    def law(case) -> None:
        values, thresh, topk, height, width = case
        count = len(values)
        logits, deltas = torch.tensor(values)[:, :2], torch.tensor(values)[:, 2:]
        corners = torch.arange(count, dtype=torch.float32)[:, None] * 5 + torch.tensor([0.0, 3.0, 9.0, 17.0])
        anchors, transform = Boxes(corners), Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        found = FocalRetinaNet._decode_per_level_predictions(
            SimpleNamespace(box2box_transform=transform), anchors, logits, deltas, thresh, topk, (height, width)
        )
        centres = anchors.get_centers()
        inside = (centres[:, 0] < width) & (centres[:, 1] < height)
        scores = torch.where(inside[:, None], logits.sigmoid(), -1.0)
        if ((scores - thresh).abs() <= 1e-6 * thresh).any():
            return  # a sigmoid's last digit depends on its place in the tensor
        expected = scores[scores > thresh].sort(descending=True).values[:topk]
        torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=1e-38)
        boxes = transform.apply_deltas(deltas, corners)
        for box, score, k in zip(found.pred_boxes.tensor, found.scores, found.pred_classes, strict=True):
            hits = (boxes == box).all(1) & torch.isclose(scores[:, k], score, rtol=1e-6, atol=1e-38)
            assert hits.any() and torch.isfinite(box).all()

    return Target(cases, lambda folder: law)
