"""Plots the learning curves of a study, and an overview of all studies."""

import math
import textwrap

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ..report.plots import BACKGROUND, INK, LINE_STYLES, OURS, PALETTE, PAPER, STYLE, Panel, new_axes, set_log_scale
from .learning_curves import mean_curve
from .plots import wrap
from .summary import StudySummary

__all__ = ["curve_panels", "draw_overview"]

TITLES = {"total_loss": "Training loss by iteration", "AP": "AP by iteration"}
LEGEND_LETTERS = 22  # longest label with which two columns of the legend fit
OVERVIEW_WIDTH, OVERVIEW_COLUMNS = 12.0, 3  # inches, for three plots beside each other


def curve_panels(summary: StudySummary) -> list[Panel]:
    """Plot loss and AP over the iterations, mean over seeds, a line for each row; AP only if measured twice or more."""
    panels = []
    with rc_context(STYLE):
        for key, title in TITLES.items():
            curves = [
                (row.row.label, mean_curve([run.curves[key] for run in row.row.runs if key in run.curves]))
                for row in summary.rows
            ]
            if max((len(curve) for _, curve in curves), default=0) < 2:
                continue
            columns = 2 if max(len(label) for label, curve in curves if len(curve)) <= LEGEND_LETTERS else 1
            lines = math.ceil(sum(len(curve) > 0 for _, curve in curves) / columns)
            figure, axes = new_axes(title, 2.7 + 0.19 * lines)
            for number, (label, curve) in enumerate(curves):
                if len(curve):
                    if len(curves) <= 2 * len(PALETTE):  # dashes where the colours repeat
                        color, dashes = PALETTE[number % len(PALETTE)], LINE_STYLES[number // len(PALETTE)]
                    else:  # a scale from 0.25 to 0.85: the ends of viridis vanish on a dark or on a white page
                        color = to_hex(colormaps["viridis"](0.25 + 0.6 * number / (len(curves) - 1)))
                        dashes = LINE_STYLES[number % len(LINE_STYLES)]
                    markers = {"marker": "o", "ms": 3} if key == "AP" else {}
                    axes.plot(*curve.T, label=label, lw=1.4, color=color, ls=dashes, **markers)
            if key == "total_loss":
                set_log_scale(axes, "y")
                axes.grid(which="minor", lw=0.3)
            axes.set(xlabel="iteration", ylabel="AP" if key == "AP" else "total loss (log)")
            figure.legend(loc="outside lower center", ncols=columns)
            panels.append(Panel(f"curve_{key}", figure, f"{summary.study.title}. {title}, mean over seeds."))
    return panels


def draw_overview(summaries: list[StudySummary]) -> Panel:
    """Plot an overview: per study the AP minus the reference row's, ours with its spread beside the paper's."""
    shown = [s for s in summaries if s.reference and s.reference.ap is not None and len(s.rows) > 1]
    num_rows = max(1, math.ceil(len(shown) / OVERVIEW_COLUMNS))
    columns = min(OVERVIEW_COLUMNS, max(len(shown), 1))
    heights = [
        max((len(s.rows) for s in shown[i : i + columns]), default=4) for i in range(0, num_rows * columns, columns)
    ]
    with rc_context(STYLE):
        inches = sum(0.9 + 0.24 * height for height in heights) + 0.6
        figure = Figure(
            (OVERVIEW_WIDTH * columns / OVERVIEW_COLUMNS, inches), facecolor=BACKGROUND, layout="constrained"
        )
        grid = figure.subplots(
            num_rows, columns, squeeze=False, gridspec_kw={"height_ratios": [3 + h for h in heights]}
        )
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # inches; with less, titles and labels touch
        for axes, summary in zip(grid.flat, shown, strict=False):
            _draw_differences(axes, summary)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        if shown:
            handles = dict(zip(*grid.flat[0].get_legend_handles_labels()[::-1], strict=True))
            figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=10)
        else:
            grid.flat[0].text(0.5, 0.5, "No study has a reference row and another with a finished run.", ha="center")
    return Panel("overview", figure, "All studies: AP relative to the reference row, ours beside the paper's.")


def _draw_differences(axes: Axes, summary: StudySummary) -> None:
    """Draw one study. The error bar is the spread of the row itself, not of its difference from the reference row."""
    axes.set_title(textwrap.fill(summary.study.title, 27))
    axes.axvline(0, color=INK, lw=0.8)
    reference = summary.reference
    for position, row in enumerate(summary.rows):
        difference = 0.0 if row is reference else row.difference
        paper = 0.0 if row is reference and row.row.paper.get("AP") is not None else row.paper_difference
        if paper is not None:
            axes.plot(paper, position + 0.18, ls="", marker="D", ms=5, mfc="none", mec=PAPER, label="paper")
        if difference is not None:
            std = row.mean_std("AP")[1] or 0.0
            axes.errorbar(
                difference, position - 0.12, xerr=std, color=OURS, marker="o", ms=5, capsize=2, label="ours ± std"
            )
        elif row.ap is None:
            place = {"xycoords": ("axes fraction", "data"), "va": "center"}
            axes.annotate(row.status, (0.02, position - 0.12), color=PALETTE[1], fontsize=9, **place)
    axes.set_yticks(range(len(summary.rows)), [wrap(row.row.label, 28).split("\n")[0] for row in summary.rows])
    axes.set_ylim(len(summary.rows) - 0.4, -0.6)
    axes.set_xlabel(f"AP minus that of\n{wrap(reference.row.label, 28)}")
