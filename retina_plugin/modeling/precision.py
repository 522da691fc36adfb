"""What ``MODEL.PRECISION`` may be, and where bfloat16 and channels-last order pay."""

import torch

__all__ = ["PRECISIONS", "bfloat16_is_fast", "trains_channels_last"]

PRECISIONS = ("fp32", "winograd", "bf16")


def bfloat16_is_fast(device: str) -> bool:
    """Whether a device has instructions for bf16; without them a training step took seven times fp32's time."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def trains_channels_last(device: str, precision: str) -> bool:
    """Whether a model is trained in channels-last order: the same sums in another order.

    A training step took 0.87 of the time with AVX-512, and 1.0 to 1.1 of it with AVX2 (docs/performance.md); Winograd's
    convolutions are written for it.
    """
    return device == "cpu" and (torch.backends.cpu.get_cpu_capability() == "AVX512" or precision == "winograd")
