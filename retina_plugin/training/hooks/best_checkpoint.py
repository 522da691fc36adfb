"""The best checkpoint of a run, kept as ``model_best.pth``, and the end of a run that gets no better."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm

from ...errors import SetupError
from ...files import write_durably
from ...weights.checkpointer import RetinaCheckpointer
from ..processes import largest_of_all

__all__ = ["BestMetric", "EarlyStop", "EarlyStoppingHook", "MetricHistory", "MissedEvaluation"]

logger = logging.getLogger(__name__)

BEST = "model_best"
HISTORY_FILE = "best_metric.json"


class EarlyStop(BaseException):
    """A run that ends before MAX_ITER as asked. No Exception: Detectron2's loop logs the traceback of each of those."""

    def __init__(self, message: str, num_done: int):
        super().__init__(message)
        self.num_done = num_done  # iterations


class MetricHistory:
    """The values of a metric over a run, in a file of their own beside the checkpoints.

    A checkpoint is written before the evaluation of its iteration, so that a resumed run would not know of it: this
    file does, and what is decided from it is the same with and without an interruption.
    """

    def __init__(self, metric: str, path: Path | None):
        """
        Args:
            metric: key of the event storage. One with "loss" in its name is better when it is lower.
            path: of the JSON file; None keeps the values in memory.
        """
        self.metric = metric
        self.values: list[tuple[int, float]] = []  # iteration, value; increasing
        self._path = path
        self._sign = -1 if "loss" in metric else 1

    def restore(self, start_iteration: int) -> None:
        """Read what was measured before ``start_iteration``; what an interrupted run did beyond it is forgotten.

        Raises:
            SetupError: the file is not one that ``add`` wrote.
        """
        self.values = []
        if start_iteration > 0 and self._path and self._path.is_file():
            try:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                if kept["metric"] == self.metric:
                    values = [(int(i), float(value)) for i, value in kept["values"]]
                    self.values = [(i, value) for i, value in values if i < start_iteration]
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise SetupError(
                    f"{self._path} cannot be read ({error!r}). Remove it: the best is then looked for "
                    f"from iteration {start_iteration} on."
                ) from error

    def add(self, iteration: int, value: float, keep_best: Callable[[], None] = lambda: None) -> None:
        """Note a value; one that is not finite is none, as where no box could be scored.

        ``keep_best`` is called where it is the best so far, before the file tells so: a run that is killed between the
        two measures once more.
        """
        if not math.isfinite(value):
            return
        self.values.append((iteration, value))
        if self.best() == (iteration, value):
            keep_best()
        if self._path:
            text = json.dumps({"metric": self.metric, "values": self.values}) + "\n"
            write_durably(self._path, lambda file: file.write(text.encode("utf-8")))

    def best(self) -> tuple[int, float] | None:
        """Iteration and value of the best, the first of equals; None without a value."""
        return max(self.values, key=lambda pair: (self._sign * pair[1], -pair[0])) if self.values else None

    def evaluations_without_gain(self, min_delta: float) -> int:
        """Values since the last gain: one that is better than the gain before it by more than ``min_delta``."""
        best, since = -math.inf, 0
        for _, value in self.values:
            gain = self._sign * value - best > min_delta
            best, since = (self._sign * value, 0) if gain else (best, since + 1)
        return since


class BestMetric(HookBase):
    """Notes the metric after each evaluation and writes ``model_best.pth`` when it is the best so far.

    Detectron2's ``BestCheckpointer`` forgets on a resume what the best was, and names its file as the last checkpoint,
    from which --resume would go on. The file here has the weights that were evaluated, without the state to resume.
    """

    def __init__(self, checkpointer: RetinaCheckpointer, history: MetricHistory):
        """
        Args:
            checkpointer: of the evaluated model, without a training's state.
            history: what is known of the metric.
        """
        self._checkpointer = checkpointer
        self.history = history
        self._warned = False

    def before_train(self) -> None:
        self.history.restore(self.trainer.start_iter)

    def after_step(self) -> None:
        self._look()

    def after_train(self) -> None:
        # Detectron2 evaluates the last iteration only now.
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._look()

    def _look(self) -> None:
        latest = self.trainer.storage.latest()
        if self.history.metric not in latest:
            self._warn_of_another(latest)
            return
        value, iteration = latest[self.history.metric]
        iteration = min(iteration, self.trainer.max_iter - 1)  # the evaluation after the loop is of its last iteration
        if self.history.values and iteration <= self.history.values[-1][0]:
            return  # the storage keeps what was measured before
        self.history.add(iteration, value, lambda: self._keep(iteration, value))

    def _keep(self, iteration: int, value: float) -> None:
        self._checkpointer.save(BEST, iteration=iteration, metric={self.history.metric: value})
        logger.info("%s %.4g at iteration %d: the best so far, kept as %s.pth", self.history.metric, value, iteration,
                    BEST)  # fmt: skip

    def _warn_of_another(self, latest: dict) -> None:
        """Once, after an evaluation that has no metric of this name."""
        family = "validation/" if self.history.metric.startswith("validation/") else "bbox/"
        measured = sorted(name for name in latest if family in name)
        if measured and not self._warned:
            self._warned = True
            logger.warning("TEST.BEST_METRIC %s is not measured; what is: %s", self.history.metric, ", ".join(measured))


class MissedEvaluation(HookBase):
    """A run resumed from a checkpoint whose evaluation was cut off does that first; behind BestMetric.

    Only for the metric of the history, on which depends what the run does. In every process.
    """

    def __init__(self, history: MetricHistory, hooks: Sequence[HookBase]):
        """
        Args:
            history: kept by BestMetric, in the main process.
            hooks: those that evaluate, and BestMetric; each knows itself whether its iteration has come.
        """
        self._history = history
        self._hooks = list(hooks)

    def before_train(self) -> None:
        trainer = self.trainer
        last = trainer.start_iter - 1
        missed = 0 <= last < trainer.max_iter and last not in dict(self._history.values)
        if not comm.all_gather(missed)[0]:  # the main process has the history
            return
        trainer.iter = trainer.storage.iter = last
        for hook in self._hooks:
            hook.after_step()
        trainer.iter = trainer.storage.iter = trainer.start_iter


class EarlyStoppingHook(HookBase):
    """Ends the run after ``patience`` evaluations in a row without a gain; behind BestMetric, in every process."""

    def __init__(self, history: MetricHistory, *, patience: int, min_delta: float):
        """
        Args:
            history: kept by BestMetric, in the main process.
            patience: evaluations without a gain, >= 1 (SOLVER.EARLY_STOPPING.PATIENCE).
            min_delta: least gain, >= 0, in the metric's unit (SOLVER.EARLY_STOPPING.MIN_DELTA).
        """
        self._history = history
        self._patience = patience
        self._min_delta = min_delta
        self._seen = -1  # values that were judged already

    def before_train(self) -> None:
        if self.trainer.start_iter < self.trainer.max_iter and (reason := self._reason()):
            raise EarlyStop(reason, self.trainer.start_iter)  # resumed with nothing more to hope for

    def after_step(self) -> None:
        if self.trainer.iter + 1 < self.trainer.max_iter and (reason := self._reason()):
            if comm.get_world_size() > 1:
                self.trainer.gather_state()
            self.trainer.checkpointer.save("model_final", iteration=self.trainer.iter)
            raise EarlyStop(reason, self.trainer.iter + 1)

    def _reason(self) -> str:
        """Why the run shall end; "" while it shall go on."""
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
            f"{self._patience} evaluations (SOLVER.EARLY_STOPPING); {BEST}.pth has the best"
        )
