"""Ways to compute the same model faster: precision, memory order, Winograd's convolutions, folded batch norms."""

import copy

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..ops.winograd import transform_kernel, winograd_conv2d

__all__ = [
    "PRECISIONS", "bfloat16_is_fast", "build_inference_model", "fold_batch_norms", "trains_channels_last",
    "use_winograd",
]  # fmt: skip

# Values of MODEL.PRECISION, the arithmetic of backbone and head. "winograd" is fp32 by another algorithm.
PRECISIONS = ("fp32", "winograd", "bf16")

# Channels and positions (images x height x width) from which Winograd's algorithm beat oneDNN's convolution on an AVX2
# processor: 64 channels took as long, 128 took 0.7 of the time, 256 half (docs/performance.md).
MIN_CHANNELS = 128
MIN_POSITIONS = 600


def bfloat16_is_fast(device: str) -> bool:
    """Return True if a device has instructions for bf16; without them a training step took seven times fp32's time."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def trains_channels_last(device: str, precision: str) -> bool:
    """Return True if training is faster in channels-last order: the same sums in another order.

    A training step took 0.87 of the time with AVX-512, and 1.0 to 1.1 of it with AVX2 (docs/performance.md); Winograd's
    convolutions are written for it.
    """
    return device == "cpu" and (torch.backends.cpu.get_cpu_capability() == "AVX512" or precision == "winograd")


class WinogradConv2d(Conv2d):
    """Detectron2's ``Conv2d`` of 3 x 3, stride 1 and padding 1, computed by Winograd's algorithm on a CPU."""

    def __init__(self, conv: nn.Conv2d):
        """
        Args:
            conv: the layer to replace; its parameters, norm and activation are shared.
        """
        super().__init__(
            conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None,
            norm=getattr(conv, "norm", None), activation=getattr(conv, "activation", None),
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.kernel: Tensor | None = None  # the transformed weight, where it never changes

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, H, W)."""
        is_small = x.shape[0] * x.shape[-2] * x.shape[-1] < MIN_POSITIONS
        # A trace keeps the plain convolution: other tools (flop counts, exports) know it.
        if x.device.type != "cpu" or torch.jit.is_tracing() or is_small:
            x = F.conv2d(x, self.weight, self.bias, padding=1)
        else:
            x = winograd_conv2d(x, self.weight, self.bias, self.kernel)
        for layer in (self.norm, self.activation):
            x = x if layer is None else layer(x)
        return x


def use_winograd(model: nn.Module) -> int:
    """Replace the convolutions of ``model`` that gain by Winograd's algorithm, in place; state-dict keys stay.

    Returns:
        the number of layers replaced.
    """
    replaced = 0
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, nn.Conv2d) or min(child.in_channels, child.out_channels) < MIN_CHANNELS:
                continue
            shape = (child.kernel_size, child.stride, child.padding, child.dilation, child.groups, child.padding_mode)
            if shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros"):
                setattr(parent, name, WinogradConv2d(child))
                replaced += 1
    return replaced


def build_inference_model(model: nn.Module, *, inplace: bool = False) -> nn.Module:
    """Build the fastest form of a model for inference: norms folded, channels last, Winograd's kernels kept.

    Args:
        inplace: change ``model`` itself, which saves its memory and leaves it unfit for training.
    """
    folded = fold_batch_norms(model, inplace=inplace)
    for module in folded.modules():
        if isinstance(module, WinogradConv2d) and module.weight.device.type == "cpu":
            module.kernel = transform_kernel(module.weight)  # 4 times the memory of the weight
    # On an AVX2 processor an image took 0.92 of the time (docs/performance.md).
    return folded.to(memory_format=torch.channels_last)


def fold_batch_norms(model: nn.Module, *, inplace: bool = False) -> nn.Module:
    """Copy a model for inference, in eval mode, with each batch norm folded into the convolution before it.

    Equal up to rounding. Folds Detectron2's ``Conv2d`` with a ``FrozenBatchNorm2d`` or ``BatchNorm2d``; group norm
    depends on the image and stays. The copy cannot be trained and its state dict has other keys.

    Args:
        inplace: change ``model`` itself.
    """
    folded = (model if inplace else copy.deepcopy(model)).eval()
    for conv in folded.modules():
        norm = getattr(conv, "norm", None)
        if isinstance(conv, Conv2d) and isinstance(norm, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            conv.norm = None
    return folded.requires_grad_(False)
