"""How the plots of a report look, and a figure as SVG for a page or a file, and as PNG.

Matplotlib's ``Figure`` is used without pyplot, so that no global state or window is touched.
"""

import io
import re
from dataclasses import dataclass
from functools import cached_property

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["INK", "OURS", "PALETTE", "PAPER", "STYLE", "Panel", "inline_svg", "new_axes"]

# Okabe and Ito's palette, told apart by the colour-blind; without yellow, which a white page swallows.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#888888")
OURS, PAPER = PALETTE[:2]
# Stand-ins that inline_svg turns into the page's own colours, so that a plot follows its light or dark scheme.
INK, RULE, BACKGROUND = "#1c2127", "#d5d9de", "#fefefe"
WIDTH = 3.8  # inches; 365 CSS pixels, so that 9 pt stay legible when a phone shows it in 310
DPI = 144  # twice the 72 of a point
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,  # a label with two dollar signs is no formula, and a bad formula is an error
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
    "svg.hashsalt": "retina_plugin",  # the same figures give the same file
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}": INK for part in ("edgecolor", "labelcolor", "titlecolor")},
}


@dataclass(frozen=True)
class Panel:
    """One plot: a name for its files and ids, its figure, and what it shows in words."""

    name: str
    figure: Figure
    description: str

    @cached_property
    def svg(self) -> str:
        """On white. Drawn once: for the page and for a file of its own."""
        out = io.StringIO()
        with rc_context(STYLE):
            self.figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        self.figure.set_layout_engine("none")  # placed now; to place it again for the PNG would take half the time
        return out.getvalue()

    @property
    def png(self) -> bytes:
        """On white, two pixels for one of a page."""
        out, _ = io.BytesIO(), self.svg  # which places the parts
        with rc_context(STYLE):
            self.figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
        return out.getvalue()


def new_axes(title: str, height: float = 2.9, width: float = WIDTH) -> tuple[Figure, Axes]:
    """A figure of one plot; sizes in inches. Call it, and draw, inside ``rc_context(STYLE)``."""
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND, layout="constrained")
    axes = figure.add_subplot(facecolor="none")
    axes.set_title(title)
    return figure, axes


def inline_svg(panel: Panel, prefix: str) -> str:
    """An ``<svg>`` for a page: on the page's colours, with ids of its own and coordinates of two decimals.

    Args:
        prefix: of the ids; unlike that of any other plot of the page.
    """
    text = panel.svg
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(BACKGROUND, "none").replace(INK, "currentColor").replace(RULE, "var(--rule)")
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    # Only in coordinates: a tick label may have three decimals.
    text = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda m: re.sub(r"(\.\d{2})\d+", r"\1", m[0]), text)
    text = re.sub(r"\s*\n\s*", "\n", text)
    label = panel.description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
