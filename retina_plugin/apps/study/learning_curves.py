"""Learning curves of one run, from Detectron2's ``metrics.json``."""

import json
import math
from pathlib import Path

import numpy as np

__all__ = ["Curve", "mean_curve", "read_curves"]

Curve = np.ndarray  # (P, 2): iteration, value; by rising iteration
KEYS = {"total_loss": "total_loss", "bbox/AP": "AP"}  # in the file -> here
# More points than a plot of 400 pixels can show would only make the page heavy.
MAX_POINTS = 40


def read_curves(path: Path) -> dict[str, Curve]:
    """Total loss and AP by iteration.

    Args:
        path: of JSON lines. After a resume an iteration may stand twice: the later line wins. A line that a kill cut
            off, and what a resumed run wrote behind it, is left out.

    Returns:
        "total_loss" and "AP" -> (P, 2); a key without a finite value is absent, {} without the file.
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
    """Mean over seeds, by bins of equal length in iterations.

    Args:
        curves: (P_i, 2) each, one per seed. A bin has the mean of the values that lie in it, of whatever seed.
        max_points: bins at most, >= 1.

    Returns:
        (P, 2): mean iteration and mean value of each bin that is not empty; (0, 2) without a point.
    """
    points = np.concatenate([np.empty((0, 2)), *curves])
    if not len(points):
        return points
    iterations = np.unique(points[:, 0])
    num_bins = min(max_points, len(iterations))
    edges = np.linspace(iterations[0], iterations[-1], num_bins + 1)[1:-1]
    bins = np.searchsorted(edges, points[:, 0], side="right")
    return np.array([points[bins == b].mean(axis=0) for b in np.unique(bins)])
