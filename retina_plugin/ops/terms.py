"""The losses of the paper as functions of the signed logit x_t: CE, focal loss and FL* (Sec. 3, appendix A and B).

With ``x_t = logit`` for the labelled class and ``x_t = -logit`` for every other, ``p_t = sigmoid(x_t)`` and a loss is a
function of x_t alone. The values are written in log space, because ``(1 - p_t) ** gamma`` has no finite gradient at
p_t = 1 for gamma < 1, the very values of Table 1b.

The ``background_...`` functions give value and derivative in closed form, sharing one exponential and one logarithm:
what training calls, 10^7 elements at a time. They take ``-x_t``, which is the logit itself for all terms but those of
the labelled classes, so that nothing has to change its sign.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "background_focal",
    "background_focal_star",
    "cross_entropy",
    "focal",
    "focal_star",
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


def background_focal(logits: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """``focal`` at x_t = -logit and its derivative by the logit, in new tensors; gamma 0 is CE. Not for autograd.

    With p = sigmoid(logit) = 1 - p_t the derivative is p^gamma (p - gamma p_t log p_t) (eq. 10, sign turned). It is
    finite for every logit but NaN, and so is the value but for +inf.
    """
    beyond = None
    if logits.numel() and not logits.max() <= MAX_EXPONENT:  # asked first, as clamping costs a pass; NaN stays NaN
        beyond = (logits - MAX_EXPONENT).clamp_(min=0)  # from there on the value grows by just that
        logits = logits.clamp(max=MAX_EXPONENT)
    odds = logits.exp()  # p / p_t
    one_plus_odds = odds + 1
    p_t = one_plus_odds.reciprocal()
    p = odds * p_t  # 1 - p_t without cancellation
    # -log p_t = log1p(odds): as the log of the rounded sum and what rounding took, in 0.7 of torch.log1p's time.
    rounded_off = odds.sub_(one_plus_odds - 1)
    ce = one_plus_odds.log_().addcmul_(rounded_off, p_t)
    if gamma == 0:
        value, slope = ce, p
    else:
        slope = torch.addcmul(p, p_t, ce, value=gamma, out=rounded_off)
        modulator = p if gamma == 1 else p.pow_(gamma)
        value, slope = ce.mul_(modulator), slope.mul_(modulator)
    return value if beyond is None else value.add_(beyond), slope


def background_focal_star(logits: Tensor, gamma: float, beta: float) -> tuple[Tensor, Tensor]:
    """``focal_star`` at x_t = -logit and its derivative by the logit, sigmoid(gamma logit - beta) (eq. 11).

    In new tensors. Not for autograd.
    """
    value, slope = background_focal(gamma * logits - beta, 0.0)
    return value.div_(gamma), slope
