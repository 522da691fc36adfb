"""Seeds and states that make an iteration the same in a resumed run."""

import os

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..data.randomness import seed_generators
from ..modeling import TrainingState

__all__ = ["IterationSeed", "ProcessStates", "use_deterministic_algorithms"]


class IterationSeed(HookBase):
    """Seed the global generators before each iteration, by the run's seed, the iteration and the process.

    A resumed run then draws the same random numbers (dropout, stochastic depth) as an uninterrupted one, and a
    checkpoint need not contain the states of the generators of all devices and processes. This must be the first hook.
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
    """Collect the state of every process at the iterations that save a checkpoint.

    With several processes, each needs this hook, before Detectron2's PeriodicCheckpointer (main process only).
    """

    def __init__(self, state: TrainingState, period: int):
        """
        Args:
            state: state to collect from all processes.
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
        """Collect the state now, for a checkpoint at another iteration."""
        self._state.gather()


def use_deterministic_algorithms() -> None:
    """Use PyTorch's deterministic algorithms in this process; PyTorch warns of each operation without one."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch asks for it, before cuBLAS is loaded
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False  # it picks the fastest algorithm by time
