"""The losses of the paper as functions of the signed logit x_t: CE, focal loss and FL* (Sec. 3, appendix A and B).

With ``x_t = logit`` for the labelled class and ``x_t = -logit`` for every other, ``p_t = sigmoid(x_t)`` and a loss is a
function of x_t alone. The values are written in log space, because ``(1 - p_t) ** gamma`` has no finite gradient at
p_t = 1 for gamma < 1, the very values of Table 1b. The ``..._and_derivative`` functions give value and derivative in
closed form, sharing one exponential and one logarithm: what training calls, 10^7 elements at a time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "cross_entropy",
    "cross_entropy_and_derivative",
    "focal",
    "focal_and_derivative",
    "focal_star",
    "focal_star_and_derivative",
]

# exp of it is below the largest float32; and 1 / (1 + exp(it)) is 0 to any precision beside 1.
MAX_EXPONENT = 88.0


def cross_entropy(x_t: Tensor) -> Tensor:
    """-log p_t, elementwise (eq. 1-2)."""
    return -F.logsigmoid(x_t)


def focal(x_t: Tensor, gamma: float) -> Tensor:
    """-(1 - p_t)^gamma log p_t, elementwise, for any gamma >= 0 (eq. 4)."""
    if gamma == 0:  # 0 * inf at an infinite logit
        return cross_entropy(x_t)
    return torch.exp(gamma * F.logsigmoid(-x_t)) * -F.logsigmoid(x_t)


def focal_star(x_t: Tensor, gamma: float, beta: float) -> Tensor:
    """-log sigmoid(gamma x_t + beta) / gamma, elementwise, for gamma > 0 (eq. 7-8)."""
    return -F.logsigmoid(gamma * x_t + beta) / gamma


def cross_entropy_and_derivative(x_t: Tensor) -> tuple[Tensor, Tensor]:
    """``cross_entropy`` and d cross_entropy / d x_t = p_t - 1 (eq. 9)."""
    return focal_and_derivative(x_t, 0.0)


def focal_and_derivative(x_t: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """``focal`` and d focal / d x_t = (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1) (eq. 10). Not for autograd.

    Finite derivatives for every logit but NaN, and values but for -inf.
    """
    odds = (-x_t).clamp_(max=MAX_EXPONENT).exp_()  # (1 - p_t) / p_t
    one_plus_odds = 1 + odds
    p_t = one_plus_odds.reciprocal()
    error = odds * p_t  # 1 - p_t without cancellation
    # -log p_t = log1p(odds): as the log of the rounded sum and what rounding took, in 0.7 of torch.log1p's time.
    rounded_off = odds.sub_(one_plus_odds - 1)
    ce = one_plus_odds.log_().addcmul_(rounded_off, p_t)
    if gamma == 0:
        value, slope = ce, error.neg_()
    else:
        slope = torch.addcmul(error, p_t, ce, value=gamma).neg_()
        modulator = error if gamma == 1 else error.pow_(gamma)
        value, slope = ce.mul_(modulator), slope.mul_(modulator)
    if x_t.numel() and x_t.min() < -MAX_EXPONENT:  # beyond it the value grows by just that, and the slope stays -1
        value += (-MAX_EXPONENT - x_t).clamp_(min=0)
    return value, slope


def focal_star_and_derivative(x_t: Tensor, gamma: float, beta: float) -> tuple[Tensor, Tensor]:
    """``focal_star`` and d focal_star / d x_t = sigmoid(gamma x_t + beta) - 1 (eq. 11). Not for autograd."""
    value, slope = cross_entropy_and_derivative(gamma * x_t + beta)
    return value.div_(gamma), slope
