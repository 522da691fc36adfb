"""Seeds and states that make an iteration the same after any interruption."""

import os

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..data.randomness import seed_generators
from ..modeling import TrainingState

__all__ = ["IterationSeed", "ProcessStates", "use_deterministic_algorithms"]


class IterationSeed(HookBase):
    """Before each iteration seeds the global generators by the run's seed, the iteration and the process.

    A checkpoint then need not hold their states, of which there is one a device and process, and a resumed run draws
    (dropout, stochastic depth) what the run would have drawn. The first of the hooks.
    """

    def __init__(self, seed: int):
        """
        Args:
            seed: >= 0 (SEED).
        """
        self._seed = seed

    def before_step(self) -> None:
        seed_generators(self._seed, self.trainer.iter, comm.get_rank())


class ProcessStates(HookBase):
    """Collects the state of every process at the iterations that save a checkpoint.

    A hook of several processes, in each of them, before Detectron2's PeriodicCheckpointer, which runs in the main one.
    """

    def __init__(self, state: TrainingState, period: int):
        """
        Args:
            state: collected from all processes.
            period: SOLVER.CHECKPOINT_PERIOD.
        """
        self._state = state
        self._period = period

    def before_step(self) -> None:
        self._state.forget()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done >= self.trainer.max_iter:
            self._state.gather()

    def gather_state(self) -> None:
        """Collect it now, for a checkpoint at another iteration."""
        self._state.gather()


def use_deterministic_algorithms() -> None:
    """Have PyTorch take them in this process; where it has none, it warns and names the operation."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch asks for it, before cuBLAS is loaded
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False  # it picks the fastest algorithm by time
