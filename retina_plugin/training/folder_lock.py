"""Allow only one training at a time in an OUTPUT_DIR."""

import json
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

from ..errors import SetupError
from ..files import remove_parts
from ..locks import lock_file

__all__ = ["FolderLock"]

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"


class FolderLock:
    """Lock a folder for this process until the context or the process ends.

    The kernel releases the lock when the process ends, even after kill -9, so no stale lock remains; and data loader
    workers that outlive the process do not hold it (a POSIX record lock). If there are no locks, a warning says so.
    """

    def __init__(self):
        self._file = None

    def hold(self, folder: Path) -> None:
        """Lock the folder, once: create it if needed, and remove files that killed processes left half written.

        Raises:
            SetupError: another process trains in it, or it cannot be written to.
        """
        if self._file:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Open the file only once: closing any descriptor of it would release the record lock.
            self._file = (folder / LOCK_FILE).open("a+", encoding="utf-8")
        except OSError as error:
            raise SetupError(f"OUTPUT_DIR {folder} cannot be written to: {error.strerror}. Give another.") from error
        try:
            lock_file(self._file, per_process=True)
        except (BlockingIOError, PermissionError) as error:  # POSIX allows both
            try:
                self._file.seek(0)
                signature = json.loads(self._file.read())
                holder = f"process {signature['pid']} on {signature['host']}"
            except (ValueError, KeyError, TypeError):  # it has the lock, but has not written its name yet
                holder = "another process"
            self._file.close()
            self._file = None  # it holds nothing
            raise SetupError(
                f"OUTPUT_DIR {folder} is in use by {holder}. Wait for it, stop it, or give another OUTPUT_DIR."
            ) from error
        except OSError as error:
            logger.warning("%s cannot be locked (%s): start no second training in it", folder, error.strerror)
            return
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        self._file.flush()
        for part in remove_parts(folder, ".pth"):
            logger.info("removed %s, which a killed process had not finished writing", part.name)

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file:
            self._file.close()
