"""Kill -9 a short training again and again, resume it each time, and compare it with one that nobody killed.

    python tools/faults/kills.py --kills 50 --workers 2 --output results/reliability/kill_9_workers_2.json

Each kill is aimed at a random moment: of the whole run, or inside an iteration, a checkpoint or an evaluation. After
it every checkpoint that `last_checkpoint` has named must be whole and none may be gone; the run that is resumed to its
end must have the weights, optimizer, averages and best checkpoint of the straight one, bit for bit.
"""

import argparse
import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from detectron2.engine.hooks import EvalHook
from records import damage, end_with_record, versions

from retina_cli.main import main as retina
from retina_plugin.data.sample.files import make_sample_dataset
from retina_plugin.training.trainer import RetinaTrainer
from retina_plugin.weights.checkpointer import RetinaCheckpointer
from retina_plugin.weights.files import last_named

# What a training is doing, told by a byte of memory that it shares with its killer.
MOMENTS = ("start and end", "iteration", "checkpoint", "evaluation")
ITERATIONS = 8


def arguments(sample: Path, output: Path, workers: int) -> list[str]:
    return [
        "--resume", "--config-file", "configs/quickstart.yaml", "OUTPUT_DIR", str(output), "SEED", "3",
        "DATASETS.TRAIN_JSON", str(sample / "annotations/train.json"),
        "DATASETS.TRAIN_IMAGES", str(sample / "images/train"),
        "DATASETS.VAL_JSON", str(sample / "annotations/val.json"),
        "DATASETS.VAL_IMAGES", str(sample / "images/val"),
        "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", str(workers),
        "INPUT.MIN_SIZE_TRAIN", "(48,64,80)", "INPUT.MIN_SIZE_TEST", "64",
        "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.WARMUP_ITERS", "2",
        "SOLVER.STEPS", "(6,)", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.KEEP_CHECKPOINTS", "2",
        "SOLVER.EMA_DECAY", "0.5", "SOLVER.ACCUMULATION_STEPS", "2", "SOLVER.OPTIMIZER", "AdamW",
        "TEST.EVAL_PERIOD", "2", "TEST.LOSS_PERIOD", "2", "TEST.BEST_METRIC", "validation/total_loss",
    ]  # fmt: skip


def mark(owner: type, name: str, moment: int, memory: mmap.mmap) -> None:
    """Have a method of the child tell when it is at work."""
    method = getattr(owner, name)

    def marked(*args, **options):
        before = memory[0]
        memory[0] = moment
        try:
            return method(*args, **options)
        finally:
            memory[0] = before

    setattr(owner, name, marked)


def start(argv: list[str], log: Path, memory: mmap.mmap) -> int:
    """A training in a process forked from this one, which has imported everything; its id."""
    memory[0] = 0
    if pid := os.fork():
        return pid
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    mark(RetinaTrainer, "run_step", MOMENTS.index("iteration"), memory)
    mark(RetinaCheckpointer, "save", MOMENTS.index("checkpoint"), memory)
    mark(EvalHook, "_do_eval", MOMENTS.index("evaluation"), memory)
    status = 1
    try:
        status = retina(["train", *argv])
    finally:
        os._exit(status)


def wait(pid: int, seconds: float, memory: mmap.mmap, aim: str | None, times: int) -> bool:
    """Until the ``times``-th entry into ``aim``, or for ``seconds``; whether the process has ended by itself."""
    end, entered, before = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        now = memory[0]
        if now != before and aim and now == MOMENTS.index(aim):
            entered += 1
            if entered == times:
                time.sleep(random.random() * 0.05)
                return bool(os.waitpid(pid, os.WNOHANG)[0])
        before = now
        time.sleep(0.0005)
    return False


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        keys = one.keys() - {"WallTimeHook"}
        return keys == other.keys() - {"WallTimeHook"} and all(same(one[key], other[key]) for key in keys)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def differences(run: Path, straight: Path) -> list[str]:
    """What the end of a run does not share with the straight one's."""
    found = []
    for name in ("model_final.pth", "model_best.pth"):
        one, other = (torch.load(folder / name, weights_only=True) for folder in (run, straight))
        found += [f"{name}: {key}" for key in other if key not in one or not same(one[key], other[key])]
    history = [(folder / "best_metric.json").read_text() for folder in (run, straight)]
    return found + (["best_metric.json"] if history[0] != history[1] else [])


def lost(run: Path, before: Path | None) -> list[str]:
    """What is wrong with the checkpoints after a kill; ``before`` is what was named last before."""
    last = last_named(run)
    if last is None:
        return ["last_checkpoint is gone"] if before else []
    reason = damage(last)
    return [f"{last.name}: {reason}"] if reason else []


def series(args: argparse.Namespace, folder: Path) -> dict:
    memory = mmap.mmap(-1, 1)
    sample = make_sample_dataset(folder / "set", num_train=10, num_val=4)
    straight = folder / "straight"
    begun = time.monotonic()
    pid = start(arguments(sample, straight, args.workers), folder / "straight.log", memory)
    assert os.waitpid(pid, 0)[1] == 0, (folder / "straight.log").read_text()[-3000:]
    duration = time.monotonic() - begun
    kills, faults, finished, identical = Counter(), [], 0, 0
    end = begun + 60 * args.minutes
    while not finished or (sum(kills.values()) < args.kills and time.monotonic() < end):
        run = folder / f"run_{finished}"
        while True:
            before = last_named(run)
            pid = start(arguments(sample, run, args.workers), folder / f"run_{finished}.log", memory)
            spent = sum(kills.values()) >= args.kills or time.monotonic() >= end
            aim = random.choice([None, *MOMENTS[1:]])
            limit = 600 if spent else random.random() * duration if aim is None else duration
            if wait(pid, limit, memory, None if spent else aim, random.randint(1, 3)):
                break
            kills[MOMENTS[memory[0]]] += 1
            # The process alone, as an out-of-memory killer does, or with its workers, as a power cut.
            (os.killpg if random.random() < 0.5 else os.kill)(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            faults += lost(run, before)
        if not (run / "model_final.pth").is_file():
            faults.append(f"run {finished} failed: " + (folder / f"run_{finished}.log").read_text()[-2000:])
            break
        differing = differences(run, straight)
        faults += [f"run {finished}: {one}" for one in differing]
        identical += not differing
        finished += 1
    return {
        "fault": "kill -9 at a random moment",
        "kills": sum(kills.values()),
        "kills_by_moment": {name: kills[name] for name in MOMENTS},
        "runs_resumed_to_the_end": finished,
        "runs_bit_identical": identical,
        "faults": faults,
        "iterations": ITERATIONS,
        "workers": args.workers,
        "seed": args.seed,
        "seconds_of_straight_run": round(duration, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="so many, unless the minutes are over (default 50)")
    parser.add_argument("--workers", type=int, default=0, help="of the data loader (default 0)")
    parser.add_argument("--minutes", type=float, default=120, help="after which nothing more is killed (default 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=Path, help="JSON file of the figures; without it they are printed alone")
    args = parser.parse_args()
    taken = versions()
    random.seed(args.seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        record = {**series(args, Path(folder)), **taken}
    return end_with_record(record, args.output)


if __name__ == "__main__":
    sys.exit(main())
