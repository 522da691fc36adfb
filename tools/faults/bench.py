"""What whole_runs.py needs: a data set, a run that met nothing, and children that run the command line."""

import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from retina_cli.main import main as retina
from retina_plugin.data.sample.files import make_sample_dataset

# Words of the warnings of a run that goes on.
SURVIVED = (": skipped iteration", "It is taken in", "goes on without")
MAX_WAIT = 600  # seconds for one run
ITERATIONS, PERIOD, FAULT = 12, 2, 5  # the fault comes in the sixth iteration, one after a checkpoint


def arguments(sample: Path, output: Path, *more: str) -> list[str]:
    return [
        "--config-file", "configs/quickstart.yaml", "--resume", "OUTPUT_DIR", str(output), "SEED", "3",
        "DATASETS.TRAIN_JSON", str(sample / "annotations/train.json"),
        "DATASETS.TRAIN_IMAGES", str(sample / "images/train"),
        "DATASETS.VAL_JSON", str(sample / "annotations/val.json"),
        "DATASETS.VAL_IMAGES", str(sample / "images/val"),
        "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MIN_SIZE_TEST", "64",
        "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.WARMUP_ITERS", "2",
        "SOLVER.CHECKPOINT_PERIOD", str(PERIOD), *more,
    ]  # fmt: skip


class Bench:
    """A folder with a data set and the weights of a run that met nothing."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.sample = make_sample_dataset(folder / "set", num_train=10, num_val=4)
        self.images = self.sample / "images/train"
        shutil.copytree(self.images, folder / "images")
        status, text = self.run("straight")
        if status:
            raise RuntimeError(f"the run without a fault failed: {text[-3000:]}")

    def run(self, name: str, *more: str, before: Callable | None = None) -> tuple:
        """Exit status and output of a child; ``before`` is called in it first."""
        log = self.folder / f"{name}.log"
        pid = os.fork()
        if pid == 0:
            os.setsid()
            file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
            os.dup2(file, 1)
            os.dup2(file, 2)
            status = 99
            try:
                if before:
                    before()
                status = retina(["train", *arguments(self.sample, self.folder / name, *more)])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status, log.read_text(errors="replace")

    def restore_images(self) -> None:
        shutil.copytree(self.folder / "images", self.images, dirs_exist_ok=True)

    def done(self, name: str) -> int:
        """Iterations in the last checkpoint."""
        last = self.folder / name / "last_checkpoint"
        return torch.load(last.with_name(last.read_text()), weights_only=True)["iteration"] + 1 if last.exists() else 0

    def same(self, name: str) -> bool:
        """Whether the weights are those of the run without a fault."""
        first, second = (
            torch.load(self.folder / run / "model_final.pth", weights_only=True)["model"] for run in ("straight", name)
        )
        return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)

    def seen(self, text: str) -> str:
        """The message of a run, without this folder's name."""
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        lines += [line for line in text.splitlines() if any(words in line for words in SURVIVED)]
        return self.without_folder((lines or text.strip().splitlines() or [""])[-1].split("]: ")[-1])

    def without_folder(self, text: str) -> str:
        return text.replace(str(self.folder), "...")
