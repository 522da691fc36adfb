"""What ``MODEL.PRECISION`` may be, and where bfloat16 pays."""

import torch

__all__ = ["PRECISIONS", "bfloat16_is_fast"]

PRECISIONS = ("fp32", "winograd", "bf16")


def bfloat16_is_fast(device: str) -> bool:
    """Whether a device has instructions for bf16; without them a training step took seven times fp32's time."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
