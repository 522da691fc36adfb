"""Locks on open files, by ``fcntl`` on POSIX and by ``msvcrt`` on Windows, and a child process that keeps one."""

import os
import time
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # POSIX
    msvcrt = None

__all__ = ["keep_in_child", "lock_file"]

# Windows locks a range of bytes, and nobody else may read it: this byte is behind the content of any lock file.
LOCKED_BYTE = 2**30
WAIT_SECONDS = 0.1  # between two tries on Windows, which gives up after ten seconds by itself


def lock_file(file: IO, *, wait: bool = False, per_process: bool = False) -> None:
    """Lock an open file until it is closed; the system releases the lock of a killed process too.

    Args:
        wait: wait until the lock is free.
        per_process: children that inherit the file do not hold the lock (a POSIX record lock). Otherwise on POSIX they
            do, see ``keep_in_child``; on Windows they never do.

    Raises:
        BlockingIOError, PermissionError: another process holds it (POSIX allows both).
        OSError: the file system, or the Python, has no locks.
    """
    if fcntl:
        lock = fcntl.lockf if per_process else fcntl.flock
        lock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return
    if not msvcrt:
        raise OSError(0, "this Python has neither fcntl nor msvcrt")
    while True:
        os.lseek(file.fileno(), LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return
        except OSError:
            if not wait:
                raise BlockingIOError(f"{file.name} is locked by another process") from None
            time.sleep(WAIT_SECONDS)
        finally:
            os.lseek(file.fileno(), 0, os.SEEK_SET)


def keep_in_child(file: IO) -> dict[str, Any]:
    """Return arguments of ``subprocess.Popen`` by which the child keeps the lock too; {} on Windows, which cannot."""
    return {"pass_fds": [file.fileno()]} if fcntl else {}
