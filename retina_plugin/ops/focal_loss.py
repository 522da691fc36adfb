"""The losses of the paper on logits and integer labels: CE, focal loss and FL* (Sec. 3, appendix A and B).

Shapes: logits (..., K), labels (...), K foreground classes. A label in [0, K) is a positive of that class, K is
background, anything negative is ignored. Each of the K outputs of an anchor is one binary term (Sec. 4), so with
``x_t = logit`` for the labelled class and ``x_t = -logit`` for every other, a loss is a function of x_t alone:
``p_t = sigmoid(x_t)``. All of them are written in log space, because ``(1 - p_t) ** gamma`` has no finite gradient
at p_t = 1 for gamma < 1, the very values of Table 1b.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "anchor_losses",
    "cross_entropy",
    "cross_entropy_derivative",
    "dense_classification_loss",
    "focal",
    "focal_derivative",
    "focal_star",
    "focal_star_derivative",
    "term_weights",
]

Elementwise = Callable[[Tensor], Tensor]

# Elements of logits handled at a time: 2^20 floats are 4 MB, so that the temporaries of a chunk stay in the cache
# and the gradient is all that the loss allocates of the logits' size, however many anchors there are.
CHUNK_ELEMENTS = 2**20
# Beyond it sigmoid is 0 or 1 to double precision; keeps 0 * inf out of p_t * log(p_t).
MAX_ABS_LOGIT = 1e4


def cross_entropy(x_t: Tensor) -> Tensor:
    """-log p_t, elementwise (eq. 1-2)."""
    return -F.logsigmoid(x_t)


def cross_entropy_derivative(x_t: Tensor) -> Tensor:
    """d cross_entropy / d x_t = p_t - 1 (eq. 9)."""
    return -torch.sigmoid(-x_t)


def focal(x_t: Tensor, gamma: float) -> Tensor:
    """-(1 - p_t)^gamma log p_t, elementwise, for any gamma >= 0 (eq. 4)."""
    if gamma == 0:  # 0 * inf at an infinite logit
        return cross_entropy(x_t)
    return torch.exp(gamma * F.logsigmoid(-x_t)) * -F.logsigmoid(x_t)


def focal_derivative(x_t: Tensor, gamma: float) -> Tensor:
    """d focal / d x_t = (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1) (eq. 10)."""
    x_t = x_t.clamp(-MAX_ABS_LOGIT, MAX_ABS_LOGIT)
    modulator = torch.exp(gamma * F.logsigmoid(-x_t))
    return modulator * (gamma * torch.sigmoid(x_t) * F.logsigmoid(x_t) - torch.sigmoid(-x_t))


def focal_star(x_t: Tensor, gamma: float, beta: float) -> Tensor:
    """-log sigmoid(gamma x_t + beta) / gamma, elementwise, for gamma > 0 (eq. 7-8)."""
    return -F.logsigmoid(gamma * x_t + beta) / gamma


def focal_star_derivative(x_t: Tensor, gamma: float, beta: float) -> Tensor:
    """d focal_star / d x_t = sigmoid(gamma x_t + beta) - 1 (eq. 11)."""
    return -torch.sigmoid(-(gamma * x_t + beta))


def dense_classification_loss(
    logits: Tensor, labels: Tensor, *, value: Elementwise, derivative: Elementwise, alpha: float | None
) -> Tensor:
    """Sum a loss over every (anchor, class) pair of the anchors that are not ignored.

    Args:
        logits: (..., K) in fp16, bf16, fp32 or fp64. The arithmetic is in fp32 at least.
        labels: (...) integers: [0, K) positive, K background, negative ignored.
        value: the loss as a function of x_t, elementwise.
        derivative: its derivative.
        alpha: weight of the positive terms in [0, 1], ``1 - alpha`` being that of the negative ones (eq. 3 and 5);
            None weighs both 1.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits). No anchors, or none that counts: 0 with a graph.

    Memory: the gradient, of the logits' size and type, in backward; no one-hot targets. Differentiable once.
    """
    num_classes = logits.shape[-1]
    return _DenseClassificationLoss.apply(
        logits.reshape(-1, num_classes), labels.reshape(-1), value, derivative, term_weights(alpha)
    )


def anchor_losses(logits: Tensor, labels: Tensor, *, value: Elementwise, alpha: float | None) -> Tensor:
    """The loss of each anchor, summed over its K outputs: what OHEM ranks. Without gradients.

    Arguments as for :func:`dense_classification_loss`.

    Returns:
        (...) of the labels' shape, fp32 (fp64 for fp64 logits); 0 for ignored anchors.
    """
    flat_logits, flat_labels = logits.detach().reshape(-1, logits.shape[-1]), labels.reshape(-1)
    losses = flat_logits.new_zeros(len(flat_labels), dtype=_compute_type(logits))
    for chunk in _chunks(flat_logits):
        losses[chunk] = _weighted_terms(value, flat_logits[chunk], flat_labels[chunk], term_weights(alpha)).sum(dim=1)
    return losses.view_as(labels)


class _DenseClassificationLoss(torch.autograd.Function):
    """Chunk by chunk, so that fp32 terms and their temporaries never have the size of the logits."""

    @staticmethod
    def forward(ctx, logits, labels, value, derivative, weights):
        ctx.save_for_backward(logits, labels)
        ctx.derivative, ctx.weights = derivative, weights
        total = logits.new_zeros((), dtype=_accumulator_type(logits))
        for chunk in _chunks(logits):
            total += _weighted_terms(value, logits[chunk], labels[chunk], weights).sum(dtype=total.dtype)
        return total.to(_compute_type(logits))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        logits, labels = ctx.saved_tensors
        pos_weight, neg_weight = ctx.weights
        grad = torch.empty_like(logits)
        for chunk in _chunks(logits):  # d x_t / d logit is -1 for a negative term
            terms = _weighted_terms(ctx.derivative, logits[chunk], labels[chunk], (pos_weight, -neg_weight))
            # In fp32, then rounded: fp16 holds neither a loss scale of 65536 nor an unscaled gradient of 1e-8.
            grad[chunk] = grad_output * terms
        return grad, None, None, None, None


def _weighted_terms(function: Elementwise, logits: Tensor, labels: Tensor, weights: tuple[float, float]) -> Tensor:
    """(n, K) values of a function of x_t times the weight of a (positive, negative) term; 0 for ignored anchors."""
    pos_weight, neg_weight = weights
    logits = logits.to(_compute_type(logits))
    pos_anchor = torch.nonzero((labels >= 0) & (labels < logits.shape[1])).squeeze(1)
    pos = (pos_anchor, labels[pos_anchor].long())
    terms = (neg_weight * function(-logits)).masked_fill((labels < 0).unsqueeze(1), 0)
    terms[pos] = pos_weight * function(logits[pos])
    return terms


def _chunks(logits: Tensor) -> Iterator[slice]:
    rows = max(CHUNK_ELEMENTS // max(logits.shape[1], 1), 1)
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def term_weights(alpha: float | None) -> tuple[float, float]:
    """Weights of positive and negative terms: alpha in [0, 1] and 1 - alpha, or 1 and 1 for None (eq. 3 and 5)."""
    return (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)


def _compute_type(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _accumulator_type(logits: Tensor) -> torch.dtype:
    # Sums of 10^7 terms; MPS has no fp64.
    return torch.float32 if logits.device.type == "mps" else torch.float64
