"""Trainings of two processes that lose one: of the command line's, of torchrun's, and with a whole machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import ITERATIONS, MAX_WAIT, PERIOD, Bench, arguments

from retina_plugin.errors import EXIT_FAULT

ROOT = Path(__file__).parents[2]
# A run with time to lose a process in.
LONGER = ("SOLVER.MAX_ITER", str(4 * ITERATIONS))


@contextlib.contextmanager
def started(bench: Bench, name: str, *words: str) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A Python program with one thread a process, and its log, to which it appends; gone at the end, with all below."""
    log = bench.folder / f"{name}.log"
    # Without the last, agents of PyTorch 2.14 that meet for the second time wait for each other (docs/scale.md).
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
                   "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # fmt: skip
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, *words], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            kill_all(process)


def kill_all(process: subprocess.Popen) -> None:
    for pid in (*children(process.pid), process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def wait_until(found: Callable[[], bool], process: subprocess.Popen, what: str) -> float:
    """Seconds until something is there; an error where the process ends before, or MAX_WAIT is over."""
    begun = time.monotonic()
    while not found():
        if process.poll() is not None or time.monotonic() > begun + MAX_WAIT:
            raise RuntimeError(f"{what}: not within {time.monotonic() - begun:.0f} s, exit status {process.returncode}")
        time.sleep(0.1)
    return time.monotonic() - begun


def children(pid: int) -> list[int]:
    try:
        tasks = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:  # it has ended
        return []
    found = [int(child) for task in tasks for child in task.split()]
    return found + [below for child in found for below in children(child)]


def kill_newest(parent: int, mark: str) -> float:
    """Kill the process below ``parent`` with the highest id whose command has ``mark``; when."""
    processes = [pid for pid in children(parent) if mark in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(max(processes), signal.SIGKILL)
    return time.monotonic()


def lost_process(bench: Bench, name: str) -> dict:
    """One of two that the command line has started."""
    folder = bench.folder / name
    words = ("train_net.py", "--num-processes", "2", *arguments(bench.sample, folder, *LONGER))
    with started(bench, name, *words) as (process, log):
        wait_until((folder / "last_checkpoint").exists, process, "a checkpoint")
        killed = kill_newest(process.pid, "spawn_main")
        status = process.wait(MAX_WAIT)
        seconds = time.monotonic() - killed
    seen = bench.seen(log.read_text())
    with started(bench, name, *words, "SOLVER.MAX_ITER", str(bench.done(name) + 2)) as (process, log):
        resumed = process.wait(MAX_WAIT) == 0 and is_finished(folder)
    lost = f"{PERIOD} iterations at most; the other ended after {seconds:.1f} s; {'' if resumed else 'NOT '}resumed"
    return outcome(
        bench, log, status=status, good=status == EXIT_FAULT and seconds < 60 and resumed, lost=lost, seen=seen
    )


def lost_process_of_torchrun(bench: Bench, name: str) -> dict:
    """One of two on one machine, which torchrun starts again."""
    folder = bench.folder / name
    words = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1", "train_net.py")
    with started(bench, name, *words, *arguments(bench.sample, folder, *LONGER)) as (process, log):
        wait_until((folder / "last_checkpoint").exists, process, "a checkpoint")
        kill_newest(process.pid, "train_net.py")
        status = process.wait(MAX_WAIT)
    said = [line for line in log.read_text().splitlines() if "going on at iteration" in line]
    return outcome(bench, log, status=status, good=status == 0 and is_finished(folder) and bool(said),
                   lost=f"{PERIOD} iterations at most, done again",
                   seen=said[-1].split("]: ")[-1] if said else "")  # fmt: skip


def agent_words(bench: Bench, name: str) -> tuple[str, ...]:
    """An agent of torchrun that goes on with one process or two, and meets the other at a free port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return (
        "-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3",
        "--rdzv-backend", "c10d", "--rdzv-id", name, "--rdzv-endpoint", f"localhost:{port}", "--local-addr",
        "localhost", "train_net.py",
        *arguments(bench.sample, bench.folder / name, "SOLVER.MAX_ITER", str(10 * ITERATIONS)),
    )  # fmt: skip


def machines_that_come_and_go(bench: Bench, name: str) -> dict:
    """A second agent of torchrun joins one that trains, is killed with its process, and another joins in its place."""
    folder, words = bench.folder / name, agent_words(bench, name)
    seconds = []
    with started(bench, name, *words) as (stays, log):
        wait_until((folder / "last_checkpoint").exists, stays, "a checkpoint")

        def wait_for(number: int, times: int) -> None:
            mark = f"--resume with {number} processes"
            seconds.append(wait_until(lambda: log.read_text().count(mark) == times, stays, f"{mark}, {times} times"))
            done = bench.done(name)
            wait_until(lambda: bench.done(name) > done, stays, "another checkpoint")

        with started(bench, f"{name}_lost", *words) as (goes, _):
            wait_for(2, 1)
            kill_all(goes)
        wait_for(1, 1)
        with started(bench, f"{name}_again", *words) as (again, _):
            wait_for(2, 2)
            status = stays.wait(MAX_WAIT) or again.wait(MAX_WAIT)
    said = [line.split("]: ")[-1] for line in log.read_text().splitlines() if "--resume with" in line]
    joined, alone, joined_again = (f"{one:.0f} s" for one in seconds)
    lost = (
        f"joined: nothing, both trained {joined} later; lost: {PERIOD} iterations at most, done again by the other "
        f"{alone} later; joined again: nothing, {joined_again}"
    )
    good = status == 0 and is_finished(folder) and len(said) == 3
    return outcome(bench, log, status=status, good=good, lost=lost, seen=said[-1] if said else "")


def is_finished(folder: Path) -> bool:
    return (folder / "model_final.pth").exists()


def outcome(bench: Bench, log: Path, *, good: bool, **columns) -> dict:
    return {**columns, "good": good, "log": "" if good else bench.without_folder(log.read_text())[-3000:]}
