"""Plots anchor coverage over the IoU threshold, box size and aspect ratio."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..report.plots import LINE_STYLES, PALETTE, make_figure
from .coverage_numbers import COCO_AREAS, AnchorCoverage

__all__ = ["coverage_figure"]

BINS = 16  # bins of size and ratio, equally wide in the logarithm
LEAST_IN_BIN = 5  # a bin with fewer boxes is not drawn
PERCENTILES = (10, 90)  # limits of the band


def coverage_figure(coverages: Sequence[AnchorCoverage], boxes: np.ndarray, title: str) -> Figure:
    """Draw three panels for any number of configs and (M, 4) XYXY boxes of the original images, M >= 1."""
    figure, (over_threshold, over_size, over_ratio) = make_figure(3, panel_inches=(5.0, 5.2))
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    for k, coverage in enumerate(coverages):
        style = {
            "color": PALETTE[k % len(PALETTE)],
            "linestyle": LINE_STYLES[k % len(LINE_STYLES)],
            "label": coverage.name,
        }
        thresholds = np.linspace(0, 1, 201)
        reached = 1 - np.searchsorted(np.sort(coverage.best), thresholds, side="left") / len(coverage.best)
        over_threshold.plot(thresholds, reached, linewidth=1.8, **style)
        _draw_binned(over_size, np.sqrt(width * height), coverage.best, style)
        _draw_binned(over_ratio, height / width, coverage.best, style)
    for limit, name in zip(COCO_AREAS, ("small | medium", "medium | large"), strict=True):
        over_size.axvline(limit**0.5, color="0.6", linewidth=0.8)
        over_size.text(
            limit**0.5, 0.01, name, rotation=90, fontsize=9, color="0.35", ha="right", va="bottom",
            clip_on=True, transform=over_size.get_xaxis_transform(),
        )  # fmt: skip
    over_threshold.set(xlabel="IoU threshold t", ylabel="share of boxes with best IoU >= t", xlim=(0, 1))
    over_size.set(xlabel="sqrt(box area), pixels of the original image", ylabel="best IoU (mean; band 10-90 %)")
    over_ratio.set(xlabel="height / width of the box", ylabel="best IoU (mean; band 10-90 %)")
    lower = coverages[0].lower_iou
    for axes in (over_size, over_ratio):
        axes.axhline(lower, color="0.6", linewidth=0.8)
    for axes in (over_threshold, over_size, over_ratio):
        axes.set_ylim(0, 1.01)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=10)
    over_threshold.legend(fontsize=10, loc="lower left")
    figure.suptitle(title, fontsize=12)
    return figure


def _draw_binned(axes: Axes, values: np.ndarray, best: np.ndarray, style: dict) -> None:
    """Draw mean and percentiles of the best IoU in bins of log(value), at the mean value of each bin."""
    low, high = np.log(values.min()), np.log(values.max())
    bins = np.minimum(((np.log(values) - low) / max(high - low, 1e-9) * BINS).astype(int), BINS - 1)
    members = [bins == b for b in range(BINS) if (bins == b).sum() >= LEAST_IN_BIN]
    x = [np.exp(np.log(values[m]).mean()) for m in members]
    lower, upper = ([np.percentile(best[m], q) for m in members] for q in PERCENTILES)
    marker = "o" if len(members) < BINS // 2 else None  # a single bin would draw no line
    axes.plot(x, [best[m].mean() for m in members], linewidth=1.8, marker=marker, markersize=4, **style)
    axes.fill_between(x, lower, upper, color=style["color"], alpha=0.1, linewidth=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    ticks = [t for t in (0.1, 0.2, 0.33, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
             if values.min() <= t <= values.max()]  # fmt: skip
    axes.set_xticks(ticks or [float(np.exp((low + high) / 2))])
    axes.minorticks_off()
