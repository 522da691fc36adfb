"""Malformed inputs, each made by a small change to a good folder, with the exact message it must produce."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """``spoil`` changes a good folder ``set`` of ``kind`` (own_folders.WRITERS); paths are relative to its parent."""

    name: str
    kind: str
    spoil: Callable[[Path], object]
    message: str


def replace(file: str, old: str, new: str) -> Callable[[Path], object]:
    """A change of one text in a file, which must have it."""

    def spoil(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text, f"{file} has no {old!r}"
        (root / file).write_text(text.replace(old, new, 1))

    return spoil


def write(file: str, content: str | bytes) -> Callable[[Path], object]:
    """Another content of a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda root: (root / file).write_bytes(data)


def remove(file: str) -> Callable[[Path], object]:
    return lambda root: (root / file).unlink()
