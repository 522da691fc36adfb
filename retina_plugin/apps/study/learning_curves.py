"""Reads the learning curves of a run from Detectron2's ``metrics.json`` and averages them over seeds."""

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SetupError
from ...training.hooks import curves

__all__ = ["Curve", "check_curves", "mean_curve", "read_curves"]

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
    found = curves.read_curves(path)
    return {name: np.array(sorted(found[key].items())) for key, name in KEYS.items() if key in found}


def check_curves(lines: dict[str, Any], where: str) -> dict[str, Curve]:
    """The curves of a line of ``runs.jsonl``, which ``read_curves`` made.

    Raises:
        SetupError: a curve is no list of points, each an iteration and a value.
    """
    for name, points in lines.items():
        is_curve = isinstance(points, list) and all(
            isinstance(point, list)
            and len(point) == 2
            and all(map(curves.is_value, point))
            and 0 <= point[0] <= curves.MAX_ITERATION
            for point in points
        )
        if not is_curve:
            raise SetupError(
                f"{where}: the curve {name!r} must be a list of points [iteration, value]. "
                "Remove the line and run again."
            )
    known = {name: points for name, points in lines.items() if name in KEYS.values() and points}
    return {name: np.array(sorted(points), dtype=float) for name, points in known.items()}


def mean_curve(curves_of_seeds: list[Curve], max_points: int = MAX_POINTS) -> Curve:
    """Average curves over seeds, in bins of equal length in iterations.

    Args:
        curves_of_seeds: (P_i, 2) each, one per seed. The points of all seeds in a bin are averaged.
        max_points: largest number of bins, >= 1.

    Returns:
        (P, 2): mean iteration and mean value of each non-empty bin; (0, 2) without any point.
    """
    points = np.concatenate([np.empty((0, 2)), *curves_of_seeds])
    if not len(points):
        return points
    iterations = np.unique(points[:, 0])
    num_bins = min(max_points, len(iterations))
    edges = np.linspace(iterations[0], iterations[-1], num_bins + 1)[1:-1]
    bins = np.searchsorted(edges, points[:, 0], side="right")
    return np.array([points[bins == b].mean(axis=0) for b in np.unique(bins)])
