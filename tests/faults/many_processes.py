"""Trainings of two processes that lose one: of the command line's, of torchrun's, and with a whole machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from bench import ITERATIONS, MAX_WAIT, PERIOD, Bench, arguments

from retina_plugin.engine import cli

ROOT = Path(__file__).parents[2]
# A run with time to lose a process in.
LONGER = ("SOLVER.MAX_ITER", str(4 * ITERATIONS))


def start(bench: Bench, name: str, *words: str) -> tuple[subprocess.Popen, Path]:
    """A Python program with one thread a process, and its log, to which it appends."""
    log = bench.folder / f"{name}.log"
    # Without the last, agents of PyTorch 2.14 that meet for the second time wait for each other (docs/scale.md).
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
                   "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # fmt: skip
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, *words], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
        )
    return process, log


def wait_for_checkpoint(folder: Path) -> None:
    until = time.monotonic() + MAX_WAIT
    while not (folder / "last_checkpoint").exists() and time.monotonic() < until:
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    found = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return found + [below for child in found for below in children(child)]


def kill_last(parent: int, mark: str) -> float:
    """Kill the last started process below ``parent`` whose command has ``mark``; when."""
    processes = [pid for pid in children(parent) if mark in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(sorted(processes)[-1], signal.SIGKILL)
    return time.monotonic()


def lost_process(bench: Bench, name: str) -> dict:
    """One of two that the command line has started."""
    folder = bench.folder / name
    words = ("train_net.py", "--num-processes", "2", *arguments(bench.sample, folder, *LONGER))
    process, log = start(bench, name, *words)
    wait_for_checkpoint(folder)
    killed = kill_last(process.pid, "spawn_main")
    status = process.wait(MAX_WAIT)
    seconds = time.monotonic() - killed
    again, _ = start(bench, name, *words, "SOLVER.MAX_ITER", str(bench.done(name) + 2))
    good = status == cli.EXIT_FAULT and seconds < 60 and again.wait(MAX_WAIT) == 0 and is_finished(folder)
    lost = f"{PERIOD} iterations at most; the other ended after {seconds:.1f} s; resumed"
    return outcome(bench, log, status=status, good=good, lost=lost, seen=bench.seen(log.read_text()))


def lost_process_of_torchrun(bench: Bench, name: str) -> dict:
    """One of two on one machine, which torchrun starts again."""
    folder = bench.folder / name
    words = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1", "train_net.py")
    process, log = start(bench, name, *words, *arguments(bench.sample, folder, *LONGER))
    wait_for_checkpoint(folder)
    kill_last(process.pid, "train_net.py")
    status = process.wait(MAX_WAIT)
    return outcome(bench, log, status=status, good=status == 0 and is_finished(folder),
                   lost=f"{PERIOD} iterations at most, done again",
                   seen="torchrun's report of the killed process; the training went on to its end")  # fmt: skip


def agent_words(bench: Bench, name: str) -> tuple[str, ...]:
    """An agent of torchrun that goes on with one process or two, and meets the other at a free port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return (
        "-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3",
        "--rdzv-backend", "c10d", "--rdzv-id", name, "--rdzv-endpoint", f"localhost:{port}", "--local-addr",
        "localhost", "train_net.py", *arguments(bench.sample, bench.folder / name, *LONGER),
    )  # fmt: skip


def lost_machine(bench: Bench, name: str) -> dict:
    """One of two agents of torchrun, killed with its process; the other goes on alone."""
    words = agent_words(bench, name)
    stays, log = start(bench, name, *words)
    time.sleep(3)  # the first agent is the one that all meet at
    goes, _ = start(bench, f"{name}_lost", *words)
    wait_for_checkpoint(bench.folder / name)
    for pid in (goes.pid, *children(goes.pid)):
        os.kill(pid, signal.SIGKILL)
    goes.wait()
    return other_number(
        bench, name, stays, log, processes=1, lost=f"{PERIOD} iterations at most, done again by one process"
    )


def joining_machine(bench: Bench, name: str) -> dict:
    """An agent of torchrun that joins one which trains alone: that stops with a checkpoint, and both go on from it."""
    words = agent_words(bench, name)
    stays, log = start(bench, name, *words)
    wait_for_checkpoint(bench.folder / name)
    joins, _ = start(bench, f"{name}_joining", *words)
    result = other_number(bench, name, stays, log, processes=2, lost="nothing; gone on by two processes")
    joins.wait(MAX_WAIT)
    return result


def other_number(bench: Bench, name: str, agent: subprocess.Popen, log: Path, *, processes: int, lost: str) -> dict:
    """Wait until the training of an agent goes on with another number of processes, and for its end."""
    begun = time.monotonic()
    while f"World size: {processes}" not in log.read_text() and time.monotonic() < begun + MAX_WAIT:
        time.sleep(0.1)
    seconds = time.monotonic() - begun
    while not is_finished(bench.folder / name) and agent.poll() is None:
        time.sleep(0.1)
    if processes == 1:
        agent.terminate()  # at its end it waits five minutes for the agent that is gone
    agent.wait(MAX_WAIT)
    said = [line for line in log.read_text().splitlines() if f"with {processes} processes" in line]
    return outcome(bench, log, status=0, good=is_finished(bench.folder / name) and bool(said),
                   lost=f"{lost}, which began {seconds:.0f} s later",
                   seen=said[-1].split("]: ")[-1] if said else "")  # fmt: skip


def is_finished(folder: Path) -> bool:
    return (folder / "model_final.pth").exists()


def outcome(bench: Bench, log: Path, *, good: bool, **columns) -> dict:
    return {**columns, "good": good, "log": "" if good else bench.without_folder(log.read_text())[-3000:]}
