"""Files of an analysis, each under its name only once it is whole."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..whole_files import write_whole

__all__ = ["write_csv", "write_figure", "write_json"]


def write_json(path: Path, content: Any) -> None:
    """Write JSON that any reader takes: NaN is refused."""
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A header and the rows; None is an empty cell, and numbers keep 9 digits, which is more than float32 has."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{cell:.9g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    write_whole(path, text.getvalue())


def write_figure(path: Path, figure: Figure, *, dpi: float) -> None:
    """Write ``path`` in the format of its suffix (.png, .svg)."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=dpi, facecolor="white")
    write_whole(path, content.getvalue())
