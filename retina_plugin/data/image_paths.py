"""Limits on image names in annotation files: paths in their folder, names of one line (docs/security.md)."""

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import SetupError

__all__ = ["refuse_line_breaks", "refuse_outside"]


def refuse_outside(paths: Iterable[str | Path], roots: Iterable[str | Path], source: str) -> None:
    """Refuse a path that lies, as it is written, in none of the folders ``roots``.

    Symbolic links are not looked at: who made the folder put them there, an annotation file cannot.

    Args:
        paths: relative to the working directory or absolute; addresses (``://``) are not checked.
        source: file of the annotations, for the message.

    Raises:
        SetupError: naming the first such path.
    """
    folders = [os.path.join(os.path.abspath(root), "") for root in roots]
    for path in map(str, paths):
        if "://" not in path and not any(os.path.abspath(path).startswith(folder) for folder in folders):
            raise SetupError(
                f"{source} names the image {path}, which is outside the image folder {' and '.join(folders)}. Give the "
                "folder that holds all images, or DATASETS.ALLOW_OUTSIDE_PATHS True (--allow-outside) if it is meant."
            )


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
