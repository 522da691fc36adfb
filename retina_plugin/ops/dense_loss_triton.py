"""CE, focal loss and FL* with their gradient in one Triton kernel: each logit is read once, each gradient written once.

The formulas are those of ``terms.py``, with the exponential of -|z|, which cannot overflow. ``dense_loss.py`` imports
it where Triton is installed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .terms import FocalTerm

__all__ = ["scale_", "sum_and_gradient"]

BLOCK = 1024  # elements of a program: eight for each of the 128 threads that Triton gives it (4 warps of 32)
# Above it, p log p is 0 to any precision: p = exp(-88) is the smallest normal float32.
MAX_LOSS = tl.constexpr(88.0)


@triton.jit
def _kernel(
    logits, labels, scale, gradient, partial_sums, num_elements, positive_weight, negative_weight,
    NUM_CLASSES: tl.constexpr, GAMMA: tl.constexpr, SCALE: tl.constexpr, SHIFT: tl.constexpr,
    WITH_GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(0).to(tl.int64) * BLOCK  # LVIS: 16 images of 200,000 anchors and 1203 classes are beyond 2^31
    lane = tl.arange(0, BLOCK)
    inside = start + lane < num_elements
    # One division of 64 bits for the program; those of the lanes are of 32, by a constant.
    from_row = (start % NUM_CLASSES).to(tl.int32) + lane
    label = tl.load(labels + start // NUM_CLASSES + from_row // NUM_CLASSES, mask=inside, other=-1)
    logit = tl.load(logits + start + lane, mask=inside, other=0.0).to(tl.float32)

    is_positive = label == from_row % NUM_CLASSES
    weight = tl.where(is_positive, positive_weight, negative_weight)
    weight = tl.where(label < 0, 0.0, weight)
    sign = tl.where(is_positive, -1.0, 1.0)
    z = SCALE * (sign * logit) - SHIFT  # p = sigmoid(-z)

    small = tl.exp(-tl.abs(z))
    one_plus = 1 + small
    log1p = tl.log(one_plus) + (small - (one_plus - 1)) / one_plus
    ce = tl.maximum(z, 0.0) + log1p
    miss = tl.where(z >= 0, 1.0, small) / one_plus
    p = tl.where(z >= 0, small, 1.0) / one_plus
    if GAMMA == 0:
        modulator = 1.0
    elif GAMMA == 1:
        modulator = miss
    elif GAMMA == 2:
        modulator = miss * miss
    else:
        modulator = tl.exp(GAMMA * (tl.minimum(z, 0.0) - log1p))  # log(1 - p) = z - log(1 + e^z)
    # 0 where the weight is 0, also for an infinite loss.
    value = tl.where(weight == 0, 0.0, weight * modulator * ce / SCALE)
    tl.store(partial_sums + tl.program_id(0), tl.sum(value, axis=0))
    if WITH_GRADIENT:
        slope = modulator * (miss + GAMMA * p * tl.minimum(ce, MAX_LOSS))
        slope = tl.where(weight == 0, 0.0, weight * sign * slope) * tl.load(scale).to(tl.float32)
        tl.store(gradient + start + lane, slope.to(gradient.dtype.element_ty), mask=inside)


def sum_and_gradient(
    logits: Tensor, labels: Tensor, term: FocalTerm, *, weights: tuple[float, float], scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Compute the sum of a term and its gradient times ``scale``.

    Args:
        logits: (R, K) contiguous, fp16, bf16 or fp32. The arithmetic is in fp32.
        labels: (R,) contiguous integers: [0, K) positive, K background, negative ignored.
        weights: weights of positive and of negative terms.
        scale: 0-dim tensor on the logits' device, which the host does not wait for; None: no gradient.

    Returns:
        0-dim fp32 and (R, K) of the logits' type, or None. Blocks are summed in fp32 and their sums in fp64, always in
        the same order.
    """
    num_blocks = triton.cdiv(logits.numel(), BLOCK)
    partial_sums = logits.new_empty(num_blocks, dtype=torch.float32)
    gradient = None if scale is None else torch.empty_like(logits)
    if num_blocks:
        _kernel[(num_blocks,)](
            logits, labels, scale, gradient, partial_sums, logits.numel(), *weights,
            NUM_CLASSES=logits.shape[1], GAMMA=term.gamma, SCALE=term.scale, SHIFT=term.shift,
            WITH_GRADIENT=scale is not None, BLOCK=BLOCK,
        )  # fmt: skip
    return partial_sums.sum(dtype=torch.float64).float(), gradient


@triton.jit
def _scale_kernel(tensor, scale, num_elements, BLOCK: tl.constexpr):
    factor = tl.load(scale).to(tl.float32)
    if factor != 1:  # 1 where backward starts at the loss itself: nothing is read or written
        offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = offset < num_elements
        scaled = tl.load(tensor + offset, mask=inside).to(tl.float32) * factor
        tl.store(tensor + offset, scaled.to(tensor.dtype.element_ty), mask=inside)


def scale_(tensor: Tensor, scale: Tensor) -> None:
    """Multiply in place by a 0-dim tensor on the same device, without a wait of the host; a factor of 1 costs no pass.

    Args:
        tensor: contiguous.
    """
    if tensor.numel():
        _scale_kernel[(triton.cdiv(tensor.numel(), BLOCK),)](tensor, scale, tensor.numel(), BLOCK=BLOCK)
