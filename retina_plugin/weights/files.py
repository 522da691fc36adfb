"""Write checkpoints atomically, find the newest undamaged one of a folder, and remove old ones."""

import errno
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm

from ..errors import SetupError, first_line
from ..files import write_durably
from ..reading import read_text
from .read import read_weights

__all__ = [
    "BEST", "DISK_FULL", "FINAL", "ResumePoint", "find_resume_point", "last_named", "name_last", "newest_checkpoint",
    "prune", "resume_candidates", "write_checkpoint",
]  # fmt: skip

LAST = "last_checkpoint"
# Names of periodic checkpoints (PeriodicCheckpointer) and of the last one of a run. model_best.pth cannot be resumed.
_NUMBERED = re.compile(r"model_(\d{7,})\.pth")
FINAL = "model_final.pth"
BEST = "model_best.pth"
# Error numbers for a full device, an exceeded quota and the process's file size limit.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_checkpoint(path: Path, content: dict) -> None:
    """Save ``content`` by ``torch.save``; the file is complete and on disk when this returns.

    Raises:
        SetupError: the file cannot be written; an earlier file of this name is kept.
    """
    written = 0

    def write(file) -> None:
        nonlocal written
        try:
            torch.save(content, file)
        finally:
            written = file.tell()

    try:
        write_durably(path, write)
    except (OSError, RuntimeError) as error:  # torch wraps file errors in a RuntimeError
        cause = error
        while not isinstance(cause, OSError) and (cause.__cause__ or cause.__context__):
            cause = cause.__cause__ or cause.__context__
        last = last_named(path.parent)
        kept = f"The last whole checkpoint is {last}" if last else "No checkpoint was written before"
        remedy = "Fix that"
        if not isinstance(cause, OSError) or cause.errno in DISK_FULL:
            free = shutil.disk_usage(path.parent).free
            remedy = (
                f"The device has {free / 2**20:.0f} MiB free; {written / 2**20:.0f} MiB were written. Free space, or "
                "set SOLVER.KEEP_CHECKPOINTS to keep only the last few"
            )
        reason = (isinstance(cause, OSError) and cause.strerror) or first_line(cause)
        raise SetupError(
            f"{path} could not be written: {reason}. {kept}. {remedy}, and go on with --resume."
        ) from error


def last_named(folder: Path) -> Path | None:
    """Return the path that ``last_checkpoint`` names; None if it names none."""
    try:
        name = read_text(folder / LAST, 4096).strip()
    except SetupError:
        return None
    return folder / name if name.strip("\0") and Path(name).name == name else None


def name_last(folder: Path, name: str) -> None:
    """Write the name of a checkpoint that the folder already contains into ``last_checkpoint``."""
    write_durably(folder / LAST, lambda file: file.write(name.encode("utf-8")))


def resume_candidates(folder: Path) -> list[Path]:
    """List the checkpoints to try on a resume: the one in ``last_checkpoint``, then older ones, newest first.

    Without ``last_checkpoint``, which a run writes with its first checkpoint, only numbered checkpoints count.
    """
    by_age = _by_age(folder)
    if named := last_named(folder):
        return [named, *(by_age[by_age.index(named) + 1 :] if named in by_age else by_age)]
    return [path for path in by_age if path.name != FINAL]


@dataclass
class ResumePoint:
    """The checkpoint from which a run resumes."""

    path: Path
    seed: int  # SEED of the run; -1 if the checkpoint lacks it
    iterations: int  # number of iterations done; 0 if the checkpoint lacks it
    passed_over: str  # newer checkpoints that are damaged, with the reason for each; "" if there are none
    content: dict[str, Any] | None  # content of the file, in the main process until it is taken; else None

    def take_content(self) -> dict[str, Any] | None:
        """Return ``content`` and drop the reference to it, so that its memory can be freed."""
        content, self.content = self.content, None
        return content


def find_resume_point(folder: Path, *, trust: bool = False) -> ResumePoint | None:
    """Read the first undamaged checkpoint of ``resume_candidates``; None without candidates.

    A collective call: the main process reads, and every process gets its result.

    Args:
        trust: as for ``read_weights``.

    Raises:
        SetupError: all candidates are damaged, or the first undamaged one contains more than weights and plain values.
    """
    found: ResumePoint | SetupError | None = None
    if comm.is_main_process():
        try:
            found = _read_newest_whole(folder, trust=trust)
        except SetupError as error:
            found = error
    shared = comm.all_gather(replace(found, content=None) if isinstance(found, ResumePoint) else found)[0]
    if isinstance(shared, SetupError):
        raise shared
    return found or shared


def _read_newest_whole(folder: Path, *, trust: bool) -> ResumePoint | None:
    passed = []
    for path in resume_candidates(folder):
        try:
            content = read_weights(str(path), trust=trust)
        except SetupError:
            raise
        except Exception as error:  # reading a damaged file can raise errors of any type
            passed.append(f"{path} cannot be resumed from: {first_line(error)}")
            continue
        order = content.get("train_order")  # Detectron2's checkpoints have none
        seed = order.get("seed", -1) if isinstance(order, dict) else -1
        last = content.get("iteration")
        done = last + 1 if isinstance(last, int) else 0
        return ResumePoint(path, seed, done, "; ".join(passed), content)
    if not passed:
        return None
    raise SetupError(
        f"--resume: {'; '.join(passed)}. Start again in another OUTPUT_DIR, or from a checkpoint in MODEL.WEIGHTS."
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of a run to use: the best by TEST.BEST_METRIC, else the last one; None without any."""
    best = folder / BEST
    return best if best.is_file() else next(iter(_by_age(folder)), None)


def prune(folder: Path, keep: int, newest: Path) -> None:
    """Keep ``newest`` and the ``keep`` - 1 numbered checkpoints before it, and remove older ones; 0 keeps all.

    fvcore's ``max_to_keep`` knows only the checkpoints of its own process, so a resumed run would keep older ones.
    """
    if keep <= 0:
        return
    numbered = [path for path in _by_age(folder) if _NUMBERED.fullmatch(path.name)]
    for path in numbered[numbered.index(newest) + keep :] if newest in numbered else []:
        path.unlink(missing_ok=True)


def _by_age(folder: Path) -> list[Path]:
    """List the checkpoints that can be resumed, by name, newest first."""
    numbered = {path: int(match[1]) for path in folder.glob("model_*.pth") if (match := _NUMBERED.fullmatch(path.name))}
    final = [folder / FINAL] if (folder / FINAL).is_file() else []
    return final + sorted(numbered, key=numbered.get, reverse=True)
