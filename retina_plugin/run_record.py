"""The machine-readable record of a run: command, config, data, hardware and results."""

import json
import math
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import detectron2
import torch
from detectron2.config import CfgNode

import retina_plugin

from .errors import SetupError, user_message
from .files import write_whole

try:
    import resource
except ImportError:  # Windows
    resource = None

__all__ = ["RunRecord", "check_output_dir", "keep_previous"]

PACKAGES = ("torchvision", "fvcore", "numpy", "pillow", "pycocotools")


def check_output_dir(folder: Path) -> None:
    """Check that ``folder`` can be written into, or created; nothing is created yet.

    Raises:
        SetupError: the folder or a parent is a file, or is not writable.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise SetupError(f"OUTPUT_DIR {folder}: {existing} is a file. Give a folder, or a new name.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SetupError(f"OUTPUT_DIR {folder}: {existing} is not writable. Give another, or fix its permissions.")


def keep_previous(path: Path) -> Path | None:
    """Rename an existing file to ``<stem>.<n><suffix>``, with the first free n from 1 on, and return its new path."""
    if not path.exists():
        return None
    n = 1
    while (kept := path.with_name(f"{path.stem}.{n}{path.suffix}")).exists():
        n += 1
    return path.rename(kept)


class RunRecord:
    """Context manager that writes facts about a run as JSON at its start and at its end, also after an error.

    The status is "finished", or "diverged" (FloatingPointError), "interrupted" (Ctrl-C, SIGTERM) or "failed", with the
    reason. ``wall_seconds`` is the time of this process plus ``earlier_seconds``, the time of the earlier parts of a
    resumed run, each up to its last checkpoint, so repeated iterations count once.
    """

    def __init__(self, path: Path | None, cfg: CfgNode, **facts):
        """
        Args:
            path: path of the JSON file; an earlier file is kept beside it. None, in other processes, writes nothing.
            cfg: the resolved config.
            facts: further entries that are known at the start.
        """
        self._path = path
        self._start = time.monotonic()  # unlike the time of day, it cannot be set back
        self.earlier_seconds = 0.0
        self.facts = {
            "status": "running",
            "git": git_state(),
            "versions": versions(),
            "hardware": hardware(),
            "seed": cfg.SEED,
            "device": cfg.MODEL.DEVICE,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "output_dir": cfg.OUTPUT_DIR,
            **facts,
        }
        if path:
            keep_previous(path)
            self._write()

    def __enter__(self) -> "RunRecord":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _) -> None:
        named = {FloatingPointError: "diverged", KeyboardInterrupt: "interrupted"}
        self.update(
            status=next((status for base, status in named.items() if issubclass(kind, base)), "failed")
            if kind
            else "finished",
            reason=user_message(error) if error else None,
            wall_seconds=round(self.earlier_seconds + time.monotonic() - self._start, 1),
            peak_memory_mb=peak_memory_mb(),
        )
        if self._path:
            self._write()

    def update(self, **facts) -> None:
        self.facts.update(facts)

    def _write(self) -> None:
        text = json.dumps(_plain(self.facts), indent=2, allow_nan=False)
        write_whole(self._path, text + "\n")


def git_state() -> dict[str, str | bool] | None:
    """Return the commit of the plugin's checkout, and True for uncommitted changes; None outside a checkout."""

    def git(*arguments: str) -> str:
        folder = os.path.dirname(retina_plugin.__file__)
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str | None]:
    found = {
        "python": platform.python_version(),
        "retina_plugin": retina_plugin.__version__,
        "detectron2": detectron2.__version__,  # redistributions have other package names
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def hardware() -> dict[str, str | int]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        cpu = platform.processor() or "unknown"
    facts = {"machine": platform.machine(), "cpu": cpu, "cpu_threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        facts |= {"gpu": torch.cuda.get_device_name(), "num_gpus": torch.cuda.device_count()}
    return facts


def peak_memory_mb() -> dict[str, float]:
    """Return the peak resident memory of this process, and of the GPU if there is one, in MiB."""
    peak = {}
    if resource:
        unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts in bytes, Linux in KiB
        peak["process"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    if torch.cuda.is_available():
        peak["gpu"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak


def _plain(value):
    """Convert to values that JSON can hold; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
