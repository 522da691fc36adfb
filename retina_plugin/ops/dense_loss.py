"""A loss of the signed logit, summed over dense logits and integer labels, with its gradient.

Shapes: logits (..., K), labels (...), K foreground classes. A label in [0, K) is a positive of that class, K is
background, a negative label is ignored. Each of the K outputs of an anchor is one binary term (paper Sec. 4).
"""

import importlib.util
import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .terms import FocalTerm

__all__ = ["Elementwise", "anchor_losses", "dense_classification_loss", "term_weights"]

Elementwise = Callable[[Tensor], Tensor]

# Elements of logits handled at a time. Five temporaries of 2^17 floats, 2.6 MB, stay in a processor's last cache and
# are 0.08 of 98,208 x 80 logits; half the size took 1.1 times as long on one thread, twice the size as long.
CHUNK_ELEMENTS = 2**17


def dense_classification_loss(
    logits: Tensor, labels: Tensor, term: Elementwise, *, alpha: float | None, divisor: Tensor | None = None
) -> Tensor:
    """Sum a loss over every (anchor, class) pair of the anchors that are not ignored.

    Args:
        logits: (..., K) in fp16, bf16, fp32 or fp64. The arithmetic is in fp32 at least.
        labels: (...) integers: [0, K) positive, K background, negative ignored.
        term: the loss as a function of x_t, elementwise. Its derivative is ``term.with_slope``'s where it has that
            method (see :class:`FocalTerm`), else autograd's. A FocalTerm runs as one Triton kernel where Triton does.
        alpha: weight of the positive terms in [0, 1], the negative ones getting ``1 - alpha`` (eq. 3 and 5); None
            weighs both 1.
        divisor: 0-dim, divides the sum; None for 1. Dividing here spares a pass over the gradient.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits). Without anchors, or with ignored ones alone: 0 with a graph.

    Memory: the gradient, of the logits' size and type, which the forward pass computes with the value. Differentiable
    once.
    """
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    dtype = _compute_type(logits)
    divisor = logits.new_ones((), dtype=dtype) if divisor is None else divisor.detach().to(dtype)
    return _DenseClassificationLoss.apply(logits, labels, divisor, term, term_weights(alpha))


def anchor_losses(logits: Tensor, labels: Tensor, term: Elementwise, *, alpha: float | None) -> Tensor:
    """Sum a loss over the K outputs of each anchor, without gradients: the ranking of OHEM.

    Args:
        logits, labels, term, alpha: see :func:`dense_classification_loss`.

    Returns:
        (...) of the labels' shape, fp32 (fp64 for fp64 logits); 0 for ignored anchors.
    """
    flat_logits, flat_labels = logits.detach().reshape(-1, logits.shape[-1]), labels.reshape(-1)
    losses = flat_logits.new_zeros(len(flat_labels), dtype=_compute_type(logits))
    weights = term_weights(alpha)
    for chunk in _chunks(flat_logits):
        losses[chunk] = weights[1] * term(-flat_logits[chunk].to(losses.dtype)).sum(dim=1)
    rows, signs, row_weights = _rows_beside_background(flat_labels, flat_logits.shape[1], weights, losses.dtype)
    losses[rows] = _weighted(term(-signs * flat_logits[rows]), row_weights).sum(dim=1)
    return losses.view_as(labels)


def term_weights(alpha: float | None) -> tuple[float, float]:
    """Weights of positive and negative terms: alpha in [0, 1] and 1 - alpha, or 1 and 1 for None (eq. 3 and 5)."""
    return (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)


class _DenseClassificationLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels, divisor, term, weights):
        ctx.save_for_backward(logits, labels, divisor)
        ctx.term, ctx.weights = term, weights
        # fp16 holds neither a loss scale of 65536 nor an unscaled gradient of 1e-8: its gradient waits for backward.
        at_once = ctx.needs_input_grad[0] and logits.dtype != torch.float16
        total, ctx.gradient = _sum_and_gradient(logits, labels, term, weights, 1 / divisor if at_once else None)
        return total / divisor

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # also where an earlier backward of a retained graph gave it away
            logits, labels, divisor = ctx.saved_tensors
            _, gradient = _sum_and_gradient(logits, labels, ctx.term, ctx.weights, grad_output / divisor)
        elif _runs_triton(gradient):
            from .dense_loss_triton import scale_

            scale_(gradient, grad_output)
        elif gradient.device.type != "cpu" or grad_output != 1:  # comparing makes the host wait for another device
            gradient.mul_(grad_output)  # in place: nobody else holds it
        return gradient, None, None, None, None


def _sum_and_gradient(
    logits: Tensor, labels: Tensor, term: Elementwise, weights: tuple[float, float], scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Compute the sum, and its gradient times ``scale`` (None: no gradient).

    Chunk by chunk, so that the terms and their temporaries never have the size of the logits. Each chunk is taken as
    background; the few rows that are positive or ignored are computed apart and put in.
    """
    if isinstance(term, FocalTerm) and _runs_triton(logits):
        from . import dense_loss_triton

        logits, labels = logits.contiguous(), labels.contiguous()
        return dense_loss_triton.sum_and_gradient(logits, labels, term, weights=weights, scale=scale)
    # Sums of 10^7 terms; MPS has no fp64.
    total = logits.new_zeros((), dtype=torch.float32 if logits.device.type == "mps" else torch.float64)
    gradient = None if scale is None else torch.empty_like(logits)
    rows, signs, row_weights = _rows_beside_background(labels, logits.shape[1], weights, _compute_type(logits))
    row_values, row_slopes = _with_slope(term, signs * logits[rows])
    total += _weighted(row_values, row_weights).sum()
    for chunk, rows_of_chunk in zip(_chunks(logits), _split_by_chunk(rows, logits), strict=True):
        values, slopes = _with_slope(term, logits[chunk].to(_compute_type(logits)))
        total += weights[1] * values.index_fill_(0, rows_of_chunk, 0).sum(dtype=total.dtype)
        if scale is not None:
            torch.mul(slopes, weights[1] * scale, out=gradient[chunk])
        del values, slopes  # before the next chunk makes its own
    if scale is not None:
        gradient[rows] = (scale * _weighted(signs * row_slopes, row_weights)).to(gradient.dtype)
    return total.to(_compute_type(logits)), gradient


def _with_slope(term: Elementwise, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the term at x_t = -logits and its derivative by the logits, in new tensors."""
    if hasattr(term, "with_slope"):
        return term.with_slope(logits)
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
        value = term(-logits)
        (slope,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), slope


def _rows_beside_background(
    labels: Tensor, num_classes: int, weights: tuple[float, float], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """List the anchors that are positive or ignored: their indices (n,), signs (n, K) and weights (n, K).

    A sign is -1 where x_t = logit, else 1. The weight of an ignored anchor is 0.
    """
    rows = torch.nonzero(labels != num_classes).squeeze(1)
    row_labels = labels[rows].long()
    signs = torch.full((len(rows), num_classes), 1, dtype=dtype, device=labels.device)
    row_weights = torch.full_like(signs, weights[1])
    positive = torch.nonzero(row_labels >= 0).squeeze(1)
    signs[positive, row_labels[positive]] = -1
    row_weights[positive, row_labels[positive]] = weights[0]
    row_weights[row_labels < 0] = 0
    return rows, signs, row_weights


def _weighted(terms: Tensor, weights: Tensor) -> Tensor:
    """Multiply both; 0 where the weight is, also for an infinite term of an ignored anchor."""
    return (weights * terms).masked_fill(weights == 0, 0)


def _chunks(logits: Tensor) -> Iterator[slice]:
    rows = max(CHUNK_ELEMENTS // max(logits.shape[1], 1), 1)
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def _split_by_chunk(rows: Tensor, logits: Tensor) -> list[Tensor]:
    """Split sorted row indices into one tensor a chunk, counted from the chunk's first row."""
    starts = [chunk.start for chunk in _chunks(logits)]
    bounds = [*torch.searchsorted(rows, torch.tensor(starts, device=rows.device)).tolist(), len(rows)]
    return [rows[low:high] - start for start, low, high in zip(starts, bounds[:-1], bounds[1:], strict=True)]


def _runs_triton(tensor: Tensor) -> bool:
    """Return True where Triton handles the tensor's device and type. TRITON_INTERPRET=1 runs its kernels on the CPU."""
    if not (tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1") or tensor.dtype == torch.float64:
        return False
    return importlib.util.find_spec("triton") is not None


def _compute_type(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)
