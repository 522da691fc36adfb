"""What the machine can do at best: bytes copied and multiply-adds a second, to set a time beside its physical limit."""

import torch
import torch.nn.functional as F

from .timing import spread, time_in_turn

__all__ = ["convolution_rate", "copy_bandwidth", "matmul_rate"]

COPY_BYTES = 2**28  # far beyond the last cache of any processor, and of a GPU
MATMUL_SIDE = 2048
# The head's convolution on P3 of an 800 x 1088 image: 256 channels, 3 x 3, 100 x 136 (paper Sec. 4).
CONV_SHAPE = (1, 256, 100, 136)
ROUNDS = 5


def copy_bandwidth(device: str) -> float:
    """Bytes a second, those read and those written together."""
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _median_seconds(lambda: target.copy_(source))


def matmul_rate(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Multiply-adds a second of a square matrix product."""
    a, b = (torch.ones(MATMUL_SIDE, MATMUL_SIDE, device=device, dtype=dtype) for _ in range(2))
    return MATMUL_SIDE**3 / _median_seconds(lambda: a @ b)


@torch.no_grad()
def convolution_rate(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Multiply-adds a second of the head's 3 x 3 convolution, channels-last."""
    image = torch.ones(CONV_SHAPE, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    channels = CONV_SHAPE[1]
    kernel = torch.ones(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    multiply_adds = CONV_SHAPE[2] * CONV_SHAPE[3] * channels * channels * 9
    return multiply_adds / _median_seconds(lambda: F.conv2d(image, kernel, padding=1))


def _median_seconds(work) -> float:
    return spread(time_in_turn({"": work}, rounds=ROUNDS, warmup=2)[""]).median
