"""The checkpoints of a folder as files: written whole, told whole from damaged, the older ones removed.

``torch.save`` writes a zip archive with a CRC-32 of each of its parts, which ``torch.load`` does not look at. Here it
is the checksum of a checkpoint: plain Detectron2 writes it too, and reads ours.
"""

import errno
import logging
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import torch

from ..errors import SetupError
from ..files import write_durably

__all__ = [
    "DISK_FULL", "FINAL", "damage", "last_named", "name_last", "newest_whole", "prune", "resume_candidates", "seed_of",
    "write_checkpoint",
]  # fmt: skip

logger = logging.getLogger(__name__)

LAST = "last_checkpoint"
# Of a periodic checkpoint (PeriodicCheckpointer) and of the last of a run; model_best.pth has no state to resume.
_NUMBERED = re.compile(r"model_(\d{7,})\.pth")
FINAL = "model_final.pth"
# What begins a zip archive; a file of torch before 1.6 begins otherwise, and has no checksum.
_ZIP = b"PK\x03\x04"
# Of an OSError: no space on the device, none in the user's quota, none in the process's limit.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_checkpoint(path: Path, content: dict) -> None:
    """``torch.save``, whole and on the disk, or not at all.

    Raises:
        SetupError: it cannot be written; what was there stays.
    """
    sizes: list[int] = []

    def write(file) -> None:
        try:
            torch.save(content, file)
        finally:
            sizes.append(file.tell())

    try:
        write_durably(path, write)
    except (OSError, RuntimeError) as error:  # torch wraps what the file says in a RuntimeError
        raise SetupError(_not_written(path, error, sizes)) from error


def _not_written(path: Path, error: Exception, sizes: list[int]) -> str:
    cause = error
    while not isinstance(cause, OSError) and (cause.__cause__ or cause.__context__):
        cause = cause.__cause__ or cause.__context__
    last = last_named(path.parent)
    kept = f"The last whole checkpoint is {last}" if last else "No checkpoint was written before"
    if isinstance(cause, OSError) and cause.errno not in DISK_FULL:
        remedy = "Mend that"
    else:
        free = shutil.disk_usage(path.parent).free / 2**20
        remedy = (
            f"The device has {free:.0f} MiB free; {sizes[-1] / 2**20 if sizes else 0:.0f} MiB were written. Free "
            "space, or set SOLVER.KEEP_CHECKPOINTS to keep only the last few"
        )
    reason = (isinstance(cause, OSError) and cause.strerror) or (str(cause).strip() or repr(cause)).splitlines()[0]
    return f"{path} could not be written: {reason}. {kept}. {remedy}, and go on with --resume."


def damage(path: Path) -> str:
    """What is wrong with a checkpoint, "" if its parts agree with their checksums.

    A file that is no zip archive has none, and passes if it is not empty.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
        if not start:
            return "it is empty"
        if start != _ZIP and not zipfile.is_zipfile(path):
            return "" if start.strip(b"\0") else "it begins with zeros"
        with zipfile.ZipFile(path) as archive:
            # torch.save packs nothing: a small file may else unpack to whatever time and memory it likes.
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                return "its parts are larger than the file, as in a packed archive, which torch.save does not write"
            if part := archive.testzip():
                return f"the checksum of its part {part} is wrong"
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # its headers: they have no checksum
    except FileNotFoundError:
        return "it is not there"
    except pickle.UnpicklingError:  # more than tensors, which the loader has to judge
        return ""
    except zipfile.BadZipFile:
        return "it is cut short or overwritten in part"
    except Exception as error:  # a header with other bytes makes zipfile and torch raise whatever they ask for
        return f"it cannot be read ({(str(error).strip() or repr(error)).splitlines()[0]})"
    return ""


def last_named(folder: Path) -> Path | None:
    """The file that ``last_checkpoint`` names, None where there is no such name."""
    try:
        name = (folder / LAST).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return folder / name if name.strip("\0") and Path(name).name == name else None


def name_last(folder: Path, name: str) -> None:
    """Have ``last_checkpoint`` name a checkpoint of the folder that is there already."""
    write_durably(folder / LAST, lambda file: file.write(name.encode("utf-8")))


def resume_candidates(folder: Path) -> list[Path]:
    """What a run may go on from, in order: the checkpoint named last, then those before it, the newest first.

    Without a name, which a run has from its first checkpoint on, those with a number.
    """
    by_age = _by_age(folder)
    if named := last_named(folder):
        return [named, *(by_age[by_age.index(named) + 1 :] if named in by_age else by_age)]
    return [path for path in by_age if path.name != FINAL]


def newest_whole(folder: Path, *, tell: bool = False) -> Path:
    """The first of ``resume_candidates`` that is whole; ``tell`` names those that are passed over in a warning.

    Raises:
        SetupError: there is none.
    """
    passed = []
    for path in resume_candidates(folder):
        if not (reason := damage(path)):
            if passed and tell:
                logger.warning("%s; going on from %s", "; ".join(passed), path)
            return path
        passed.append(f"{path} cannot be resumed from: {reason}")
    raise SetupError(
        f"--resume: {'; '.join(passed) or f'{folder} has no checkpoint'}. Start anew in another OUTPUT_DIR, or from "
        "weights with MODEL.WEIGHTS."
    )


def seed_of(folder: Path) -> int:
    """SEED of the run in a folder, by the checkpoint to resume from; -1 where it does not tell."""
    candidates = resume_candidates(folder)
    if not candidates:
        return -1
    try:
        content = torch.load(newest_whole(folder), map_location="cpu", weights_only=True, mmap=True)
        return content["train_order"]["seed"]
    except (KeyError, TypeError, RuntimeError, pickle.UnpicklingError):  # of Detectron2, or of an older format
        return -1


def prune(folder: Path, keep: int, newest: Path) -> None:
    """Remove the numbered checkpoints but the ``keep`` last up to ``newest``; 0 keeps all."""
    if keep <= 0:
        return
    numbered = [path for path in _by_age(folder) if _NUMBERED.fullmatch(path.name)]
    for path in numbered[numbered.index(newest) + keep :] if newest in numbered else []:
        path.unlink(missing_ok=True)


def _by_age(folder: Path) -> list[Path]:
    """The files of a folder that a run can go on from, by their names, the newest first."""
    numbered = {path: int(match[1]) for path in folder.glob("model_*.pth") if (match := _NUMBERED.fullmatch(path.name))}
    final = [folder / FINAL] if (folder / FINAL).is_file() else []
    return final + sorted(numbered, key=numbered.get, reverse=True)
