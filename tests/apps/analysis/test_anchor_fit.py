"""Fitting anchors: ratios and sizes that were put in are found again, and judged on other images."""

import numpy as np
import pytest
import torch

from retina_plugin.apps.analysis.anchor_fit import (
    Objective,
    cluster_ratios,
    fit_octaves,
    fit_sizes,
    gain_with_error,
    split_images,
)
from retina_plugin.apps.analysis.anchor_layout import AnchorLayout

STRIDES = (8, 16, 32)


@pytest.fixture
def layout() -> AnchorLayout:
    empty = AnchorLayout(("p3", "p4", "p5"), STRIDES, (), 0.5, 32, 0, 256)
    return empty.with_octaves(4.0, 3, [0.5, 1.0, 2.0])


def centred_boxes(width: float, height: float) -> tuple[torch.Tensor, torch.Tensor]:
    """64 boxes of one shape in the middle of P3's points of a 256 x 256 image, and the grids of that image."""
    points = torch.cartesian_prod(torch.arange(12, 20), torch.arange(12, 20)).double() * 8 + 4
    half = torch.tensor([width, height], dtype=torch.float64) / 2
    grids = torch.tensor([[32, 32], [16, 16], [8, 8]]).expand(64, 3, 2)
    return torch.cat([points - half, points + half], dim=1), grids


def test_one_anchor_takes_the_shape_of_the_boxes(layout):
    # 20 x 40 px: the side of the square of the same area is sqrt(800) = 28.3 = 3.54 strides of P3, the ratio 2.
    fit = fit_octaves(layout, *centred_boxes(20, 40), max_anchors=1, objective=Objective())
    assert fit.scales == 1 and fit.ratios == (pytest.approx(2, rel=0.02),)
    best, _ = fit.layout(layout).best_anchors(*centred_boxes(20, 40))
    assert best.min() > 0.95


def test_never_more_anchors_than_allowed(layout):
    for most in (1, 2, 5):
        fit = fit_octaves(layout, *centred_boxes(30, 50), max_anchors=most, objective=Objective())
        assert fit.scales * len(fit.ratios) <= most


def test_fit_is_repeatable(layout):
    arguments = (layout, *centred_boxes(13, 50))
    fits = [fit_octaves(*arguments, max_anchors=3, objective=Objective(0.5)) for _ in range(2)]
    assert fits[0] == fits[1]


def test_sizes_by_level_do_not_fall_behind_their_start(layout):
    boxes, grids = centred_boxes(20, 40)
    other, _ = centred_boxes(90, 90)
    boxes, grids = torch.cat([boxes, other]), torch.cat([grids, grids])
    start = fit_octaves(layout, boxes, grids, max_anchors=1, objective=Objective())
    fit = fit_sizes(start, layout, boxes, grids, objective=Objective())
    before, after = (Objective().score(f.layout(layout).best_anchors(boxes, grids)[0]) for f in (start, fit))
    assert after >= before - 1e-3  # sizes are rounded to 0.1 px
    assert [len(level) for level in fit.sizes] == [1, 1, 1]
    for level, stride in zip(fit.sizes, STRIDES, strict=True):
        assert all(stride <= size <= 16 * stride for size in level)


def test_objective_gives_a_lost_box_more_weight_than_a_better_mean():
    # A limit of no box below 0.4: the mean rises from 0.6 to 0.7 at the price of one box in four.
    objective = Objective(None, ((0.4, 0.0),))
    even, uneven = torch.full((4,), 0.6), torch.tensor([0.9, 0.9, 0.9, 0.1])
    assert objective.score(even) == pytest.approx(0.6)
    assert objective.score(uneven) == pytest.approx(0.7 - 10 * 0.25)
    assert Objective().score(uneven) > Objective().score(even)
    assert Objective(0.5).score(uneven) == pytest.approx(0.75)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_clusters_find_the_ratios_that_were_put_in(number):
    ratios = np.array([0.3, 1.0, 3.0][:number])
    samples = np.log(np.repeat(ratios, [10, 30, 60][:number]))
    assert cluster_ratios(samples, number) == pytest.approx(tuple(ratios), rel=0.01)


def test_more_clusters_than_different_ratios():
    assert cluster_ratios(np.zeros(5), 3) == (1.0, 1.0, 1.0)


def test_halves_share_no_image_and_follow_the_seed():
    images = np.repeat([1, 4, 5, 8, 9], 3)
    half = split_images(images, seed=0)
    assert len(np.unique(images[half])) == 3 and len(np.unique(images[~half])) == 2
    assert not set(images[half]) & set(images[~half])
    assert (split_images(images, seed=0) == half).all()
    assert any((split_images(images, seed=seed) != half).any() for seed in range(1, 5))


def test_error_of_the_gain_counts_boxes_of_an_image_as_one():
    # Two images of two equal gains: mean 2, deviations -1 and +1 each; sums -2 and 2: sqrt(8) / 4.
    assert gain_with_error(np.array([1.0, 1, 3, 3]), np.array([7, 7, 9, 9])) == (2, pytest.approx(8**0.5 / 4))
    # As four images: sqrt(4) / 4.
    assert gain_with_error(np.array([1.0, 1, 3, 3]), np.arange(4)) == (2, 0.5)
