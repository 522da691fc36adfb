"""CE, focal loss and FL*: paper Sec. 3, appendix A and B, and what they do at the ends of the number range."""

import math

import pytest
import torch
from fvcore.nn import sigmoid_focal_loss
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from retina_plugin import ClassificationLoss, CrossEntropyLoss, FocalLoss, FocalLossStar, ops
from retina_plugin.ops import dense_loss

GAMMAS = [0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0]
ALPHAS = [None, 0.0, 0.25, 1.0]
LARGEST = {torch.float32: 3e38, torch.float16: 65504.0, torch.bfloat16: 3e38}
PRIOR_LOGIT = -math.log(99)  # sigmoid of it is 0.01


def value_and_grad(loss, logits, labels):
    logits = logits.detach().requires_grad_()
    value = loss(logits, labels)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def one(loss, logit, is_pos, dtype=torch.float64):
    """Value and gradient of one term, K = 1."""
    value, grad = value_and_grad(loss, torch.tensor([[logit]], dtype=dtype), torch.tensor([0 if is_pos else 1]))
    return value, grad[0, 0]


def random_case(anchors=50, classes=4, scale=3.0, dtype=torch.float64):
    """Logits and labels with positives of every class, background and ignored anchors."""
    logits = (scale * torch.randn(anchors, classes)).to(dtype)
    labels = torch.randint(-1, classes + 1, (anchors,))
    assert set(labels.tolist()) == set(range(-1, classes + 1))
    return logits, labels


# --- Values ---

LOSSES = {
    "CE": CrossEntropyLoss(alpha=None),
    "FL": FocalLoss(gamma=2.0, alpha=None),
    "alphaFL": FocalLoss(gamma=2.0, alpha=0.25),
    "FL*(2,1)": FocalLossStar(gamma=2.0, beta=1.0, alpha=None),
    "FL*(4,0)": FocalLossStar(gamma=4.0, beta=0.0, alpha=None),
}
# Eq. 1, 4, 5, 8 and 9-11 in double precision: x, is positive, CE, FL, dFL, alpha FL, d, FL*(2,1), d, FL*(4,0), d.
GOLDEN = [
    (PRIOR_LOGIT, True, 4.6051702, 4.5135273, -1.0605695, 1.1283818, -0.26514239,
     4.0952585, -0.99972273, 4.5951199, -0.99999999),
    (PRIOR_LOGIT, False, 0.010050336, 1.0050336e-06, 2.9899665e-06, 7.5377519e-07, 2.2424749e-06,
     1.8767092e-05, 3.753348e-05, 2.6025509e-09, 1.0410203e-08),
    (-2.0, True, 2.126928, 1.6500782, -1.0767137, 0.41251954, -0.26917843,
     1.5242937, -0.95257413, 2.0000839, -0.99966465),
    (-2.0, False, 0.12692801, 0.0018035628, 0.0048709402, 0.0013526721, 0.0036532051,
     0.0033576742, 0.0066928509, 8.3851593e-05, 0.00033535013),
    (0.0, True, 0.69314718, 0.1732868, -0.2982868, 0.043321699, -0.074571699,
     0.15663084, -0.26894142, 0.1732868, -0.5),
    (0.0, False, 0.69314718, 0.1732868, 0.2982868, 0.1299651, 0.2237151,
     0.15663084, 0.26894142, 0.1732868, 0.5),
    (2.0, True, 0.12692801, 0.0018035628, -0.0048709402, 0.00045089071, -0.001217735,
     0.0033576742, -0.0066928509, 8.3851593e-05, -0.00033535013),
    (2.0, False, 2.126928, 1.6500782, 1.0767137, 1.2375586, 0.8075353,
     1.5242937, 0.95257413, 2.0000839, 0.99966465),
    (20.0, True, 2.0611536e-09, 8.7565107e-27, -2.6269532e-26, 2.1891277e-27, -6.567383e-27,
     7.8144109e-19, -1.5628822e-18, 4.5121285e-36, -1.8048514e-35),
    (20.0, False, 20.0, 20.0, 1.0000001, 15.0, 0.75000006, 19.5, 1.0, 20.0, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"x={row[0]:.3g},{'pos' if row[1] else 'neg'}")
def test_losses_golden_values(row):
    x, is_pos, ce, fl, d_fl, alpha_fl, d_alpha_fl, star_21, d_star_21, star_40, d_star_40 = row
    d_ce = (1 if not is_pos else -1) / (1 + math.exp(x if is_pos else -x))  # eq. 9: y (p_t - 1)
    expected = [(ce, d_ce), (fl, d_fl), (alpha_fl, d_alpha_fl), (star_21, d_star_21), (star_40, d_star_40)]
    for loss, (value, grad) in zip(LOSSES.values(), expected, strict=True):
        # Eight digits are printed above; FL* (2, 1) at 20 is exp(-41) / 2, below any absolute tolerance.
        assert_close(one(loss, x, is_pos), (_double(value), _double(grad)), rtol=1e-7, atol=0)


def _double(number):
    return torch.tensor(number, dtype=torch.float64)


def test_focal_loss_well_classified_is_100_times_below_ce():
    # p_t = 0.9, gamma = 2: (1 - 0.9)^2 = 0.01. p_t = 0.968: 0.032^2 = 1 / 976.56 (paper Sec. 3.2: about 1000).
    for p_t, factor in ((0.9, 0.01), (0.968, 0.032**2)):
        x = math.log(p_t / (1 - p_t))
        assert_close(one(LOSSES["FL"], x, True)[0], factor * one(LOSSES["CE"], x, True)[0], rtol=1e-12, atol=0)


def test_focal_loss_steepest_gradient_is_beyond_one():
    # Fig. 6: dFL/dx_t of gamma = 2 has its extreme, -1.1290, at x_t = -2.790.
    x = torch.linspace(-6, 2, 8001, dtype=torch.float64)
    grad = -ops.FocalTerm(gamma=2.0).with_slope(-x)[1]
    assert_close(grad.min(), _double(-1.1290), rtol=0, atol=5e-5)
    assert_close(x[grad.argmin()], _double(-2.790), rtol=0, atol=2e-3)


@pytest.mark.parametrize("num_pos", [0, 10])
def test_focal_loss_initial_sum_with_and_without_prior(num_pos):
    # One 600 x 800 image: 91,260 anchors x 80 classes. With p = 0.01 everywhere a negative costs 7.5377519e-07 and a
    # positive 1.1283818: 5.503 for the negatives. With p = 0.5 it is 0.1299651 and 0.043321699: 949,000.
    num_neg = 91_260 * 80 - num_pos
    labels = torch.full((91_260,), 80)
    labels[:num_pos] = 7
    with_prior = LOSSES["alphaFL"](torch.full((91_260, 80), PRIOR_LOGIT), labels)
    without = LOSSES["alphaFL"](torch.zeros(91_260, 80), labels)
    # fp32 logits: exp(-2 * 4.6) carries a few ulp of 1.2e-7.
    assert_close(with_prior.item(), num_neg * 7.5377519e-07 + num_pos * 1.1283818, rtol=2e-6, atol=0)
    assert_close(without.item(), num_neg * 0.1299651 + num_pos * 0.043321699, rtol=1e-6, atol=0)


# --- Laws ---


TERMS = [ops.FocalTerm(gamma=gamma) for gamma in GAMMAS[:-1]]
TERMS += [ops.FocalTerm(scale=scale, shift=shift) for scale, shift in ((2.0, 1.0), (4.0, 0.0), (0.5, -3.0))]
TERMS += [ops.FocalTerm(gamma=2.0, scale=3.0, shift=-1.0)]


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_term_with_slope_equals_the_formula_and_autograd(term):
    x = torch.linspace(-12, 12, 97, dtype=torch.float64, requires_grad=True)
    expected = term(x)
    (autograd,) = torch.autograd.grad(expected.sum(), x)
    value, slope = term.with_slope(-x.detach())
    assert_close(value, expected.detach(), rtol=1e-12, atol=1e-14)
    assert_close(-slope, autograd, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize(
    "make",
    [
        lambda alpha: CrossEntropyLoss(alpha=alpha),
        lambda alpha: FocalLoss(gamma=0.5, alpha=alpha),
        lambda alpha: FocalLoss(gamma=2.0, alpha=alpha),
        lambda alpha: FocalLossStar(gamma=2.0, beta=1.0, alpha=alpha),
    ],
    ids=["CE", "FL0.5", "FL2", "FL*"],
)
def test_losses_gradcheck(make, alpha):
    logits, labels = random_case(anchors=12, classes=2)
    assert torch.autograd.gradcheck(lambda x: make(alpha)(x, labels), logits.requires_grad_())


def test_focal_gamma_zero_and_focal_star_one_zero_equal_cross_entropy():
    logits, labels = random_case()
    expected = value_and_grad(CrossEntropyLoss(alpha=0.25), logits, labels)
    assert_close(value_and_grad(FocalLoss(gamma=0.0, alpha=0.25), logits, labels), expected, rtol=0, atol=0)
    assert_close(value_and_grad(FocalLossStar(gamma=1.0, beta=0.0, alpha=0.25), logits, labels), expected)


def test_focal_loss_permutes_with_anchors_and_classes():
    logits, labels = random_case(anchors=40, classes=4)
    value, grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    rows, columns = torch.randperm(40), torch.randperm(4)
    new_class = torch.cat([columns.argsort(), torch.tensor([4, -1])])  # K stays K, -1 stays -1
    permuted = value_and_grad(LOSSES["alphaFL"], logits[rows][:, columns], new_class[labels[rows]])
    assert_close(permuted, (value, grad[rows][:, columns]), rtol=1e-12, atol=0)


def test_focal_loss_sums_over_anchors_and_images():
    logits, labels = random_case(anchors=40, classes=4)
    value, grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    batched = value_and_grad(LOSSES["alphaFL"], logits.view(2, 20, 4), labels.view(2, 20))
    assert_close(batched, (value, grad.view(2, 20, 4)), rtol=0, atol=0)
    strided = value_and_grad(LOSSES["alphaFL"], logits.t().contiguous().t(), labels)
    assert_close(strided, (value, grad), rtol=0, atol=0)
    per_anchor = ops.anchor_losses(logits.requires_grad_(), labels, LOSSES["alphaFL"].term, alpha=0.25)
    assert per_anchor.shape == labels.shape and not per_anchor.requires_grad
    assert torch.equal(per_anchor == 0, labels == -1)
    assert_close(per_anchor.sum(), value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("chunk", [1, 7, 12, 2**20])
def test_focal_loss_does_not_depend_on_chunks(monkeypatch, chunk):
    logits, labels = random_case(anchors=31, classes=4)
    term = LOSSES["alphaFL"].term
    monkeypatch.setattr(dense_loss, "CHUNK_ELEMENTS", 31 * 4)
    value, grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    per_anchor = ops.anchor_losses(logits, labels, term, alpha=0.25)
    monkeypatch.setattr(dense_loss, "CHUNK_ELEMENTS", chunk)
    chunked_value, chunked_grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    # Not bit for bit: the vectorised exp of a full register and of its remainder differ in the last place.
    assert_close((chunked_value, chunked_grad), (value, grad), rtol=1e-13, atol=0)
    assert_close(ops.anchor_losses(logits, labels, term, alpha=0.25), per_anchor, rtol=1e-13, atol=0)


def test_focal_loss_backward_scales_and_repeats():
    logits, labels = random_case()
    _, grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    logits.requires_grad_()
    loss = 3 * LOSSES["alphaFL"](logits, labels)
    for _ in range(2):
        assert_close(torch.autograd.grad(loss, logits, retain_graph=True)[0], 3 * grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_focal_loss_over_a_divisor(dtype):
    logits, labels = random_case(dtype=dtype)
    divisor = torch.tensor(7.0)
    value, grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    divided, divided_grad = value_and_grad(lambda *case: 3 * LOSSES["alphaFL"](*case, divisor), logits, labels)
    assert_close(divided, 3 * value / 7)
    # A gradient of up to 1 is rounded when it is divided and when it is scaled: 2^-8 in bf16.
    assert_close(divided_grad.double(), 3 * grad.double() / 7, rtol=2.1 * torch.finfo(dtype).eps, atol=1e-7)


def test_term_with_slope_equals_the_formula_at_any_size_and_scale():
    # Numbers of elements around the registers' sizes, logits from 1e-3 to 1e4, gammas with and without a special power.
    for case in range(60):
        x = torch.randn(1 + case * 7 % 41, dtype=torch.float64) * 10.0 ** (case % 8 - 3)
        term = ops.FocalTerm(gamma=(0.0, 0.3, 0.5, 1.0, 2.0, 3.7)[case % 6])
        held = x.float()
        value, slope = term.with_slope(held)
        exact = held.double().requires_grad_()
        expected = term(-exact)
        (expected_slope,) = torch.autograd.grad(expected.sum(), exact)
        # fp32 of e^x carries up to |x| <= 88 ulp of 6e-8, times 1 + gamma.
        assert_close(value.double(), expected.detach(), rtol=2.5e-5, atol=1e-37)
        assert_close(slope.double(), expected_slope, rtol=2.5e-5, atol=1e-37)


def test_focal_loss_refuses_a_second_derivative():
    logits, labels = random_case()
    loss = LOSSES["FL"](logits.requires_grad_(), labels) ** 2
    (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


class PlainFocalLoss(ClassificationLoss):
    """Eq. 4 word for word, without a derivative."""

    def value(self, x_t):
        p_t = torch.sigmoid(x_t)
        return -((1 - p_t) ** 2) * torch.log(p_t)


def test_default_derivative_equals_closed_form():
    logits, labels = random_case()
    assert_close(
        value_and_grad(PlainFocalLoss(alpha=0.25), logits, labels),
        value_and_grad(LOSSES["alphaFL"], logits, labels),
        rtol=1e-10,
        atol=1e-14,
    )
    with torch.no_grad():  # no graph is asked for, and none is needed
        assert_close(PlainFocalLoss(alpha=0.25)(logits, labels), LOSSES["alphaFL"](logits, labels))
    assert not logits.requires_grad


def test_a_term_of_ones_own_may_bring_its_closed_form():
    class Squared:
        def __call__(self, x_t):
            return x_t**2

        def with_slope(self, logits):
            return logits**2, 20 * logits  # ten times too steep, to be recognised

    logits, labels = torch.tensor([[3.0, -1.0]], requires_grad=True), torch.tensor([0])
    loss = ops.dense_classification_loss(logits, labels, Squared(), alpha=None)
    loss.backward()
    assert loss.item() == 10
    assert_close(logits.grad, torch.tensor([[60.0, -20.0]]))


def test_new_value_in_a_subclass_leaves_the_inherited_derivative_behind():
    class Doubled(FocalLoss):
        def value(self, x_t):
            return 2 * super().value(x_t)

    logits, labels = random_case()
    value, grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    assert_close(value_and_grad(Doubled(gamma=2.0, alpha=0.25), logits, labels), (2 * value, 2 * grad))


def test_a_subclass_without_its_own_value_keeps_the_closed_form(monkeypatch):
    class Renamed(FocalLoss):
        pass

    logits, labels = random_case()
    monkeypatch.setattr(ops.FocalTerm, "__call__", None)
    assert value_and_grad(Renamed(gamma=2.0, alpha=0.25), logits, labels)[0] > 0


def test_gamma_may_be_scheduled():
    logits, labels = random_case()
    loss = FocalLoss(gamma=2.0, alpha=0.25)
    loss.gamma = 0.5
    assert_close(loss(logits, labels), FocalLoss(gamma=0.5, alpha=0.25)(logits, labels), rtol=0, atol=0)


def test_loss_without_value_is_refused():
    class Incomplete(ClassificationLoss):
        pass

    with pytest.raises(NotImplementedError, match=r"Incomplete must define value\(x_t\)"):
        Incomplete(alpha=None)(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))


# --- Parity ---


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_focal_loss_equals_fvcore(gamma, alpha):
    logits, labels = random_case(anchors=200, classes=5, dtype=torch.float32)
    valid_mask = labels >= 0
    targets = torch.nn.functional.one_hot(labels[valid_mask], 6)[:, :-1].float()

    def fvcore(logits, labels):
        # fvcore says "no balancing" with a negative alpha.
        alpha_or_negative = -1 if alpha is None else alpha
        return sigmoid_focal_loss(logits[valid_mask], targets, alpha=alpha_or_negative, gamma=gamma, reduction="sum")

    value, grad = value_and_grad(FocalLoss(gamma=gamma, alpha=alpha), logits, labels)
    fvcore_value, fvcore_grad = value_and_grad(fvcore, logits, labels)
    assert_close(value, fvcore_value, rtol=1e-6, atol=0)
    # fvcore's fp32 p_t carries 6e-8, to the power of gamma.
    assert_close(grad, fvcore_grad, rtol=1e-6, atol=1e-6 * max(gamma, 1))


@pytest.mark.parametrize("gamma", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("logit", [20.0, 40.0, 104.0])
def test_focal_loss_gradient_is_finite_where_fvcore_has_none(gamma, logit):
    # Why the loss is not fvcore's: d (1 - p_t)^gamma is infinite at p_t = 1, which fp32 reaches at x_t = 17. These are
    # the gammas of Table 1b. If fvcore fixes it, this half fails and the reason in ops/terms.py is gone.
    x = torch.tensor([[logit]], requires_grad=True)
    sigmoid_focal_loss(x, torch.ones(1, 1), alpha=-1, gamma=gamma, reduction="sum").backward()
    assert x.grad.isnan().all()
    value, grad = one(FocalLoss(gamma=gamma, alpha=None), logit, True, torch.float32)
    # p_t -> 1: FL -> exp(-(1 + gamma) x) and its derivative -(1 + gamma) exp(-(1 + gamma) x).
    expected = math.exp(-(1 + gamma) * logit)
    assert_close((value.item(), grad.item()), (expected, -(1 + gamma) * expected), rtol=1e-4, atol=1e-38)


# --- Edges: saturated logits, half precision, nothing to sum ---


def softplus_form(x_t, gamma):
    """FL as exp(-gamma * softplus(x_t)) * softplus(-x_t), in plain double arithmetic."""

    def softplus(z):
        return max(z, 0.0) + math.log1p(math.exp(-abs(z)))

    return math.exp(-gamma * softplus(x_t)) * softplus(-x_t)


@pytest.mark.parametrize("dtype", LARGEST, ids=str)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_finite_at_any_logit(gamma, alpha, dtype):
    loss = FocalLoss(gamma=gamma, alpha=alpha)
    for logit in (0.0, 20.0, -20.0, 104.0, -104.0, 1e4, -1e4, LARGEST[dtype], -LARGEST[dtype]):
        for is_pos in (True, False):
            value, grad = one(loss, logit, is_pos, dtype)
            assert value.dtype == torch.float32 and grad.dtype == dtype
            assert grad.isfinite(), (logit, is_pos)
            logit_held = torch.tensor(logit, dtype=dtype).item()
            weight = 1.0 if alpha is None else alpha if is_pos else 1 - alpha
            expected = weight * softplus_form(logit_held if is_pos else -logit_held, gamma)
            # At x_t = 0 with gamma = 100 the exponent is 69 in fp32: 69 * 6e-8 relative. Below 1e-38: no fp32 normal.
            assert_close(value.item(), expected, rtol=2e-5, atol=1e-38)


@pytest.mark.parametrize("make", [lambda: LOSSES["CE"], lambda: LOSSES["FL*(2,1)"], lambda: LOSSES["FL*(4,0)"]])
@pytest.mark.parametrize("dtype", LARGEST, ids=str)
def test_other_losses_finite_at_saturated_logits(make, dtype):
    for logit in (104.0, -104.0, 1e4, -1e4, 65504.0, -65504.0):
        for is_pos in (True, False):
            value, grad = one(make(), logit, is_pos, dtype)
            wrong_side = (logit < 0) == is_pos
            assert value.isfinite() and (value > 50) == wrong_side
            # Tends to y (0 - 1) on the wrong side and to 0 on the right one.
            assert_close(grad.item(), (-1.0 if is_pos else 1.0) * wrong_side, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_infinite_logit_on_the_right_side_costs_nothing(gamma):
    for logit, is_pos in ((math.inf, True), (-math.inf, False)):
        value, grad = one(FocalLoss(gamma=gamma, alpha=0.25), logit, is_pos, torch.float32)
        assert value == 0 and grad == 0


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_loss_infinite_logit_on_the_wrong_side_has_a_finite_gradient(gamma):
    for logit, is_pos, expected in ((-math.inf, True, -0.25), (math.inf, False, 0.75)):
        value, grad = one(FocalLoss(gamma=gamma, alpha=0.25), logit, is_pos, torch.float32)
        assert value == math.inf
        # 1 - p_t is 1 to rounding, and so is its power.
        assert_close(grad, torch.tensor(expected), rtol=(1 + gamma) * 2**-23, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_focal_loss_half_logits_are_summed_in_fp32(dtype):
    logits, labels = random_case(dtype=dtype)
    value, grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    value_fp32, grad_fp32 = value_and_grad(LOSSES["alphaFL"], logits.float(), labels)
    assert torch.equal(value, value_fp32)
    assert torch.equal(grad, grad_fp32.to(dtype))


@pytest.mark.parametrize("normalizer", [1, 100])
def test_focal_loss_fp16_gradient_survives_the_loss_scale(normalizer):
    # The scale of AMP, 65536, is beyond fp16, and the unscaled gradient of a negative, 2e-6 / 100, is below it; their
    # product is 1.5e-3.
    logits = torch.full((4, 3), PRIOR_LOGIT, dtype=torch.float16)
    labels = torch.tensor([3, 0, -1, 3])

    def scaled(logits, labels):
        return LOSSES["alphaFL"](logits, labels) / normalizer * 65536

    _, grad = value_and_grad(scaled, logits, labels)
    _, expected = value_and_grad(scaled, logits.float(), labels)
    assert 0 < expected[0].min() < 0.2 / normalizer
    assert_close(grad.float(), expected, rtol=1e-3, atol=0)


def test_focal_loss_large_sums_keep_fp32_precision():
    # 2^24 + 1 is the first integer that an fp32 sum of ones cannot reach.
    logits = torch.zeros(2**19, 33)
    value = CrossEntropyLoss(alpha=None)(logits, torch.full((2**19,), 33))
    assert_close(value.item(), 2**19 * 33 * math.log(2), rtol=1e-7, atol=0)


@pytest.mark.parametrize("labels", [[], [-1, -1, -1]], ids=["no anchors", "all ignored"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_of_nothing_are_zero_with_a_graph(loss, labels):
    logits = torch.randn(len(labels), 4, requires_grad=True)
    value = loss(logits, torch.tensor(labels, dtype=torch.long))
    assert value.item() == 0 and value.shape == ()
    value.backward()
    assert torch.equal(logits.grad, torch.zeros(len(labels), 4))


def test_focal_loss_ignored_anchors_contribute_nothing():
    logits, labels = random_case()
    ignored = labels < 0
    assert 0 < ignored.sum() < len(labels)
    value, grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    logits[ignored] = math.nan
    nan_value, nan_grad = value_and_grad(LOSSES["alphaFL"], logits, labels)
    assert_close(nan_value, value, rtol=0, atol=0)
    assert torch.equal(nan_grad, grad)
    assert (grad[ignored] == 0).all() and (grad[~ignored] != 0).all()


def test_focal_loss_label_types():
    logits, labels = random_case()
    expected = value_and_grad(LOSSES["alphaFL"], logits, labels)
    for dtype in (torch.int32, torch.int16, torch.int8):
        assert_close(value_and_grad(LOSSES["alphaFL"], logits, labels.to(dtype)), expected, rtol=0, atol=0)


def test_focal_loss_leaves_its_arguments_alone():
    logits, labels = random_case()
    before = logits.clone(), labels.clone()
    value_and_grad(LOSSES["alphaFL"], logits, labels)
    assert torch.equal(logits, before[0]) and torch.equal(labels, before[1])


class LargeTensors(TorchDispatchMode):
    """Notes the types of all freshly allocated tensors of at least ``numel`` elements."""

    def __init__(self, numel):
        super().__init__()
        self.numel = numel
        self.storages = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() >= self.numel:
            self.storages[out.untyped_storage().data_ptr()] = out.dtype
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_focal_loss_allocates_the_gradient_and_nothing_else_of_its_size(monkeypatch, dtype):
    # A one-hot target is eight bytes an element; 16 images of 200,000 anchors and 80 classes make that 2 GB.
    monkeypatch.setattr(dense_loss, "CHUNK_ELEMENTS", 64)
    logits = torch.randn(100, 8).to(dtype).requires_grad_()
    labels = torch.randint(-1, 9, (100,))
    with LargeTensors(800) as large:
        LOSSES["alphaFL"](logits, labels).backward()
    large.storages.pop(logits.untyped_storage().data_ptr(), None)  # views of the argument
    assert large.storages == {logits.grad.untyped_storage().data_ptr(): dtype}
