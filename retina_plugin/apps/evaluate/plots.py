"""Plots of an evaluation: precision over recall, AP by size and shape, the cost of errors, reliability."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context

from ...evaluation.calibration import Calibration
from ...evaluation.coco_scores import RECALLS, Bin
from ...evaluation.error_types import ErrorBreakdown
from ...evaluation.evaluate import curves
from ..report.plots import LINE_STYLES, PALETTE, STYLE, Panel, new_axes

__all__ = ["bin_plot", "error_plot", "pr_plot", "reliability_plot"]


def pr_plot(precision: np.ndarray, name: str) -> Panel:
    """Plot precision over recall, of one class or the mean of all, at IoU 0.5, 0.75 and in the mean of COCO's ten.

    Args:
        precision: (T, R) in [0, 1].
        name: unlike that of any other plot of the page.
    """
    with rc_context(STYLE):
        figure, axes = new_axes("", height=2.9)
        for (label, curve), color, line in zip(curves(precision).items(), PALETTE, LINE_STYLES, strict=False):
            axes.plot(RECALLS, curve, color=color, linestyle=line, label=f"{label}: AP {100 * curve.mean():.1f}")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03))
        figure.legend(loc="outside lower center", ncols=2)  # a curve may pass through any corner
    text = ", ".join(f"AP {100 * curve.mean():.1f} at {label}" for label, curve in curves(precision).items())
    return Panel(name, figure, f"Precision over recall: {text}")


def bin_plot(bins: list[Bin], title: str, name: str) -> Panel:
    """Plot the AP of each range as a bar, with the number of its boxes."""
    bins = [b for b in bins if b.boxes]
    labels = [f"{b.name}\n{b.boxes} boxes" for b in bins]
    return _bars(name, title, labels, [b.ap for b in bins], "AP", PALETTE[0], label_size=8)


def error_plot(errors: ErrorBreakdown) -> Panel:
    """Plot the points of AP at IoU 0.5 lost to each type of error."""
    title = "AP50 lost to each type of error"
    return _bars("errors", title, list(errors.lost), list(errors.lost.values()), "points of AP50", PALETTE[1])


def _bars(
    name: str, title: str, labels: Sequence[str], values: Sequence[float | None], axis: str, color: str, label_size=9.5
) -> Panel:
    """Horizontal bars from the top, each with its value beside it; unknown values are 0."""
    values = [value or 0.0 for value in values]
    with rc_context(STYLE):
        figure, axes = new_axes(title, height=0.9 + 0.36 * max(len(labels), 1))
        axes.barh(labels, values, color=color, height=0.62)
        for y, value in enumerate(values):
            axes.text(value, y, f" {value:.1f}", va="center")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=axis, xlim=(0, max([*values, 1.0]) * 1.2))
        axes.tick_params(axis="y", labelsize=label_size)
    text = "; ".join(f"{label.splitlines()[0]}: {value:.1f}" for label, value in zip(labels, values, strict=True))
    return Panel(name, figure, f"{title}. {text}")


def reliability_plot(calibration: Calibration) -> Panel:
    """Plot the share of correct detections against their mean score, in each bin of the score."""
    filled = [b for b in calibration.bins if b["count"]]
    with rc_context(STYLE):
        figure, axes = new_axes("Are the scores probabilities?", height=3.3)
        axes.plot([0, 1], [0, 1], color=PALETTE[-1], linestyle="--", linewidth=1, label="calibrated")
        width = calibration.bins[0]["high"] * 0.9
        lows = [b["low"] + width / 18 for b in filled]
        axes.bar(lows, [b["right"] for b in filled], width, align="edge", color=PALETTE[0], label="share correct")
        axes.plot([b["score"] for b in filled], [b["right"] for b in filled], "o", color=PALETTE[1], label="mean score")
        axes.set(xlabel="score", ylabel="share of correct detections", xlim=(0, 1), ylim=(0, 1.03))
        figure.legend(loc="outside lower center", ncols=2)
    text = "; ".join(f"mean score {b['score']:.2f}, {b['right']:.2f} correct, {b['count']}" for b in filled)
    return Panel("reliability", figure, f"Reliability of the scores: {text}")
