"""Every image file of a data set looked at, by several processes, with a cache so that a second call is quick."""

import multiprocessing
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from ...data.images import ImageHeader
from ...errors import SetupError
from .fingerprint import ImageLook, look_at

__all__ = ["LookCache", "default_cache", "scan_images"]

_CHUNK = 32  # files a process takes at once: about 0.1 s of work, so that handing them over costs nothing
# Raise it when ``look_at`` or the table changes: an older cache is begun again.
_CACHE_VERSION = 2
_COLUMNS = "path, bytes, mtime_ns, fault, mode, width, height, turned, digest, dhash, thumb"
_COMMIT_EVERY = 1000  # looks: what an interruption may lose


def default_cache() -> Path:
    """The file that all calls of this user share, by the XDG rule for caches."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "retina_plugin", "images.sqlite")


def scan_images(
    file_names: Sequence[str], *, jobs: int, cache: "LookCache | None" = None, quiet: bool = False
) -> dict[str, ImageLook]:
    """Look at local files; a file that is named twice is looked at once.

    Args:
        file_names: paths.
        jobs: processes, >= 1; with 1 the work is done in this one.
        cache: takes and gives what was found in files of the same path, size and time of change.
        quiet: show no progress.

    Raises:
        SetupError: a process died, which memory running out does.
    """
    names = list(dict.fromkeys(file_names))
    looks = cache.read(names) if cache else {}
    left = [name for name in names if name not in looks]
    jobs = min(jobs, -(-len(left) // _CHUNK))
    with tqdm(total=len(names), initial=len(looks), desc="images", unit="", disable=quiet or None) as bar:
        for name, look in _look_at_all(left, jobs):
            looks[name] = look
            if cache:
                cache.write(name, look)
            bar.update()
    if cache:
        cache.commit()
    return {name: looks[name] for name in names}


def _look_at_all(names: Sequence[str], jobs: int) -> Iterator[tuple[str, ImageLook]]:
    if jobs <= 1:
        yield from zip(names, map(look_at, names), strict=True)
        return
    # Spawned, because a fork of a process in which torch has threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            yield from zip(names, pool.map(look_at, names, chunksize=_CHUNK), strict=True)
        except BrokenProcessPool as error:
            raise SetupError(
                "A process that reads images died, perhaps for want of memory: try --jobs 1, which names the file."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


class LookCache:
    """What ``look_at`` found, in an SQLite file. One of another version is begun again."""

    def __init__(self, path: Path):
        """Open or make the file; where that cannot be, the scan goes on without a cache.

        Raises:
            SetupError: ``path`` is a file of another kind, which is left as it is.
        """
        self._connection = None
        self._pending = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._open(path)
        except (OSError, sqlite3.OperationalError):  # not writable, or held by another call
            return
        except sqlite3.DatabaseError as error:
            raise SetupError(
                f"{path} is no cache of images ({error}): delete it, or name another file with --cache."
            ) from error

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] != _CACHE_VERSION:
                connection.execute("DROP TABLE IF EXISTS doctor_looks")
                connection.execute(f"CREATE TABLE doctor_looks ({_COLUMNS.replace('path', 'path PRIMARY KEY', 1)})")
                connection.execute(f"PRAGMA user_version = {_CACHE_VERSION}")
                connection.commit()
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def read(self, names: Iterable[str]) -> dict[str, ImageLook]:
        """Looks at those of ``names`` whose files are what they were."""
        if self._connection is None:
            return {}
        looks = {}
        query = f"SELECT {_COLUMNS} FROM doctor_looks WHERE path = ?"
        try:
            for name in names:
                row = self._connection.execute(query, (os.path.abspath(name),)).fetchone()
                if row is not None and row[1:3] == _stamp(name):
                    fault, mode, width, height, turned, digest, dhash, thumb = row[3:]
                    header = ImageHeader(fault, mode, width, height, bool(turned))
                    looks[name] = ImageLook(header, digest, dhash, thumb)
        except sqlite3.Error:  # damaged further down: what was read before holds
            self._connection = None
        return looks

    def write(self, name: str, look: ImageLook) -> None:
        stamp = _stamp(name)
        if self._connection is None or stamp is None:
            return
        header = look.header
        row = (
            os.path.abspath(name), *stamp, header.fault, header.mode, header.width, header.height, header.turned,
            look.digest, look.dhash, look.thumb,
        )  # fmt: skip
        try:
            self._connection.execute(f"INSERT OR REPLACE INTO doctor_looks VALUES ({','.join('?' * len(row))})", row)
            self._pending += 1
            if self._pending >= _COMMIT_EVERY:
                self.commit()
        except sqlite3.Error:  # a full disk, or another call that writes: the result counts, not the cache
            self._connection = None

    def commit(self) -> None:
        self._pending = 0
        try:
            if self._connection is not None:
                self._connection.commit()
        except sqlite3.Error:
            self._connection = None


def _stamp(name: str) -> tuple[int, int] | None:
    """Size and time of change; None without a file."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
