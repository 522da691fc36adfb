"""Reads the learning curves of a run from Detectron2's ``metrics.json`` and averages them over seeds."""

import json
import math
from pathlib import Path

import numpy as np

__all__ = ["Curve", "mean_curve", "read_curves"]

Curve = np.ndarray  # (P, 2): iteration (increasing), value
KEYS = {"total_loss": "total_loss", "bbox/AP": "AP"}  # name in the file -> name of the curve
# A plot of 400 pixels cannot show more points, and they would make the page larger.
MAX_POINTS = 40


def read_curves(path: Path) -> dict[str, Curve]:
    """Read total loss and AP by iteration.

    Args:
        path: file of JSON lines. A resumed run may repeat an iteration: the later line counts. A line that was cut off
            when the run was killed is skipped.

    Returns:
        "total_loss" and "AP" -> (P, 2). A key without a finite value is absent; {} without the file.
    """
    if not path.is_file():
        return {}
    points: dict[str, dict[int, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            iteration = int(entry["iteration"])
        except (ValueError, KeyError, TypeError):
            continue
        for key, name in KEYS.items():
            if isinstance(entry.get(key), (int, float)) and math.isfinite(entry[key]):
                points.setdefault(name, {})[iteration] = float(entry[key])
    return {name: np.array(sorted(found.items()), dtype=float) for name, found in points.items()}


def mean_curve(curves: list[Curve], max_points: int = MAX_POINTS) -> Curve:
    """Average curves over seeds, in bins of equal length in iterations.

    Args:
        curves: (P_i, 2) each, one per seed. The points of all seeds in a bin are averaged.
        max_points: largest number of bins, >= 1.

    Returns:
        (P, 2): mean iteration and mean value of each non-empty bin; (0, 2) without any point.
    """
    points = np.concatenate([np.empty((0, 2)), *curves])
    if not len(points):
        return points
    iterations = np.unique(points[:, 0])
    num_bins = min(max_points, len(iterations))
    edges = np.linspace(iterations[0], iterations[-1], num_bins + 1)[1:-1]
    bins = np.searchsorted(edges, points[:, 0], side="right")
    return np.array([points[bins == b].mean(axis=0) for b in np.unique(bins)])
