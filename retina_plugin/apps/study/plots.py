"""Plots one study: our results with their spread, and the paper's, in the form that the study's ``plot`` names."""

import re
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from ..report.plots import INK, OURS, PALETTE, PAPER, STYLE, Panel, new_axes
from .index import Row
from .summary import RowSummary, StudySummary

__all__ = ["study_panels"]

OWN_TITLE = "AP, mean ± std"
OUR_TITLE = "Ours: AP, mean ± std"  # a longer title is cut off beside long row labels
MARKERS = "osD^vP"
WRAP = 24  # characters of a label on the vertical axis; longer ones leave too little room for the bars


def study_panels(summary: StudySummary) -> list[Panel]:
    """Draw our results, then the paper's if there are any; [] for plot "none" or without results."""
    draw = DRAWINGS.get(summary.study.plot)
    if draw is None:
        return []
    with rc_context(STYLE):
        panels = [draw(summary, True)] if any(row.ap is not None for row in summary.rows) else []
        papers = [row.row.paper.get("AP") for row in summary.rows] + [item.get("AP") for item in summary.study.reported]
        return panels + ([draw(summary, False)] if any(ap is not None for ap in papers) else [])


def _new_panel(summary: StudySummary, ours: bool, height: float) -> tuple[Panel, Axes]:
    study = summary.study
    title = f"Paper: AP ({study.paper_table})" if study.paper_table else "Paper: AP"
    if ours:
        title = OUR_TITLE if study.is_of_paper else OWN_TITLE
    figure, axes = new_axes(title, height)
    words = f"{study.title}. {title}. The figures are in the table below."
    return Panel("ours" if ours else "paper", figure, words), axes


def _ap(row: RowSummary, ours: bool) -> float | None:
    return row.ap if ours else row.row.paper.get("AP")


def _stopped(row: RowSummary, ours: bool) -> str | None:
    """Text to draw in place of a row's missing point; None if nothing is missing."""
    return row.status if ours and row.ap is None else None


def draw_line(summary: StudySummary, ours: bool) -> Panel:
    """Draw AP over the study's axis; its values are evenly spaced, since the paper's steps are uneven."""
    panel, axes = _new_panel(summary, ours, 2.9)
    # The axis is the study's own name, else the first one with several values; rows without it come last.
    keys = list(dict.fromkeys(key for row in summary.rows for key in row.row.x))
    changing = [key for key in keys if len({repr(row.row.x.get(key)) for row in summary.rows}) > 1]
    axis = summary.study.name if summary.study.name in changing else (changing or keys or [""])[0]
    values = {row.row.name: row.row.x.get(axis) for row in summary.rows}
    numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
    rows = sorted(summary.rows, key=lambda row: numbers.get(row.row.name, np.inf))
    for position, row in enumerate(rows):
        if word := _stopped(row, ours):
            place = {"xycoords": ("data", "axes fraction"), "rotation": 90, "ha": "center", "va": "bottom"}
            axes.annotate(word, (position, 0.03), color=PALETTE[1], fontsize=9, **place)
    points = [(i, row) for i, row in enumerate(rows) if _ap(row, ours) is not None]
    positions = [i for i, _ in points]
    if ours:
        stds = [row.mean_std("AP")[1] or 0.0 for _, row in points]
        seeds = [(i, ap) for i, row in points for ap in row.values("AP")]
        axes.plot(*zip(*seeds, strict=True), ls="", marker="o", ms=3, mfc="none", mec=OURS, alpha=0.6)
        axes.errorbar(positions, [row.ap for _, row in points], stds, color=OURS, marker="o", capsize=3, lw=1.6)
    else:
        axes.plot(positions, [row.row.paper["AP"] for _, row in points], color=PAPER, marker="D", ls="--", lw=1.6)
    values = [row.row.x.get(axis, row.row.label) for row in rows]
    axes.set_xticks(range(len(rows)), [f"{value:g}" if _is_number(value) else str(value) for value in values])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set(xlabel=f"{axis} (steps not to scale)" if axis else "", ylabel="AP")
    low, high = axes.get_ylim()
    # Start at 0 if it is near, so that points at 0 (collapsed rows) are fully visible.
    axes.set_ylim(min(low, 0.0) if low < 0.25 * high else low, high)
    return panel


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def draw_bars(summary: StudySummary, ours: bool) -> Panel:
    """Draw a bar for each row, in the table's order; the paper's panel also shows the reported detectors."""
    bars = [(row.row.label, _ap(row, ours), row.mean_std("AP")[1] if ours else None, _stopped(row, ours))
            for row in summary.rows]  # fmt: skip
    if not ours:
        bars += [(item.get("label", "?"), item.get("AP"), None, None) for item in summary.study.reported]
    panel, axes = _new_panel(summary, ours, 0.95 + 0.36 * len(bars))
    for position, (_, ap, std, word) in enumerate(bars):
        if ap is not None:
            axes.barh(position, ap, 0.62, xerr=std, color=OURS if ours else PAPER, ecolor=INK, capsize=3)
        elif word:
            place = {"xycoords": ("axes fraction", "data"), "va": "center"}
            axes.annotate(word, (0.02, position), color=PALETTE[1], fontsize=9.5, **place)
    axes.set_yticks(range(len(bars)), [wrap(label) for label, *_ in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlabel("AP")
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    return panel


def wrap(label: str, width: int = WRAP) -> str:
    """Break a label into two lines at the last space before ``width`` characters; a longer second line is cut."""
    if len(label) <= width:
        return label
    cut = label.rfind(" ", 0, width + 1)
    cut = cut if cut > 0 else width
    rest = label[cut:].strip()
    return f"{label[:cut]}\n{rest if len(rest) <= width else rest[: width - 1] + '…'}"


def draw_grouped_bars(summary: StudySummary, ours: bool) -> Panel:
    """Draw bars by batch size, a colour for each method (Table 1d); rows without a batch size come last."""
    batches = sorted({batch for row in summary.rows if (batch := _batch_size(row.row)) is not None})
    groups = list(dict.fromkeys(_method(row.row) for row in summary.rows))
    panel, axes = _new_panel(summary, ours, 3.1 + 0.1 * len(groups))
    alone = [
        group for group in groups if all(_batch_size(r.row) is None for r in summary.rows if _method(r.row) == group)
    ]
    width = 0.8 / max(len(groups) - len(alone), 1)
    for number, group in enumerate(groups):
        color, label = PALETTE[number % len(PALETTE)], group
        for row in (row for row in summary.rows if _method(row.row) == group):
            batch = _batch_size(row.row)
            shift = (number + 0.5) * width - 0.4
            position = batches.index(batch) + shift if batch is not None else len(batches) + alone.index(group)
            ap, std = _ap(row, ours), row.mean_std("AP")[1] if ours else None
            axes.bar(position, ap or 0.0, 0.92 * width, yerr=std, color=color, ecolor=INK, capsize=2, label=label)
            label = None
            if word := _stopped(row, ours):
                place = {"xycoords": ("data", "axes fraction"), "rotation": 90, "ha": "center", "va": "bottom"}
                axes.annotate(word, (position, 0.02), color=color, fontsize=9, **place)
    ticks = [f"{batch:g}" for batch in batches] + [textwrap.fill(group, 11) for group in alone]
    axes.set_xticks(range(len(batches) + len(alone)), ticks)
    axes.set(xlabel="batch size" if batches else "", ylabel="AP")
    axes.grid(axis="x", visible=False)
    axes.figure.legend(loc="outside lower center", ncols=2)
    return panel


def _batch_size(row: Row) -> float | None:
    return next((value for key, value in row.x.items() if "batch" in key.lower() and _is_number(value)), None)


def _method(row: Row) -> str:
    """Label without the batch size: "OHEM, 128, NMS 0.7" -> "OHEM, NMS 0.7"."""
    batch = _batch_size(row)
    return row.label if batch is None else re.sub(rf",?\s*(batch\s*)?\b{batch:g}\b(?!\.)", "", row.label, count=1)


def draw_heatmap(summary: StudySummary, ours: bool) -> Panel:
    """Draw AP by gamma (vertical) and alpha (horizontal), read from the ``x`` of the rows."""
    keys = [key for key in ("gamma", "alpha") if any(key in row.row.x for row in summary.rows)]
    if len(keys) < 2:
        return draw_bars(summary, ours)
    down, across = (sorted({r.row.x[key] for r in summary.rows if _is_number(r.row.x.get(key))}) for key in keys)
    panel, axes = _new_panel(summary, ours, 1.15 + 0.42 * len(down))
    cells = np.full((len(down), len(across)), np.nan)
    words = {}
    for row in summary.rows:
        if not all(_is_number(row.row.x.get(key)) for key in keys):
            continue
        place = down.index(row.row.x["gamma"]), across.index(row.row.x["alpha"])
        cells[place] = np.nan if _ap(row, ours) is None else _ap(row, ours)
        words[place] = {"not finished": "…", None: ""}.get(_stopped(row, ours), _stopped(row, ours))
    image = axes.imshow(cells, cmap="cividis", aspect="auto")
    for place in np.ndindex(cells.shape):
        dark = np.isfinite(cells[place]) and image.norm(cells[place]) < 0.5
        text = f"{cells[place]:.1f}" if np.isfinite(cells[place]) else words.get(place, "")
        color = "#ffffff" if dark else "#000000" if np.isfinite(cells[place]) else INK
        axes.text(place[1], place[0], text, ha="center", va="center", color=color, fontsize=9)
    axes.set_xticks(range(len(across)), [f"{value:g}" for value in across])
    axes.set_yticks(range(len(down)), [f"{value:g}" for value in down])
    axes.set(xlabel="alpha", ylabel="gamma")
    axes.grid(visible=False)
    return panel


def draw_speed(summary: StudySummary, ours: bool) -> Panel:
    """Draw AP over time per image, a line for each depth (Figure 2); in the paper's panel also the reported ones."""
    panel, axes = _new_panel(summary, ours, 3.6)
    for number, depth in enumerate(dict.fromkeys(row.row.x.get("depth") for row in summary.rows)):
        points = []
        for row in (row for row in summary.rows if row.row.x.get("depth") == depth):
            time = row.mean_std("time_ms") if ours else (row.row.paper.get("time_ms"), None)
            if time[0] is not None and _ap(row, ours) is not None:
                points.append((time[0], _ap(row, ours), time[1], row.mean_std("AP")[1] if ours else None))
        if points:
            times, aps, *spread = zip(*sorted(points, key=lambda point: point[:2]), strict=True)
            x_std, y_std = ([value or 0.0 for value in values] for values in spread)
            style = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)], "capsize": 2}
            axes.errorbar(times, aps, y_std, x_std, label="RetinaNet" if depth is None else f"depth {depth}", **style)
    others = [] if ours else [i for i in summary.study.reported if None not in (i.get("AP"), i.get("time_ms"))]
    for number, item in enumerate(sorted(others, key=lambda item: (item["time_ms"], item["AP"]))):
        below = number % 2 == 0  # labels alternate below and above the points, so that neighbours do not overlap
        axes.plot(item["time_ms"], item["AP"], ls="", marker="s", color=PALETTE[-1])
        place = {"xytext": (5, -11 if below else 5), "textcoords": "offset points", "fontsize": 9}
        axes.annotate(item.get("label", "?"), (item["time_ms"], item["AP"]), **place)
    axes.set(xlabel="time per image (ms)", ylabel="AP")
    axes.margins(x=0.12, y=0.12)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    else:
        axes.text(0.5, 0.5, "no time was recorded", transform=axes.transAxes, ha="center", va="center")
    return panel


DRAWINGS: dict[str, Callable[[StudySummary, bool], Panel]] = {
    "line": draw_line,
    "bars": draw_bars,
    "grouped": draw_grouped_bars,
    "heatmap": draw_heatmap,
    "speed": draw_speed,
}
