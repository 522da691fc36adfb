"""Read files that others made: regular files of a bounded size, without their content in a message."""

import contextlib
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import SetupError

__all__ = ["free_memory", "open_regular", "read_bytes", "read_text", "refuse_link"]

# A pipe opened without O_NONBLOCK waits for a writer; Windows has no such flag, and needs O_BINARY.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_CHUNK = 2**16


@contextlib.contextmanager
def open_regular(
    path: str | Path, max_bytes: float = math.inf, hint: str = "is it the right file?"
) -> Iterator[BinaryIO]:
    """Open a file for reading; errors of reading and decoding within the block become sentences too.

    Args:
        hint: end of the sentence about a file of more than ``max_bytes``.

    Raises:
        SetupError: it is missing, a folder, pipe or device, too large, not UTF-8, or cannot be read.
    """
    try:
        # Look before opening too: to open a device can do something.
        _refuse(path, os.stat(path), max_bytes, hint)
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | _FLAGS)) as file:
            _refuse(path, os.fstat(file.fileno()), max_bytes, hint)
            yield file
    except SetupError:
        raise
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except FileNotFoundError:
        raise SetupError(f"{path} does not exist.") from None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror or type(error).__name__}.") from error
    except ValueError as error:
        if "null byte" not in str(error) and not isinstance(error, UnicodeEncodeError):
            raise
        raise SetupError(f"{path} does not exist: no file can have this name.") from None


def read_bytes(path: str | Path, max_bytes: int, hint: str = "is it the right file?") -> bytes:
    """Read a whole file; the errors are those of ``open_regular``."""
    with open_regular(path, max_bytes, hint) as file:
        data = bytearray()
        while chunk := file.read(_CHUNK):
            data += chunk
            if len(data) > max_bytes:  # it grows, or lies in /proc, whose files have the size 0
                raise SetupError(f"{path} has more than {max_bytes} bytes: {hint}")
        return bytes(data)


def read_text(path: str | Path, max_bytes: int) -> str:
    """Read a UTF-8 file, with or without a byte order mark; the errors are those of ``open_regular``."""
    try:
        return read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not UTF-8 text: save it as UTF-8.") from None


def _refuse(path: str | Path, status: os.stat_result, max_bytes: float, hint: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise SetupError(f"{path} is a folder: name a file.")
    if not stat.S_ISREG(status.st_mode):
        raise SetupError(f"{path} is not a regular file, but a pipe, a socket or a device: nothing of it was read.")
    if status.st_size > max_bytes:
        raise SetupError(f"{path} has {status.st_size} bytes, the limit is {max_bytes}: {hint}")


def refuse_link(path: str | Path) -> None:
    """Refuse a link in place of a file that others made: it may lead to any file, whose text a message could show."""
    if os.path.islink(path):
        raise SetupError(f"{path} is a link, which may lead out of its folder: put the file itself there.")


def free_memory() -> float:
    """Return the bytes of memory that can still be used, with swap and within the container; infinity if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
        free: float = 1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"])
    except (OSError, ValueError, KeyError, IndexError):
        free = math.inf
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
        limit, used = (int((group / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        cache = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
        free = min(free, limit - used + (int(cache[1]) if cache else 0))
    return free
