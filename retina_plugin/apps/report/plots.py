"""One look for all plots; a figure as PNG or SVG, written whole, and as SVG inside a page.

Matplotlib's ``Figure`` is used without pyplot, so that no global state or window is touched.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...files import write_whole
from .pages import visible

__all__ = [
    "BACKGROUND", "INK", "LINE_STYLES", "OURS", "PALETTE", "PAPER", "STYLE",
    "Panel", "make_figure", "new_axes", "save_figure", "set_log_scale",
]  # fmt: skip

# Okabe and Ito's palette, which is safe for the colour-blind. Its yellow, too light for a line on white, is left out.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#888888")
LINE_STYLES = ("-", "--", ":", "-.")  # used with the colours, for prints in black and white
OURS, PAPER = PALETTE[:2]
# Stand-ins that ``Panel.inline_svg`` turns into the page's own colours: a plot follows its light or dark scheme.
INK, RULE, BACKGROUND = "#1c2127", "#d5d9de", "#fefefe"
WIDTH = 3.8  # inches; 365 CSS pixels, so that 9 pt stay legible when a phone shows it in 310
PANEL_INCHES = (4.8, 3.8)  # of pictures that are files of their own
DPI = 144  # twice the 72 of a point
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,  # a label with two dollar signs is not a formula, and a bad formula is an error
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, and it can be searched and read aloud
    "svg.hashsalt": "retina_plugin",  # equal numbers give equal files
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}": INK for part in ("edgecolor", "labelcolor", "titlecolor")},
}


def make_figure(num_panels: int, *, panel_inches: tuple[float, float] = PANEL_INCHES) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``num_panels`` >= 1 panels side by side."""
    with rc_context(STYLE):
        figure = Figure((num_panels * panel_inches[0], panel_inches[1]), facecolor=BACKGROUND, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, num_panels, squeeze=False, subplot_kw={"facecolor": "none"})
    return figure, list(panels[0])


def new_axes(title: str, height: float = 2.9) -> tuple[Figure, Axes]:
    """Make a figure of one plot for a page; its height in inches. Draw inside ``rc_context(STYLE)``."""
    figure, (axes,) = make_figure(1, panel_inches=(WIDTH, height))
    axes.set_title(title)
    return figure, axes


def set_log_scale(axes: Axes, which: str) -> None:
    """Make the "x" or "y" axis logarithmic, with plain numbers at its ticks: ``STYLE`` draws no formulas such as 10^3.

    Within three decades, 2 and 5 have numbers too, for a loss that falls by less than a factor of ten.
    """
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")

    def minor_tick(value: float, _: int) -> str:
        low, high = axis.get_view_interval()
        return f"{value:g}" if f"{value:.0e}"[0] in "25" and high < 1000 * low else ""

    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(minor_tick)


def draw_file(figure: Figure, kind: str, *, dpi: float | None = None) -> bytes:
    """Draw a "png" (``DPI`` by default) or "svg" file; equal figures give equal bytes."""
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    content = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(content, format=kind, dpi=dpi or (DPI if kind == "png" else "figure"), metadata=metadata)
    return content.getvalue()


def save_figure(
    figure: Figure, stem: Path, *, kinds: Sequence[str] = ("png", "svg"), dpi: float | None = None
) -> list[Path]:
    """Write ``stem``.png and ``stem``.svg, each whole or not at all, and return their paths."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in kinds]  # a dot in the stem is not a suffix
    for path, kind in zip(paths, kinds, strict=True):
        write_whole(path, draw_file(figure, kind, dpi=dpi))
    return paths


@dataclass(frozen=True)
class Panel:
    """One plot of a page: a name for its files and ids, its figure, and what it shows in words."""

    name: str
    figure: Figure
    description: str

    @cached_property
    def svg(self) -> str:
        """The SVG file, on white. Drawn once: for the page and for a file of its own."""
        text = draw_file(self.figure, "svg").decode()
        self.figure.set_layout_engine("none")  # placed now; to place it again for the PNG would take half the time
        return text

    @property
    def png(self) -> bytes:
        """The PNG file, on white, with two pixels for one of a page."""
        _ = self.svg  # which places the parts
        return draw_file(self.figure, "png")

    def inline_svg(self, prefix: str) -> Markup:
        """Make an ``<svg>`` for a page: in the page's colours, with ids of its own and coordinates of two decimals.

        Args:
            prefix: prefix of the ids, different for each plot of the page.
        """
        text = "\n".join(visible(line.strip()) for line in self.svg.splitlines())
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = text.replace(BACKGROUND, "none").replace(INK, "currentColor").replace(RULE, "var(--rule)")
        text = re.sub(r'\bid="', f'id="{prefix}-', text)
        text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
        # Only in coordinates: a tick label may have three decimals.
        text = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda m: re.sub(r"(\.\d{2})\d+", r"\1", m[0]), text)
        label = escape(visible(self.description))
        return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))
