"""The loss distribution of Figure 4 against a full sort."""

import math

import pytest
import torch

from retina_plugin import ops
from retina_plugin.ops import LossCDF, focal_loss_cdf, negative_terms, positive_terms

GAMMAS = (0.0, 0.5, 1.0, 2.0)


def sorted_curve(losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition: losses sorted, summed up, divided by their sum."""
    running = torch.cat([torch.zeros(1, dtype=torch.float64), losses.double().sort().values.cumsum(0)])
    return torch.linspace(0, 1, len(running), dtype=torch.float64), running / running[-1]


def interpolate(x: float, xs: torch.Tensor, ys: torch.Tensor) -> float:
    i = min(max(int(torch.searchsorted(xs, torch.tensor(x, dtype=torch.float64))), 1), len(xs) - 1)
    return float(ys[i - 1] + (x - xs[i - 1]) / (xs[i] - xs[i - 1]) * (ys[i] - ys[i - 1]))


def cdf_of(x_t, gammas=GAMMAS) -> LossCDF:
    cdf = focal_loss_cdf(gammas)
    cdf.update(torch.as_tensor(x_t))
    return cdf


@pytest.mark.parametrize("gamma", GAMMAS)
def test_curve_at_every_bin_edge_is_that_of_a_full_sort(gamma):
    x_t = 4 * torch.randn(3000) + 1
    examples, loss = cdf_of(x_t).curve(gamma)
    exact_examples, exact_loss = sorted_curve(ops.FocalTerm(gamma=gamma)(x_t.double()))
    assert len(examples) > 500
    at_edges = (examples * len(x_t)).round().long()
    torch.testing.assert_close(exact_examples[at_edges], examples, rtol=0, atol=1e-12)
    torch.testing.assert_close(exact_loss[at_edges], loss, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.2, 0.5, 1.0])
def test_share_of_hardest_is_that_of_a_full_sort(gamma, fraction):
    x_t = torch.cat([torch.randn(5000) + 4, torch.randn(200) - 3])
    exact = 1 - interpolate(1 - fraction, *sorted_curve(ops.FocalTerm(gamma=gamma)(x_t.double())))
    # Straight inside a bin: at most a bin's spread of 5 % of what one bin holds.
    assert cdf_of(x_t).share_of_hardest(gamma, fraction) == pytest.approx(exact, abs=1e-3)


def test_pieces_give_the_curve_of_the_whole():
    x_t = 3 * torch.randn(1000)
    pieces = focal_loss_cdf(GAMMAS)
    for piece in x_t.view(10, 100).split([1, 0, 4, 5]):
        pieces.update(piece)
    assert pieces.num_examples == 1000
    torch.testing.assert_close(pieces.curve(2.0)[1], cdf_of(x_t).curve(2.0)[1], rtol=1e-12, atol=1e-15)
    assert pieces.total(2.0) == pytest.approx(float(ops.FocalTerm(gamma=2.0)(x_t.double()).sum()), rel=1e-12)


def test_chunks_of_a_large_piece_are_all_counted(monkeypatch):
    monkeypatch.setattr("retina_plugin.ops.loss_cdf.CHUNK_ELEMENTS", 7)
    assert cdf_of(torch.zeros(100)).num_examples == 100


def test_alpha_cancels():
    x_t = torch.randn(500)
    plain = cdf_of(x_t, [2.0])
    weighted = LossCDF({"alpha": lambda x: 0.25 * ops.FocalTerm(gamma=2.0)(x)})
    weighted.update(x_t)
    torch.testing.assert_close(weighted.curve("alpha"), plain.curve(2.0), rtol=1e-12, atol=1e-15)


def test_equal_examples_share_equally():
    # All in one bin, each with the same loss: 20 % of them hold 20 %.
    assert cdf_of([1.5] * 10).share_of_hardest(2.0, 0.2) == pytest.approx(0.2)


def test_two_examples_by_hand():
    # CE at x_t = 0 is log 2; at x_t = -log 3, p_t = 1/4, it is log 4, twice as much: the harder half holds 2/3.
    cdf = cdf_of([0.0, -math.log(3)], [0.0])
    examples, loss = cdf.curve(0.0)
    torch.testing.assert_close(examples, torch.tensor([0, 0.5, 1], dtype=torch.float64))
    torch.testing.assert_close(loss, torch.tensor([0, 1 / 3, 1], dtype=torch.float64), rtol=0, atol=1e-7)
    assert cdf.share_of_hardest(0.0, 0.5) == pytest.approx(2 / 3)
    assert cdf.share_of_hardest(0.0, 0.25) == pytest.approx(1 / 3)  # half of one example


def test_one_example_is_everything():
    cdf = cdf_of([-2.0])
    assert cdf.curve(1.0)[1].tolist() == [0, 1]
    assert cdf.share_of_hardest(1.0, 0.2) == pytest.approx(0.2)


def test_no_examples_have_no_share():
    cdf = cdf_of(torch.zeros(0, 3))
    assert [part.tolist() for part in cdf.curve(2.0)] == [[0.0], [0.0]]
    assert (cdf.num_examples, cdf.total(2.0), cdf.share_of_hardest(2.0, 0.2)) == (0, 0.0, None)


def test_logits_beyond_the_bins_keep_their_loss():
    # CE of -50 and -1000 is 50 and 1000 to double precision; that of 1000 is 0.
    cdf = cdf_of([-50.0, -1000.0, 1000.0, 39.99], [0.0])
    assert cdf.total(0.0) == pytest.approx(1050)
    assert cdf.num_examples == 4


def test_losses_that_are_all_zero_are_equal():
    cdf = cdf_of([2000.0, 3000.0])
    assert cdf.total(2.0) == 0
    assert cdf.share_of_hardest(2.0, 0.3) == pytest.approx(0.3)


def test_larger_gamma_concentrates_the_loss():
    cdf = cdf_of(torch.randn(2000) + 3)
    shares = [cdf.share_of_hardest(gamma, 0.2) for gamma in GAMMAS]
    assert shares == sorted(shares) and shares[-1] > shares[0] + 0.1


def test_memory_does_not_grow_with_the_examples():
    cdf = focal_loss_cdf(GAMMAS)
    sizes = []
    for n in (1, 10_000):
        cdf.update(torch.randn(n))
        sizes.append([cdf._counts.numel(), *(sums.numel() for sums in cdf._sums.values())])
    assert sizes[0] == sizes[1] == [5122] * 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logit_that_is_not_finite_is_refused_whole(bad):
    cdf = focal_loss_cdf(GAMMAS)
    with pytest.raises(ValueError, match="x_t must be finite"):
        cdf.update(torch.tensor([0.0, bad]))
    assert cdf.num_examples == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_fraction_outside_is_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\]"):
        cdf_of([0.0]).share_of_hardest(2.0, fraction)


# Anchors: positive of class 1, background, ignored; K = 2.
LOGITS = torch.tensor([[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]])
LABELS = torch.tensor([1, 2, -1])


def test_terms_of_three_anchors_by_hand():
    assert positive_terms(LOGITS, LABELS).tolist() == [2.0]
    assert negative_terms(LOGITS, LABELS).tolist() == [-1.0, -3.0, 4.0]
    assert negative_terms(LOGITS, LABELS, hardest_class_only=True).tolist() == [-3.0]


def test_terms_make_up_the_loss_that_is_trained():
    logits, labels = torch.randn(40, 3), torch.randint(-1, 4, (40,))
    focal = ops.FocalTerm(gamma=2.0)
    trained = ops.dense_classification_loss(logits, labels, focal, alpha=0.25)
    pos, neg = (focal(terms(logits, labels)).sum() for terms in (positive_terms, negative_terms))
    torch.testing.assert_close(0.25 * pos + 0.75 * neg, trained)


@pytest.mark.parametrize("labels", [[-1, -1, -1], []])
def test_no_anchor_that_counts_gives_no_terms(labels):
    labels = torch.tensor(labels, dtype=torch.long)
    logits = LOGITS[: len(labels)]
    assert positive_terms(logits, labels).shape == (0,)
    assert negative_terms(logits, labels).shape == (0,)
    assert negative_terms(logits, labels, hardest_class_only=True).shape == (0,)
