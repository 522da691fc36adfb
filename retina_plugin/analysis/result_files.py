"""Files of an analysis, each under its name only once it is whole."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..errors import SetupError

__all__ = ["make_folder", "write_csv", "write_figure", "write_json", "write_text"]


def make_folder(path: str) -> Path:
    """Make the folder of ``--output``, or refuse it in one sentence."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"--output {path} must be a folder that can be made: {error.strerror}. Name another."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SetupError(f"--output {path} must be writable, and is not: name another folder.")
    return folder


def write_text(path: Path, text: str) -> None:
    _write(path, text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A header and the rows; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_figure(path: Path, figure: Figure, *, dpi: float) -> None:
    """Write ``path`` in the format of its suffix (.png, .svg)."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=dpi, facecolor="white")
    _write(path, content.getvalue())


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
