"""Write files so that none appears under its name before it is complete."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["remove_parts", "write_csv", "write_durably", "write_json", "write_whole"]

# Suffix of a file that is being written.
PART = ".part"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``path`` (text as UTF-8); an existing file is replaced only once the new one is complete."""
    part = _part_of(path)
    try:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_durably(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Like ``write_whole``, but take a writer callback, and flush the file to the disk before returning."""
    part = _part_of(path)
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # before the rename, which a file system may otherwise do first
        os.replace(part, path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that every reader accepts; NaN raises a ValueError."""
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows as CSV; None becomes an empty cell, and floats keep 9 digits, enough for float32."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{cell:.9g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    write_whole(path, text.getvalue())


def remove_parts(folder: Path, suffix: str) -> list[Path]:
    """Remove the incomplete files (``suffix``) that killed processes left in ``folder``, and return their paths."""
    parts = sorted(folder.glob(f".*{suffix}.*{PART}"))
    for part in parts:
        part.unlink(missing_ok=True)
    return parts


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{PART}")


def _sync_folder(folder: Path) -> None:
    """Flush the names of a folder's files to the disk; does nothing on Windows, where a folder cannot be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
