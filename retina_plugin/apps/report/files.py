"""The folder that a program writes its results into, and its pages."""

import os
from pathlib import Path

from ...errors import SetupError
from ...files import write_whole
from ...run_record import keep_previous

__all__ = ["make_output_folder", "write_page"]


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


def write_page(folder: Path, page: str, *others: str) -> None:
    """Write ``index.html`` into ``folder``; another page that is there is kept under another name, which is printed.

    Args:
        others: names of files that belong to the page that is there, and are kept with it.
    """
    path = folder / "index.html"
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") != page:
        kept = [str(new) for name in (path.name, *others) if (new := keep_previous(folder / name))]
        print(f"kept: {' and '.join(kept)}, of the page that was in {folder}")
    write_whole(path, page)
