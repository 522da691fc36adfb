"""The folder that a program writes its results into."""

import os
from pathlib import Path

from ...errors import SetupError

__all__ = ["make_output_folder"]


def make_output_folder(path: str) -> Path:
    """Make the folder of ``--output``.

    Raises:
        SetupError: it cannot be made or written into.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"--output {path} cannot be made ({error.strerror}): give a folder that can.") from error
    if not os.access(folder, os.W_OK):
        raise SetupError(f"--output {path} must be a folder that can be written into: give another one.")
    return folder
