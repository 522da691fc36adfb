"""Pictures of an analysis: one look for all of them, written whole or not at all."""

import io
import os
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...errors import SetupError
from ...files import write_whole

__all__ = ["COLORS", "LINE_STYLES", "make_figure", "make_output_folder", "save_figure", "write_figure"]

# Okabe and Ito's palette, told apart with any colour vision; its yellow, too light for a line on white, is left out.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# With the colours, so that a print without colour still tells the curves apart.
LINE_STYLES = ("-", "--", "-.", ":")

FONT_SIZE = 11  # points; a picture is meant to be read at its own size
PANEL_INCHES = (4.8, 3.8)
DOTS_PER_INCH = 150
_STYLE = {
    "font.size": FONT_SIZE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "retina_plugin",  # equal numbers give equal files
}


def make_figure(num_panels: int, *, panel_inches: tuple[float, float] = PANEL_INCHES) -> tuple[Figure, list[Axes]]:
    """A figure of ``num_panels`` >= 1 panels side by side."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(num_panels * panel_inches[0], panel_inches[1]), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, num_panels, squeeze=False)
    return figure, list(panels[0])


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


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem``.png and ``stem``.svg and return their paths."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
    with rc_context(_STYLE):
        for path in paths:
            kind = path.suffix[1:]
            metadata = {"Date": None} if kind == "svg" else {}  # the date would make equal files differ
            options = {"format": kind, "dpi": DOTS_PER_INCH, "metadata": metadata}
            content = io.BytesIO()
            figure.savefig(content, **options)
            write_whole(path, content.getvalue())
    return paths


def write_figure(path: Path, figure: Figure, *, dpi: float) -> None:
    """Write ``path`` in the format of its suffix (.png, .svg)."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=dpi, facecolor="white")
    write_whole(path, content.getvalue())
