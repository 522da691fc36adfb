"""The paths that the files of a data set may name: inside its folders, in one line (docs/security.md).

``bounded_by`` puts a bound in force while a set is read: ``check_named`` and ``open_named`` keep to it in every format.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import SetupError
from ..reading import open_regular

__all__ = ["bounded_by", "check_named", "open_named", "refuse_line_breaks", "refuse_outside"]

_REMEDY = "DATASETS.ALLOW_OUTSIDE_PATHS True (--allow-outside) if it is meant."


class _Inside:
    """Whether a path lies in one of several folders, as it is written or on the disk."""

    def __init__(self, folders: Iterable[str | Path]):
        self.folders = [str(folder) for folder in folders]
        local = [folder for folder in self.folders if not _is_address(folder)]
        self.addresses = tuple(folder.rstrip("/") + "/" for folder in self.folders if _is_address(folder))
        # Each folder with the number of its own "..", which a path in it repeats.
        self.written = [(os.path.join(os.path.abspath(folder), ""), _steps_up(folder)) for folder in local]
        self.real = tuple(os.path.join(os.path.realpath(folder), "") for folder in local)
        self.shown = " and ".join(dict.fromkeys([*self.addresses, *(folder for folder, _ in self.written)]))

    def __call__(self, path: str) -> bool:
        up = _steps_up(path)
        if _is_address(path):
            return path.startswith(self.addresses) and not up
        absolute = os.path.join(os.path.abspath(path), "")  # the folder itself is inside
        if any(absolute.startswith(folder) and up <= own for folder, own in self.written):
            return True
        try:
            return os.path.join(os.path.realpath(path), "").startswith(self.real)
        except ValueError:  # a null byte, or half a surrogate pair
            return False


class _Bound(NamedTuple):
    inside: _Inside
    source: str


_bound: ContextVar[_Bound | None] = ContextVar("bound of the data set that is read", default=None)


def _is_address(path: str | Path) -> bool:
    """Tell an address that Detectron2 fetches, ``https://...``, from a path with a folder ``x:`` in it."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(path)) is not None


def _steps_up(path: str) -> int:
    return re.split(r"[/\\]", path).count("..")


@contextlib.contextmanager
def bounded_by(roots: Iterable[str | Path], source: str, *, allow_outside: bool) -> Iterator[None]:
    """While a data set is read, let ``check_named`` and ``open_named`` refuse what lies outside its folders.

    Args:
        roots: folders that the user has named.
        source: the set, for messages.
        allow_outside: refuse nothing.
    """
    token = _bound.set(None if allow_outside else _Bound(_Inside(roots), source))
    try:
        yield
    finally:
        _bound.reset(token)


def check_named(paths: Iterable[str | Path], *roots: str | Path, noun: str = "image") -> None:
    """Refuse paths outside the bound in force, which ``roots`` widen; without one do nothing.

    Raises:
        SetupError: naming the first such path.
    """
    if bound := _bound.get():
        inside = _Inside([*bound.inside.folders, *roots]) if roots else bound.inside
        _refuse(paths, inside, bound.source, noun)


def refuse_outside(paths: Iterable[str | Path], roots: Iterable[str | Path], source: str) -> None:
    """Refuse an image in none of the folders ``roots``.

    Links in those folders are followed: who made the folder put them there, an annotation file cannot. A name with
    ``..`` is looked up on the disk, since behind a link it leads elsewhere than it says.

    Args:
        paths: relative to the working directory or absolute, joined with their root.
        source: file of the annotations, for the message.

    Raises:
        SetupError: naming the first such path.
    """
    _refuse(paths, _Inside(roots), source, "image")


def _refuse(paths: Iterable[str | Path], inside: _Inside, source: str, noun: str) -> None:
    for path in map(str, paths):
        if not inside(path):
            raise SetupError(
                f"{source} names the {noun} {path}, which is outside the image folder {inside.shown}. Give the folder "
                f"that holds all images, or {_REMEDY}"
            )


@contextlib.contextmanager
def open_named(path: str | Path, max_bytes: float = math.inf, hint: str = "is it an annotation?") -> Iterator[BinaryIO]:
    """Open a file of annotations or names, or a list of images: one that a data set may have named itself.

    It must lie within the bound in force. If it is a link, so must the file behind it, because its text may appear in
    messages and as names of classes; links to folders are followed.

    Raises:
        SetupError: it lies outside; or for the reasons of ``open_regular``.
    """
    check_named([path], noun="file")
    if (bound := _bound.get()) and os.path.islink(path):
        folders = _Inside([*bound.inside.folders, os.path.dirname(path) or "."]).real
        if not os.path.realpath(path).startswith(folders):
            raise SetupError(f"{path} is a link to a file outside its folder: copy the file there, or set {_REMEDY}")
    with open_regular(path, max_bytes, hint) as file:
        yield file


def refuse_line_breaks(names: Iterable[str | Path], source: str) -> None:
    """Refuse a name that would begin a line of its own wherever it is printed.

    Args:
        names: names of images or classes.
        source: file of the annotations, for the message.

    Raises:
        SetupError: naming the first such name.
    """
    for name in map(str, names):
        if "\n" in name:
            raise SetupError(f"{source} has the name {name!r}, with a line break: give it a name of one line.")
