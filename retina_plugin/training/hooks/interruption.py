"""Write a checkpoint before Ctrl-C or SIGTERM ends a training."""

import logging
import os
import signal
import threading
from pathlib import Path

from detectron2.engine import HookBase

from ..processes import gather_states, largest_of_all

__all__ = ["Interrupted", "InterruptionHook"]

logger = logging.getLogger(__name__)

STDERR = 2  # its file descriptor
# Signal -> exit status of a process that it ends, by the shell's rule 128 + number: 130 and 143.
STATUS = {number: 128 + number for number in (signal.SIGINT, signal.SIGTERM)}


class Interrupted(KeyboardInterrupt):
    """Raised when a training has stopped on a signal; a KeyboardInterrupt, so that nothing treats it as a failure."""

    def __init__(self, message: str, *, status: int, num_done: int):
        super().__init__(message)
        self.status = status  # of the process
        self.num_done = num_done  # iterations


class InterruptionHook(HookBase):
    """Finish the iteration and write a checkpoint on the first SIGINT or SIGTERM; stop at once on the second.

    A hook of any ``DefaultTrainer``, the last one, so that the others have done their work after the iteration. With
    several processes all stop when one gets the signal.
    """

    def __init__(self):
        self._signal: int | None = None
        self._former: dict[int, object] = {}
        self._pid = os.getpid()

    def before_train(self) -> None:
        self._step, self.trainer.run_step = self.trainer.run_step, self._run_step
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers
        for number in STATUS:
            # Keep an ignored SIGINT, as "&" in a script sets it. None is a handler that Python cannot restore.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._former[number] = signal.signal(number, self._ask)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        stop = largest_of_all(self._signal or 0)
        if stop:
            gather_states(self.trainer)
        if done >= self.trainer.max_iter:
            # The final checkpoint is written; the evaluation that follows may be stopped at once.
            self._restore()
        elif stop:
            self._stop(stop)

    def _run_step(self) -> None:
        """Run a step; if the signal ended a data loader worker too, stop as after the previous iteration.

        A job queue sends SIGTERM to all processes of a job.
        """
        try:
            self._step()
            return
        except RuntimeError as error:
            if self._signal is None or "DataLoader worker" not in str(error):
                raise
        if self.trainer.iter > self.trainer.start_iter:
            self.trainer.iter -= 1
            self._stop(self._signal)
        name = signal.Signals(self._signal).name
        raise Interrupted(
            f"stopped by {name} before the first iteration was done.", status=STATUS[self._signal],
            num_done=self.trainer.start_iter,
        )  # fmt: skip

    def _stop(self, number: int) -> None:
        done, checkpointer, name = self.trainer.iter + 1, self.trainer.checkpointer, f"model_{self.trainer.iter:07d}"
        path = Path(checkpointer.save_dir, f"{name}.pth")
        if Path(checkpointer.get_checkpoint_file() or ".") != path:  # PeriodicCheckpointer may have written it
            checkpointer.save(name, iteration=self.trainer.iter)
        raise Interrupted(
            f"stopped by {signal.Signals(number).name} after iteration {done} of {self.trainer.max_iter}; {path} is "
            "written. Go on with the same command and --resume.",
            status=STATUS[number],
            num_done=done,
        )

    def after_train(self) -> None:
        self.trainer.__dict__.pop("run_step", None)
        self._step = None
        self._restore()

    def _ask(self, number: int, _) -> None:
        if os.getpid() != self._pid:
            return  # a worker of the data loader, which inherits the handler and is still needed
        if self._signal is not None:
            self._restore()
            raise Interrupted(
                "stopped at once; go on with --resume from the last checkpoint, if one was written.",
                status=STATUS[number],
                num_done=self.trainer.iter,
            )
        self._signal = number
        if number == signal.SIGTERM and hasattr(signal, "SIGCHLD"):
            # torch's handler raises an error, wherever this process is, when a loader's worker dies of it too.
            self._former[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        name = signal.Signals(number).name
        said = f"\n{name}: finishing this iteration, then a checkpoint. Once more stops at once.\n"
        os.write(STDERR, said.encode())  # the signal may have come while a logger or sys.stderr is writing

    def _restore(self) -> None:
        while self._former:
            signal.signal(*self._former.popitem())
