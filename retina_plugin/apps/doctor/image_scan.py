"""Scans all image files of a data set in several processes, with a cache that makes a second call quick."""

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
from .fingerprint import ImageScan, scan_image

__all__ = ["ScanCache", "default_cache", "scan_images"]

_CHUNK = 32  # files a process takes at once: about 0.1 s of work, so that passing them on costs little
# To be raised when ``scan_image`` or the table changes; a cache of an older version is emptied.
_CACHE_VERSION = 2
_COLUMNS = "path, bytes, mtime_ns, fault, mode, width, height, turned, digest, dhash, thumb"
_COMMIT_EVERY = 1000  # scans; an interruption loses at most these


def default_cache() -> Path:
    """Return the cache file of this user, at the place that the XDG standard gives."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "retina_plugin", "images.sqlite")


def scan_images(
    file_names: Sequence[str], *, jobs: int, cache: "ScanCache | None" = None, quiet: bool = False
) -> dict[str, ImageScan]:
    """Scan local files; a file that is named twice is scanned once.

    Args:
        file_names: paths.
        jobs: number of processes, >= 1; with 1 this process does the work.
        cache: holds earlier scans, valid for files with the same path, size and modification time.
        quiet: show no progress.

    Raises:
        SetupError: a process died, for instance because memory ran out.
    """
    names = list(dict.fromkeys(file_names))
    scans = cache.read(names) if cache else {}
    left = [name for name in names if name not in scans]
    jobs = min(jobs, -(-len(left) // _CHUNK))
    with tqdm(total=len(names), initial=len(scans), desc="images", unit="", disable=quiet or None) as bar:
        for name, scan in _scan_all(left, jobs):
            scans[name] = scan
            if cache:
                cache.write(name, scan)
            bar.update()
    if cache:
        cache.commit()
    return {name: scans[name] for name in names}


def _scan_all(names: Sequence[str], jobs: int) -> Iterator[tuple[str, ImageScan]]:
    if jobs <= 1:
        yield from zip(names, map(scan_image, names), strict=True)
        return
    # Spawn: forking a process in which torch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            yield from zip(names, pool.map(scan_image, names, chunksize=_CHUNK), strict=True)
        except BrokenProcessPool as error:
            raise SetupError(
                "A process that reads images died, perhaps because memory ran out: try --jobs 1, which names the file."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


class ScanCache:
    """Results of ``scan_image`` in an SQLite file, which is emptied if it is of another version."""

    def __init__(self, path: Path):
        """Open or create the file; if that fails, the scan goes on without a cache.

        Raises:
            SetupError: ``path`` is a file of another kind, which is not changed.
        """
        self._connection = None
        self._pending = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
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
            self._connection = connection
        except (OSError, sqlite3.OperationalError):  # not writable, or locked by another call
            return
        except sqlite3.DatabaseError as error:
            raise SetupError(
                f"{path} is not a cache of images ({error}): delete it, or name another file with --cache."
            ) from error

    def read(self, names: Iterable[str]) -> dict[str, ImageScan]:
        """Return the cached scans of those files among ``names`` that did not change since."""
        if self._connection is None:
            return {}
        scans = {}
        query = f"SELECT {_COLUMNS} FROM doctor_looks WHERE path = ?"
        try:
            for name in names:
                row = self._connection.execute(query, (os.path.abspath(name),)).fetchone()
                if row is not None and row[1:3] == _stamp(name):
                    fault, mode, width, height, turned, digest, dhash, thumb = row[3:]
                    header = ImageHeader(fault, mode, width, height, bool(turned))
                    scans[name] = ImageScan(header, digest, dhash, thumb)
        except sqlite3.Error:  # damaged further down: the rows read so far are valid
            self._connection = None
        return scans

    def write(self, name: str, scan: ImageScan) -> None:
        stamp = _stamp(name)
        if self._connection is None or stamp is None:
            return
        header = scan.header
        row = (
            os.path.abspath(name), *stamp, header.fault, header.mode, header.width, header.height, header.turned,
            scan.digest, scan.dhash, scan.thumb,
        )  # fmt: skip
        try:
            self._connection.execute(f"INSERT OR REPLACE INTO doctor_looks VALUES ({','.join('?' * len(row))})", row)
            self._pending += 1
            if self._pending >= _COMMIT_EVERY:
                self.commit()
        except sqlite3.Error:  # a full disk, or another call is writing: go on without the cache
            self._connection = None

    def commit(self) -> None:
        self._pending = 0
        try:
            if self._connection is not None:
                self._connection.commit()
        except sqlite3.Error:
            self._connection = None


def _stamp(name: str) -> tuple[int, int] | None:
    """Return a file's size and modification time; None if it does not exist."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
