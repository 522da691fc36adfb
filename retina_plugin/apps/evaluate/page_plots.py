"""The plots of a judgement: precision over recall, AP by size and shape, the cost of errors, reliability."""

import numpy as np
from matplotlib import rc_context

from ...evaluation.coco_scores import RECALLS, Bin
from ...evaluation.error_types import ErrorBreakdown
from ...evaluation.judge import curves
from ...evaluation.score_use import Calibration
from ..report.plot_style import PALETTE, STYLE, Panel, inline_svg, new_axes

__all__ = ["bin_plot", "error_plot", "pr_plot", "reliability_plot"]

LINES = ("-", "--", ":")  # told apart without colours too


def pr_plot(precision: np.ndarray, name: str) -> str:
    """Precision over recall of one class, or of the mean of all, at IoU 0.5, 0.75 and in the mean of COCO's ten.

    Args:
        precision: (T, R) in [0, 1]; name: for the ids, unlike any other plot's.
    """
    with rc_context(STYLE):
        figure, axes = new_axes("", height=2.5)
        for (label, curve), color, line in zip(curves(precision).items(), PALETTE, LINES, strict=False):
            axes.plot(RECALLS, curve, color=color, linestyle=line, label=f"{label}: AP {100 * curve.mean():.1f}")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03))
        axes.legend(loc="best")
        text = ", ".join(f"AP {100 * curve.mean():.1f} at {label}" for label, curve in curves(precision).items())
        return inline_svg(Panel(name, figure, f"Precision over recall: {text}"), name)


def bin_plot(bins: list[Bin], title: str, name: str) -> str:
    """AP of each range as bars, with the number of boxes in it."""
    bins = [b for b in bins if b.boxes]
    with rc_context(STYLE):
        figure, axes = new_axes(title, height=0.9 + 0.36 * max(len(bins), 1))
        values = [b.ap or 0.0 for b in bins]
        axes.barh([f"{b.name}\n{b.boxes} boxes" for b in bins], values, color=PALETTE[0], height=0.62)
        for y, value in enumerate(values):
            axes.text(value, y, f" {value:.1f}", va="center")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="AP", xlim=(0, max([*values, 1.0]) * 1.2))
        axes.tick_params(axis="y", labelsize=8)
        text = "; ".join(f"{b.name}: {value:.1f}" for b, value in zip(bins, values, strict=True))
        return inline_svg(Panel(name, figure, f"{title}. {text}"), name)


def error_plot(errors: ErrorBreakdown) -> str:
    """Points of AP at IoU 0.5 lost to each type of error."""
    with rc_context(STYLE):
        figure, axes = new_axes("AP50 lost to each type of error")
        values = [value or 0.0 for value in errors.lost.values()]
        axes.barh(list(errors.lost), values, color=PALETTE[1], height=0.62)
        for y, value in enumerate(values):
            axes.text(value, y, f" {value:.1f}", va="center")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="points of AP50", xlim=(0, max([*values, 1.0]) * 1.2))
        text = ", ".join(f"{name} {value:.1f}" for name, value in zip(errors.lost, values, strict=True))
        return inline_svg(Panel("errors", figure, f"Points of AP50 lost: {text}"), "errors")


def reliability_plot(calibration: Calibration) -> str:
    """The share of right detections beside their mean score, in each bin of the score."""
    filled = [b for b in calibration.bins if b["count"]]
    with rc_context(STYLE):
        figure, axes = new_axes("Are the scores probabilities?")
        axes.plot([0, 1], [0, 1], color=PALETTE[-1], linestyle="--", linewidth=1, label="as sure as right")
        width = calibration.bins[0]["high"] * 0.9
        lows = [b["low"] + width / 18 for b in filled]
        axes.bar(lows, [b["right"] for b in filled], width, align="edge", color=PALETTE[0], label="share right")
        axes.plot([b["score"] for b in filled], [b["right"] for b in filled], "o", color=PALETTE[1], label="mean score")
        axes.set(xlabel="score", ylabel="share of right detections", xlim=(0, 1), ylim=(0, 1.03))
        axes.legend(loc="best")
        text = "; ".join(f"mean score {b['score']:.2f}, {b['right']:.2f} right, {b['count']}" for b in filled)
        return inline_svg(Panel("reliability", figure, f"Reliability of the scores: {text}"), "reliability")
