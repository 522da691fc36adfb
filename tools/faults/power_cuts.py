"""Cut the power, in a model of a disk, after each operation of a run's checkpoints: is there one to resume from?

    python tools/faults/power_cuts.py --output results/reliability/power_cuts.json

What a process writes reaches a disk when it is flushed, and may before; until a folder is flushed, any of its renames
and removals may have reached it without the others. The script records what `RetinaCheckpointer` and the history of the
best metric ask the system for, and lays out every folder that a cut after each operation may leave.
"""

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from records import damage, end_with_record, versions

from retina_plugin.errors import SetupError
from retina_plugin.training.hooks.best_checkpoint import HISTORY_FILE, MetricHistory
from retina_plugin.weights.checkpointer import RetinaCheckpointer
from retina_plugin.weights.files import find_resume_point, last_named

SAVES = 4
# Renames and removals that wait for a folder's flush: of the last so many every choice is laid out, of others none.
MAX_WAITING = 6


class Disk:
    """The operations on the files of a folder, in their order."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.operations: list[tuple] = []  # (kind, name, ...)
        self._flushed: dict[int, bytes] = {}  # inode -> content

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        fsync, replace, unlink = os.fsync, os.replace, os.unlink

        def on_fsync(descriptor: int) -> None:
            fsync(descriptor)
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if path.is_dir():
                self.operations.append(("flush",))
            else:
                self._flushed[path.stat().st_ino] = path.read_bytes()

        def on_replace(source: Path, target: Path) -> None:
            flushed = self._flushed.get(Path(source).stat().st_ino)
            replace(source, target)
            content = Path(target).read_bytes()
            # The length of a file may be there before its bytes are.
            safe = content if flushed == content else bytes(len(content) // 2)
            self.operations.append(("rename", Path(target).name, safe))

        def on_unlink(path: Path, **options) -> None:
            self._flushed.pop(Path(path).stat().st_ino if Path(path).exists() else None, None)
            unlink(path, **options)
            if not Path(path).name.startswith("."):  # else a part, whose name does no harm
                self.operations.append(("remove", Path(path).name))

        with mock.patch.multiple(os, fsync=on_fsync, replace=on_replace, unlink=on_unlink):
            yield

    def after_cut(self, number: int) -> Iterator[dict[str, bytes]]:
        """The folders, name -> content, that a cut after so many operations may leave."""
        done: dict[str, bytes] = {}
        waiting: list[tuple] = []
        for operation in self.operations[:number]:
            if operation[0] == "flush":
                for one in waiting:
                    _apply(done, one)
                waiting = []
            else:
                waiting.append(operation)
        waiting = waiting[-MAX_WAITING:]
        for size in range(len(waiting) + 1):
            for chosen in itertools.combinations(waiting, size):
                left = dict(done)
                for one in chosen:
                    _apply(left, one)
                yield left


def _apply(files: dict[str, bytes], operation: tuple) -> None:
    if operation[0] == "rename":
        files[operation[1]] = operation[2]
    else:
        files.pop(operation[1], None)


def run(folder: Path, keep: int) -> tuple[Disk, list[int]]:
    """A run's writes; after how many operations each of its SAVES was done."""
    disk, done = Disk(folder), []
    model = torch.nn.Linear(5, 3)
    checkpointer = RetinaCheckpointer(model, str(folder), keep=keep)
    best = RetinaCheckpointer(model, str(folder), tag_last=False)
    history = MetricHistory("bbox/AP", folder / HISTORY_FILE)
    with disk.recording():
        for i in range(SAVES):
            model.bias.data.fill_(i)
            checkpointer.save(f"model_{i:07d}", iteration=i)
            history.add(i, float(i), lambda i, _: best.save("model_best", iteration=i))
            done.append(len(disk.operations))
    return disk, done


def judge(folder: Path, saved: int) -> list[str]:
    """What a folder lacks of a run that had noted ``saved`` checkpoints before the power went."""
    wrong = []
    named = last_named(folder)
    if named and damage(named):
        wrong.append(f"last_checkpoint names {named.name}: {damage(named)}")
    if saved:
        try:
            newest = find_resume_point(folder)
            if newest is None:
                wrong.append("no checkpoint is left")
            elif newest.content["iteration"] < saved - 1:
                wrong.append(f"{newest.path.name} is older than checkpoint {saved - 1}, which was done")
        except SetupError as error:
            wrong.append(str(error))
    history = MetricHistory("bbox/AP", folder / HISTORY_FILE)
    try:
        history.restore(SAVES)
    except SetupError as error:
        wrong.append(str(error))
    best = folder / "model_best.pth"
    if len(history.values) < saved:
        wrong.append(f"{HISTORY_FILE} has {len(history.values)} values of {saved}")
    if history.values and (damage(best) or torch.load(best, weights_only=True)["iteration"] < history.best()[0]):
        wrong.append("model_best.pth is older than the history tells")
    return wrong


def cut_everywhere(keep: int) -> tuple[int, list[str]]:
    """How many folders were judged, and what was wrong."""
    tried, faults = 0, []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "run")
        work.mkdir()
        disk, done = run(work, keep)
        for number in range(len(disk.operations) + 1):
            saved = sum(end <= number for end in done)
            for files in disk.after_cut(number):
                left = Path(folder, f"left_{tried}")
                left.mkdir()
                for name, content in files.items():
                    (left / name).write_bytes(content)
                faults += [f"keep {keep}, operation {number}: {one}" for one in judge(left, saved)]
                tried += 1
    return tried, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the figures; without it they are printed alone")
    args = parser.parse_args()
    taken = versions()
    results = [cut_everywhere(keep) for keep in (0, 1, 2)]
    faults = [fault for _, found in results for fault in found]
    record = {"fault": "power cut while checkpoints are written, in a model of the disk",
              "cases": sum(tried for tried, _ in results), "faults": faults, **taken}  # fmt: skip
    return end_with_record(record, args.output)


if __name__ == "__main__":
    sys.exit(main())
