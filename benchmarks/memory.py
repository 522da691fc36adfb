"""Peak of the memory that a piece of work takes beyond what was there before it."""

import os
from collections.abc import Callable

# Before its first use: the profiler otherwise reports on stderr that it looked for a GPU.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["peak_bytes"]


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes of tensors alive at once during one call, beyond those alive before it.

    Counted by PyTorch's allocator, so it is exact and repeats, and does not see what is allocated elsewhere (numpy,
    a convolution's scratch space).
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        work()
    alive = peak = 0
    for event in trace.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak
