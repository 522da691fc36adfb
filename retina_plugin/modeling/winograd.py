"""Convolutions of a model on a CPU, replaced by Winograd's."""

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from ..ops.winograd import transform_kernel, winograd_conv2d

__all__ = ["WinogradConv2d", "keep_kernels", "use_winograd"]

# Where it was quicker than oneDNN's on an AVX2 processor: 64 channels took as long, 128 took 0.7 of the time, 256 half
# (docs/performance.md); with fewer positions in the batch's map the transforms cost more than they save.
MIN_CHANNELS = 128
MIN_POSITIONS = 600


class WinogradConv2d(Conv2d):
    """Detectron2's ``Conv2d`` of 3 x 3, stride 1 and padding 1, computed by Winograd's algorithm on a CPU."""

    def __init__(self, conv: nn.Conv2d):
        """
        Args:
            conv: the layer to replace; its parameters, norm and activation are taken over.
        """
        super().__init__(
            conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None,
            norm=getattr(conv, "norm", None), activation=getattr(conv, "activation", None),
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.kernel: Tensor | None = None  # of weights that stay as they are: see keep_kernels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H, W)."""
        is_small = x.shape[0] * x.shape[-2] * x.shape[-1] < MIN_POSITIONS
        # A trace keeps the plain convolution: other tools (flop counts, exports) know it.
        if x.device.type != "cpu" or torch.jit.is_tracing() or is_small:
            x = F.conv2d(x, self.weight, self.bias, padding=1)
        else:
            x = winograd_conv2d(x, self.weight, self.bias, self.kernel)
        for then in (self.norm, self.activation):
            x = x if then is None else then(x)
        return x


def use_winograd(model: nn.Module) -> int:
    """Replace the convolutions of ``model`` that gain by it, in place; keys of the state dict stay.

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


def keep_kernels(model: nn.Module) -> None:
    """Transform the kernels of a model once, which then must not be trained; 4 times the memory of their weights."""
    for module in model.modules():
        if isinstance(module, WinogradConv2d) and module.weight.device.type == "cpu":
            module.kernel = transform_kernel(module.weight)


def _gains(conv: nn.Conv2d) -> bool:
    shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    plain = shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and conv.padding_mode == "zeros"
    return plain and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
