"""The machine-readable record of a run: what was run, on what, and what came out."""

import json
import math
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from detectron2.config import CfgNode

import retina_plugin

from .config_file import config_difference, load_base_config

__all__ = ["RunRecord", "keep_previous"]

PACKAGES = ("torch", "torchvision", "fvcore", "numpy", "pillow", "pycocotools")


def keep_previous(path: Path) -> None:
    """Rename a file that is about to be written again to ``<stem>.<n><suffix>``, n counting up from 1."""
    if path.exists():
        n = 1
        while (kept := path.with_name(f"{path.stem}.{n}{path.suffix}")).exists():
            n += 1
        path.rename(kept)


class RunRecord:
    """Collects facts of a run and writes them as JSON; a run that fails leaves a record too."""

    def __init__(self, path: Path, cfg: CfgNode, config_file: str, *, resumed: bool):
        """
        Args:
            path: of the JSON file; an earlier one is kept beside it.
            cfg: the resolved config.
            config_file: the YAML it came from, "" for none.
            resumed: whether the run goes on from a checkpoint.
        """
        keep_previous(path)
        self._path = path
        self._start = time.time()
        changed = config_difference(cfg, load_base_config(config_file))
        self.facts = {
            "status": "running",
            "command": shlex.join([os.path.basename(sys.executable), *sys.argv]),
            "config_file": config_file,
            "difference_from_base": {key: value for key, (_, value) in changed.items()},
            "git": git_state(),
            "versions": versions(),
            "hardware": hardware(),
            "seed": cfg.SEED,
            "device": cfg.MODEL.DEVICE,
            "resumed": resumed,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._start)),
            "output_dir": cfg.OUTPUT_DIR,
        }
        self.write()

    def update(self, **facts) -> None:
        self.facts.update(facts)

    def finish(self, status: str, **facts) -> None:
        """Add the outcome ("finished", "diverged", "failed", "interrupted") and the costs, and write."""
        wall_seconds = round(time.time() - self._start, 1)
        self.update(status=status, **facts, wall_seconds=wall_seconds, peak_memory_mb=peak_memory_mb())
        self.write()

    def write(self) -> None:
        text = json.dumps(_plain(self.facts), indent=2, allow_nan=False)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, self._path)


def git_state() -> dict[str, str | bool] | None:
    """Commit of the plugin's checkout and whether files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        folder = os.path.dirname(retina_plugin.__file__)
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "retina_plugin": retina_plugin.__version__}
    import detectron2  # its redistributions have other names, so its own word counts

    found["detectron2"] = getattr(detectron2, "__version__", "unknown")
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def hardware() -> dict[str, str | int]:
    facts = {"machine": platform.machine(), "cpu": _cpu_name(), "cpu_threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        facts |= {"gpu": torch.cuda.get_device_name(), "num_gpus": torch.cuda.device_count()}
    return facts


def peak_memory_mb() -> dict[str, float]:
    """Peak resident memory of this process, and of the GPU where there is one, in MiB."""
    # Linux counts in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = {"process": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}
    if torch.cuda.is_available():
        peak["gpu"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _plain(value):
    """JSON has no NaN: a metric that could not be computed becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
