"""Short trainings that meet a fault, and go on with --resume: what the user saw, and what was lost.

    python tools/faults/whole_runs.py --output results/reliability/whole_runs.json

The fault happens for real before a given iteration: a worker is killed, files are deleted, a folder takes the place of
TensorBoard's file, a limit of the system that of a full disk. Weights are compared bit for bit with those of a run that
met nothing. Linux only.
"""

import argparse
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench import FAULT, MAX_WAIT, Bench
from detectron2.engine.hooks import PeriodicWriter
from many_processes import lost_process, lost_process_of_torchrun, machines_that_come_and_go
from records import end_with_rows, versions

from retina_plugin.errors import EXIT_SETUP
from retina_plugin.training.trainer import RetinaTrainer

NOBODY = 65534
SURVIVED_WHOLE = {"lost": "nothing; final weights identical"}


def at_iteration(act: Callable[[RetinaTrainer], None]) -> Callable[[], None]:
    """What makes ``act`` happen before iteration FAULT, to be called in the child."""

    def prepare() -> None:
        run_step = RetinaTrainer.run_step

        def sabotaged(trainer: RetinaTrainer) -> None:
            if trainer.iter == FAULT:
                act(trainer)
            run_step(trainer)

        RetinaTrainer.run_step = sabotaged

    return prepare


def kill_workers(_) -> None:
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGKILL)


def run_out_of_memory(trainer: RetinaTrainer) -> None:
    def fail(*_) -> None:
        handle.remove()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    handle = trainer.model.register_forward_pre_hook(fail)


def spoil_input(trainer: RetinaTrainer) -> None:
    def spoil(_, inputs: tuple) -> None:
        handle.remove()
        inputs[0][0]["image"] = inputs[0][0]["image"].float()
        inputs[0][0]["image"][0, 0, 0] = float("nan")

    handle = trainer.model.register_forward_pre_hook(spoil)


def fill_disk(_) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))  # a checkpoint is larger


def block_tensorboard(trainer: RetinaTrainer) -> None:
    for hook in trainer._hooks:
        if isinstance(hook, PeriodicWriter):  # which open their files when they first write
            for writer in hook._writers:
                writer.write()
    for file in Path(trainer.cfg.OUTPUT_DIR).glob("events.out*"):
        file.unlink()
        file.mkdir()  # nobody, not even root, writes into a folder as a file


def set_clock_back(_) -> None:
    time.time = lambda: 0.0


def stops(bench: Bench, name: str, act: Callable, *more: str, repair: Callable = lambda: None) -> dict:
    """A fault that ends the run; resumed, it must come to the same weights."""
    status, text = bench.run(name, *more, before=at_iteration(act))
    done = bench.done(name)
    repair()
    again, end = bench.run(name, *more)
    good = status not in (0, 99) and again == 0 and bench.same(name) and "Traceback" not in bench.seen(text)
    lost = f"{FAULT - done} iteration(s), done again; final weights {'identical' if good else 'NOT identical'}"
    return {
        "status": status,
        "lost": lost,
        "seen": bench.seen(text),
        "good": good,
        "log": "" if good else text[-2000:] + end[-500:],
    }


def goes_on(
    bench: Bench, name: str, act: Callable, *more: str, lost: str, judge: Callable[[str], bool], says: str = ""
) -> dict:
    """A fault that the run survives.

    Args:
        lost: what it costs, if ``judge`` finds the weights of the run as they should be.
        says: part of its message.
    """
    status, text = bench.run(name, *more, before=at_iteration(act))
    good = status == 0 and judge(name) and says in bench.seen(text)
    return {"status": status, "lost": lost if good else "more", "seen": bench.seen(text), "good": good,
            "log": "" if good else text[-2000:]}  # fmt: skip


def change_images(bench: Bench, change: Callable[[Path], object]) -> Callable:
    def act(_) -> None:
        for image in bench.images.iterdir():
            change(image)

    return act


def cut_short(image: Path) -> None:
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])


def read_only(bench: Bench, name: str) -> dict:
    (bench.folder / name).mkdir(mode=0o555)
    bench.folder.chmod(0o755)

    def become_nobody() -> None:
        os.setuid(NOBODY)  # root may write anywhere

    status, text = bench.run(name, before=become_nobody if os.getuid() == 0 else None)
    good = status == EXIT_SETUP and not list((bench.folder / name).iterdir())
    return {"status": status, "lost": "nothing: it did not begin", "seen": bench.seen(text), "good": good,
            "log": "" if good else text[-2000:]}  # fmt: skip


def clock(bench: Bench, name: str) -> dict:
    result = goes_on(bench, name, set_clock_back, **SURVIVED_WHOLE, judge=bench.same)
    record = json.loads((bench.folder / name / "run_record.json").read_text())
    return {**result, "seen": f"nothing; {record['wall_seconds']} s in the record", "good": result["good"]
            and 0 < record["wall_seconds"] < MAX_WAIT}  # fmt: skip


def cases(bench: Bench) -> dict[str, tuple[str, Callable[[str], dict]]]:
    workers = ("DATALOADER.NUM_WORKERS", "1")
    memory, nan = ("SOLVER.FAULTS.OUT_OF_MEMORY", "skip"), ("SOLVER.FAULTS.NONFINITE_LOSS", "skip")
    without_step = {"lost": "the step of this batch", "judge": lambda name: not bench.same(name)}
    return {
        "worker": ("process that reads images killed", lambda n: stops(bench, n, kill_workers, *workers)),
        "deleted": ("images deleted while training",
                    lambda n: stops(bench, n, change_images(bench, Path.unlink), repair=bench.restore_images)),
        "truncated": ("images cut short while training",
                      lambda n: stops(bench, n, change_images(bench, cut_short), repair=bench.restore_images)),
        "disk": ("disk full at a checkpoint (RLIMIT_FSIZE)", lambda n: stops(bench, n, fill_disk)),
        "memory": ("memory runs out at one batch", lambda n: stops(bench, n, run_out_of_memory)),
        "memory_skip": ("the same, OUT_OF_MEMORY skip",
                        lambda n: goes_on(bench, n, run_out_of_memory, *memory, **without_step)),
        "nan": ("NaN in an image, loss not finite", lambda n: stops(bench, n, spoil_input)),
        "nan_skip": ("the same, NONFINITE_LOSS skip", lambda n: goes_on(bench, n, spoil_input, *nan, **without_step)),
        "clock": ("clock set back to 1970", lambda n: clock(bench, n)),
        "read_only": ("OUTPUT_DIR read-only", lambda n: read_only(bench, n)),
        "tensorboard": ("TensorBoard's file cannot be written",
                        lambda n: goes_on(bench, n, block_tensorboard, **SURVIVED_WHOLE, judge=bench.same,
                                          says="goes on without")),
        "two": ("one of two processes killed", lambda n: lost_process(bench, n)),
        "torchrun": ("one of two processes killed under torchrun --max-restarts 1",
                     lambda n: lost_process_of_torchrun(bench, n)),
        "machines": ("a machine joins, is lost, and another joins (torchrun agents, --nnodes 1:2)",
                     lambda n: machines_that_come_and_go(bench, n)),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names, such as worker or nan; all without")
    parser.add_argument("--output", type=Path, help="JSON file of the rows; cases that were not run are kept in it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, taken = {}, versions()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for name, (fault, run) in cases(bench).items():
            if not args.cases or name in args.cases:
                command = f"tools/faults/whole_runs.py {name}"
                rows[name] = {"fault": fault, "tried": 1, **run(name), "command": command, **taken}
                print(json.dumps({name: rows[name]}, indent=1), flush=True)
    return end_with_rows(rows, args.output)


if __name__ == "__main__":
    sys.exit(main())
