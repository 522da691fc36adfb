"""Errors that the machine is to blame for, known by what PyTorch says: lack of memory, a worker that was ended."""

import traceback

import torch

from ..errors import RunFault, first_line

__all__ = ["describe_loss_of_worker", "is_out_of_memory"]

# torch's words where memory runs out on the CPU, for which it has no type of its own.
_CPU_MEMORY = ("can't allocate memory", "not enough memory")
# Of a GPU's libraries, likewise.
_GPU_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a step failed for lack of memory of the GPU or the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_MEMORY + _GPU_MEMORY)


def describe_loss_of_worker(error: BaseException) -> str:
    """What an error of a training says of a data loader's worker that was ended; "" for another error.

    PyTorch has a sentence of its own, but where the worker ends while it hands over a tensor.
    """
    if isinstance(error, RunFault):
        return ""
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return first_line(error)
    modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}
    lost = isinstance(error, (ConnectionError, FileNotFoundError, EOFError))  # not the limit of open files
    if lost and "torch.multiprocessing.reductions" in modules:
        return f"a DataLoader worker ended while it handed over an image ({error!r})"
    return ""
