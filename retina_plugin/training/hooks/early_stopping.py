"""Early stopping: end a run whose metric no longer improves."""

from detectron2.engine import HookBase
from detectron2.utils import comm

from ...weights.files import BEST
from ..processes import gather_states, largest_of_all
from .best_checkpoint import MetricHistory

__all__ = ["EarlyStop", "EarlyStoppingHook"]


class EarlyStop(SystemExit):
    """Raised to end a run before MAX_ITER; uncaught, it ends the program with status 0.

    It is not an Exception, because Detectron2's loop logs the traceback of those. ``RetinaTrainer.train`` catches it.
    """

    def __init__(self, message: str, num_done: int):
        super().__init__(message)
        self.code = 0
        self.num_done = num_done  # iterations


class EarlyStoppingHook(HookBase):
    """Saves ``model_final.pth`` and raises EarlyStop after ``patience`` evaluations in a row without a gain.

    A hook of any ``DefaultTrainer``, in every process, after those that evaluate.
    """

    def __init__(self, history: MetricHistory, *, patience: int, min_delta: float):
        """
        Args:
            history: values of the metric, in the main process; the same object as that of a BestMetric.
            patience: evaluations without a gain, >= 1 (SOLVER.EARLY_STOPPING.PATIENCE).
            min_delta: least gain, >= 0, in the metric's unit (SOLVER.EARLY_STOPPING.MIN_DELTA).
        """
        self._history = history
        self._patience = patience
        self._min_delta = min_delta
        self._seen = -1  # number of values at the last decision

    def before_train(self) -> None:
        if not self._history.values:  # else BestMetric has restored it
            self._history.restore(self.trainer.start_iter)
        if self.trainer.start_iter < self.trainer.max_iter and (reason := self._reason()):
            raise EarlyStop(reason, self.trainer.start_iter)  # the run had stopped before it was resumed

    def after_step(self) -> None:
        if comm.is_main_process():
            self._history.note(self.trainer)
        if self.trainer.iter + 1 < self.trainer.max_iter and (reason := self._reason()):
            gather_states(self.trainer)
            self.trainer.checkpointer.save("model_final", iteration=self.trainer.iter)
            raise EarlyStop(reason, self.trainer.iter + 1)

    def _reason(self) -> str:
        """Return the reason to end the run; "" to continue."""
        stop = len(self._history.values) != self._seen and (
            self._history.evaluations_without_gain(self._min_delta) >= self._patience
        )
        self._seen = len(self._history.values)
        if not largest_of_all(int(stop)):
            return ""
        if not comm.is_main_process():
            return "stopped early by the main process"
        iteration, value = self._history.best()
        return (
            f"stopped early: no {self._history.metric} better than {value:.4g} of iteration {iteration} in the last "
            f"{self._patience} evaluations (SOLVER.EARLY_STOPPING); {BEST} has the best"
        )
