"""Runs the planned trainings one after another, each in a process of its own, and survives being killed at any time.

A run is `retina train --resume`: it continues from its last checkpoint with the next batch. A lock on its folder is
shared by the runner and the training process, so no second runner can start the run until both have ended.
"""

import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ...errors import EXIT_DIVERGED, EXIT_INTERRUPTED
from ...files import write_whole
from ...locks import keep_in_child, lock_file
from ...run_record import keep_previous
from .plan import ENDED, PlannedRun
from .records import RunRecord
from .results import RECORD, read_record, store_run

__all__ = ["StudyRunner", "clock"]

CONSOLE = "console.txt"  # Detectron2 writes log.txt
SETUP_MARK = "setup_error"  # marks a record of a run that failed by a mistake of the user, who may have fixed it
LAST_LINES = 3  # lines of the console that are recorded as the reason of a failure


class StudyRunner:
    """Runs trainings on one or several devices."""

    def __init__(
        self, runs: list[PlannedRun], devices: list[str], *, retry_failed: bool, say: Callable[[str], None] = print
    ):
        """
        Args:
            runs: in the order in which to run them.
            devices: "cpu" or GPU numbers; each device trains one run at a time.
            retry_failed: start failed runs again, but not diverged ones, which are results.
            say: called with each line of progress.
        """
        self._runs, self._devices, self._retry_failed, self._say = runs, devices, retry_failed, say
        self._queue: queue.Queue[PlannedRun] = queue.Queue()
        self._children: set[subprocess.Popen] = set()
        self._stopping = threading.Event()
        self._guard = threading.Lock()

    def run(self) -> int:
        """Run all and return the number of failures. Ctrl-C or SIGTERM ends the trainings with KeyboardInterrupt."""
        for run in self._runs:
            if not run_is_over(run, self._retry_failed):
                self._queue.put(run)
        total, waiting = len(self._runs), self._queue.qsize()
        self._say(f"{total - waiting} of {total} runs are done; {waiting} to go on {', '.join(self._devices)}")
        self._left, self._failures, self._seconds = waiting, 0, past_seconds(self._runs)
        errors: list[BaseException] = []
        threads = [threading.Thread(target=self._work, args=(device, errors), daemon=True) for device in self._devices]
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # raises KeyboardInterrupt
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.5)  # seconds; a join without a timeout would block Ctrl-C
        except KeyboardInterrupt:
            self._stopping.set()
            with self._guard:
                for child in self._children:
                    child.terminate()
            for thread in threads:  # until the locks are released, so that the command can be repeated at once
                thread.join()
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
        if errors:
            raise errors[0]
        return self._failures

    def _work(self, device: str, errors: list[BaseException]) -> None:
        """Train on one device until no run is left; put an error into ``errors``, as a thread would only print it."""
        try:
            while not self._stopping.is_set():
                run = self._queue.get_nowait()
                run.folder.mkdir(parents=True, exist_ok=True)
                with (run.folder / ".run.lock").open("w") as lock:
                    try:
                        lock_file(lock)
                    except BlockingIOError:
                        self._say(f"{run.name} seed {run.seed}: another runner has it")
                        self._count(None)
                        continue
                    if run_is_over(run, self._retry_failed):  # another runner has finished it
                        self._count(None)
                    else:
                        self._train(run, device, lock)
        except queue.Empty:
            return
        except BaseException as error:
            errors.append(error)

    def _train(self, run: PlannedRun, device: str, lock: IO) -> None:
        start = time.monotonic()
        if run.ended:  # started again: the old record must not be taken for the new one
            keep_previous(run.folder / RECORD)
        self._say(f"{run.name} seed {run.seed}: {run.max_iter} iterations on {device}, log {run.folder / CONSOLE}")
        with (run.folder / CONSOLE).open("ab") as console:
            child = subprocess.Popen(
                training_command(run, device),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=environment(device),
                **keep_in_child(lock),  # for as long as the training runs
            )
            with self._guard:
                self._children.add(child)
                if self._stopping.is_set():
                    child.terminate()
            status = child.wait()
            with self._guard:
                self._children.remove(child)
        if self._stopping.is_set():
            return
        if status in (EXIT_INTERRUPTED, -signal.SIGINT):  # interrupted from outside: no result to record
            self._count(None, failed=True)
            self._say(f"{run.name} seed {run.seed}: interrupted; the same command goes on with it")
            return
        record_outcome(run.folder, status)
        store_run(run.folder)
        if run.status == "finished":
            drop_intermediate_checkpoints(run.folder)
        self._count(time.monotonic() - start, failed=run.status == "failed")
        done, mean = len(self._runs) - self._left, sum(self._seconds) / max(len(self._seconds), 1)
        self._say(
            f"{run.name} seed {run.seed}: {outcome(run)}; {done} of {len(self._runs)} done, "
            f"about {clock(mean * self._left / len(self._devices))} left"
        )

    def _count(self, seconds: float | None, *, failed: bool = False) -> None:
        with self._guard:
            self._left -= 1
            self._failures += failed
            if seconds is not None:
                self._seconds.append(seconds)


def run_is_over(run: PlannedRun, retry_failed: bool = False) -> bool:
    """Return True for a run that finished, diverged or failed; False if it failed by a mistake in the setup."""
    record = read_record(run.folder) or RunRecord()
    if record.status == "failed":
        return not (retry_failed or record.setup_error)
    return record.status in ENDED


def training_command(run: PlannedRun, device: str) -> list[str]:
    """Return the command of a training, which works wherever the package is installed."""
    opts = [*run.opts, "SEED", str(run.seed), "OUTPUT_DIR", str(run.folder), "MODEL.DEVICE", device_name(device)]
    return [sys.executable, "-m", "retina_cli", "train", "--config-file", run.config_file, "--resume", *opts]


def device_name(device: str) -> str:
    return "cpu" if device == "cpu" else "cuda"


def environment(device: str) -> dict[str, str]:
    return os.environ | ({} if device == "cpu" else {"CUDA_VISIBLE_DEVICES": device})


def record_outcome(folder: Path, status: int) -> None:
    """Record a run as failed if its process died before it could write that itself."""
    record = read_record(folder)
    if record and record.status in ENDED and (status == 0) == (record.status == "finished"):
        return
    if status == EXIT_DIVERGED:
        return
    signalled = f"killed by signal {-status} (9 is what a machine out of memory sends); " if status < 0 else ""
    lines = (folder / CONSOLE).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:]
    reason = f"{signalled}exit status {status}: {' '.join(lines)}"
    setup = {SETUP_MARK: True} if not record or status == 2 else {}
    text = json.dumps({**(record.content if record else {}), "status": "failed", "reason": reason, **setup}, indent=2)
    write_whole(folder / RECORD, text + "\n")


def drop_intermediate_checkpoints(folder: Path) -> None:
    for path in folder.glob("model_*.pth"):
        if path.name != "model_final.pth":
            path.unlink()


def outcome(run: PlannedRun) -> str:
    """Describe a finished run by its AP and time, another one by its status and reason."""
    record = read_record(run.folder) or RunRecord("no record")
    if record.status != "finished":
        return f"{record.status}: {(record.reason or 'no reason recorded').splitlines()[0]}"
    ap, ap50 = (record.scores.get(name) or 0.0 for name in ("AP", "AP50"))
    return f"AP {ap:.1f}, AP50 {ap50:.1f} in {clock(record.wall_seconds or 0.0)}"


def past_seconds(runs: list[PlannedRun]) -> list[float]:
    records = [read_record(run.folder) or RunRecord() for run in runs]
    return [record.wall_seconds or 0.0 for record in records if record.status == "finished"]


def clock(seconds: float) -> str:
    """Format a duration: 1 h 02 min, 5 min or 42 s."""
    if seconds < 90:  # below a minute and a half, minutes are too coarse
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def shell_command(run: PlannedRun) -> str:
    """Return the command that repeats the run by hand."""
    opts = [*run.opts, "SEED", str(run.seed), "OUTPUT_DIR", str(run.folder)]
    return shlex.join(["python", "train_net.py", "--config-file", run.config_file, *opts])
