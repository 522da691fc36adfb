"""Keep the best checkpoint of a run as ``model_best.pth``."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

from detectron2.engine import HookBase, TrainerBase
from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm

from ...errors import SetupError
from ...files import write_durably
from ...weights.checkpointer import RetinaCheckpointer
from ...weights.files import BEST
from .validation import ValidationLossHook

__all__ = ["HISTORY_FILE", "BestMetric", "MetricHistory", "MissedEvaluation"]

logger = logging.getLogger(__name__)

HISTORY_FILE = "best_metric.json"


class MetricHistory:
    """The values of a metric over a run, in a separate file beside the checkpoints.

    A checkpoint is written before the evaluation of its iteration and so lacks its result. This file has it, so that a
    resumed run takes the same decisions as an uninterrupted one.
    """

    def __init__(self, metric: str, path: Path | None):
        """
        Args:
            metric: key of the event storage. One with "loss" in its name is better when it is lower.
            path: path of the JSON file; None keeps the values in memory.
        """
        self.metric = metric
        self.values: list[tuple[int, float]] = []  # iteration, value; increasing
        self._path = path
        self._sign = -1 if "loss" in metric else 1
        self._warned = False

    def restore(self, start_iteration: int) -> None:
        """Read the values before ``start_iteration``; later ones of an interrupted run are dropped.

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

    def note(self, trainer: TrainerBase, keep_best: Callable[[int, float], None] = lambda i, value: None) -> None:
        """Add the trainer's newest value, unless it is known already."""
        latest = trainer.storage.latest()
        if self.metric not in latest:
            self._warn_of_another(latest)
            return
        value, iteration = latest[self.metric]
        iteration = min(iteration, trainer.max_iter - 1)  # the evaluation after the loop is of its last iteration
        if not self.values or iteration > self.values[-1][0]:
            self.add(iteration, value, keep_best)

    def add(
        self, iteration: int, value: float, keep_best: Callable[[int, float], None] = lambda i, value: None
    ) -> None:
        """Add a value, unless it is not finite, as when no box was scored.

        ``keep_best`` gets iteration and value of a new best. It runs before the file is written, so that a crash in
        between only repeats the evaluation.
        """
        if not math.isfinite(value):
            return
        self.values.append((iteration, value))
        if self.best() == (iteration, value):
            keep_best(iteration, value)
        if self._path:
            text = json.dumps({"metric": self.metric, "values": self.values}) + "\n"
            write_durably(self._path, lambda file: file.write(text.encode("utf-8")))

    def _warn_of_another(self, latest: dict) -> None:
        """Warn once, after an evaluation that has no metric of this name."""
        family = "validation/" if self.metric.startswith("validation/") else "bbox/"
        measured = sorted(name for name in latest if family in name)
        if measured and not self._warned:
            self._warned = True
            logger.warning("TEST.BEST_METRIC %s is not measured; what is: %s", self.metric, ", ".join(measured))

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
    """Record the metric after each evaluation, and write ``model_best.pth`` if it is the best so far.

    Detectron2's ``BestCheckpointer`` forgets on a resume what the best was, and names its file as the last checkpoint,
    from which --resume would go on. The file here has the weights that were evaluated, without the state to resume.
    """

    def __init__(self, checkpointer: RetinaCheckpointer, history: MetricHistory):
        """
        Args:
            checkpointer: checkpointer of the evaluated model, without a training's state.
            history: values of the metric so far.
        """
        self._checkpointer = checkpointer
        self.history = history

    def before_train(self) -> None:
        self.history.restore(self.trainer.start_iter)

    def after_step(self) -> None:
        self.history.note(self.trainer, self._keep)

    def after_train(self) -> None:
        # Detectron2 evaluates the last iteration only now.
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self.history.note(self.trainer, self._keep)

    def _keep(self, iteration: int, value: float) -> None:
        self._checkpointer.save(BEST.removesuffix(".pth"), iteration=iteration, metric={self.history.metric: value})
        logger.info("%s %.4g at iteration %d: the best so far, kept as %s", self.history.metric, value, iteration, BEST)


class MissedEvaluation(HookBase):
    """Repeat an interrupted evaluation of the checkpoint that a run resumes from, before the first iteration.

    Only the metric of the history is restored, because the run depends on it. Every process needs this hook, after
    BestMetric.
    """

    def __init__(self, history: MetricHistory):
        """
        Args:
            history: kept by BestMetric, in the main process.
        """
        self._history = history

    def before_train(self) -> None:
        trainer = self.trainer
        last = trainer.start_iter - 1
        missed = 0 <= last < trainer.max_iter and last not in dict(self._history.values)
        if not comm.all_gather(missed)[0]:  # the main process has the history
            return
        trainer.iter = trainer.storage.iter = last
        for hook in trainer._hooks:  # each knows whether its iteration has come
            if isinstance(hook, (EvalHook, ValidationLossHook, BestMetric)):
                hook.after_step()
        trainer.iter = trainer.storage.iter = trainer.start_iter
