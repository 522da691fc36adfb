"""Files of an analysis, each under its name only once it is whole."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..whole_files import write_whole

__all__ = ["write_csv", "write_figure", "write_json"]


def write_json(path: Path, content: Any) -> None:
    write_whole(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A header and the rows; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def write_figure(path: Path, figure: Figure, *, dpi: float) -> None:
    """Write ``path`` in the format of its suffix (.png, .svg)."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=dpi, facecolor="white")
    write_whole(path, content.getvalue())
