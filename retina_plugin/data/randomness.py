"""Random numbers of Python, NumPy and PyTorch as a function of where in a training they are drawn."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["seed_generators", "seeded"]


def seed_generators(*key: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch, on all devices, by numbers in [0, 2^32)."""
    _seed_of_cpu(key)
    torch.manual_seed(torch.initial_seed())


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """``seed_generators`` on the CPU alone; afterwards its generators go on as if nothing had been drawn."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            _seed_of_cpu(key)
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)


def _seed_of_cpu(key: tuple[int, ...]) -> None:
    np.random.seed(key)  # Detectron2's augmentations draw from this one
    for_python, for_torch = np.random.SeedSequence(key).generate_state(2)
    random.seed(int(for_python))
    torch.default_generator.manual_seed(int(for_torch))
