"""Convolutions of a model for inference on a CPU, replaced by Winograd's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.winograd import transform_kernel, winograd_conv2d

__all__ = ["WinogradConv2d", "use_winograd"]

# Where it was quicker than oneDNN's on an AVX2 processor: 64 channels took as long, 128 took 0.7 of the time, 256 half
# (docs/performance.md); of maps with fewer positions the transforms cost more than they save.
MIN_CHANNELS = 128
MIN_POSITIONS = 400


class WinogradConv2d(nn.Module):
    """A 3 x 3 convolution of stride 1 and padding 1, with the norm and activation of Detectron2's ``Conv2d``."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.register_buffer("kernel", transform_kernel(conv.weight.detach()), persistent=False)
        self.norm, self.activation = getattr(conv, "norm", None), getattr(conv, "activation", None)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H, W)."""
        if x.shape[-2] * x.shape[-1] < MIN_POSITIONS:
            x = F.conv2d(x, self.weight, self.bias, padding=1)
        else:
            x = winograd_conv2d(x, self.kernel, self.bias)
        for then in (self.norm, self.activation):
            x = x if then is None else then(x)
        return x


@torch.no_grad()
def use_winograd(model: nn.Module) -> int:
    """Replace the convolutions of ``model`` that gain by it, in place; for inference in fp32 on a CPU.

    Returns:
        how many were replaced.
    """
    replaced = 0
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and _gains(child):
                setattr(parent, name, WinogradConv2d(child))
                replaced += 1
    return replaced


def _gains(conv: nn.Conv2d) -> bool:
    shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    plain = shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and conv.padding_mode == "zeros"
    return plain and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
