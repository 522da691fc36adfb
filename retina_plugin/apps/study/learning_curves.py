"""Reads the learning curves of a run from Detectron2's ``metrics.json`` and averages them over seeds."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SetupError
from ...reading import read_bytes, refuse_link

__all__ = ["Curve", "check_curves", "mean_curve", "read_curves"]

Curve = np.ndarray  # (P, 2): iteration (increasing), value
KEYS = {"total_loss": "total_loss", "bbox/AP": "AP"}  # name in the file -> name of the curve
# A plot of 400 pixels cannot show more points, and they would make the page larger.
MAX_POINTS = 40
# Guards: a training of 90,000 iterations writes 3 MB; a loss is a float32.
MAX_BYTES = 2**28
MAX_ITERATION = 2**53
MAX_VALUE = 3.4e38


def read_curves(path: Path) -> dict[str, Curve]:
    """Read total loss and AP by iteration.

    Args:
        path: file of JSON lines. A resumed run may repeat an iteration: the later line counts. A line that was cut off
            when the run was killed is skipped.

    Returns:
        "total_loss" and "AP" -> (P, 2). A key without a finite value is absent; {} without the file.
    """
    if not os.path.lexists(path):
        return {}
    refuse_link(path)
    points: dict[str, dict[int, float]] = {}
    for line in read_bytes(path, MAX_BYTES).splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        iteration = entry.get("iteration") if isinstance(entry, dict) else None
        if type(iteration) is not int or not 0 <= iteration <= MAX_ITERATION:
            continue
        for key, name in KEYS.items():
            if _is_value(entry.get(key)):
                points.setdefault(name, {})[iteration] = float(entry[key])
    return {name: np.array(sorted(found.items()), dtype=float) for name, found in points.items()}


def check_curves(curves: dict[str, Any], where: str) -> dict[str, Curve]:
    """The curves of a line of ``runs.jsonl``, which ``read_curves`` made.

    Raises:
        SetupError: a curve is no list of points, each an iteration and a value.
    """
    for name, points in curves.items():
        is_curve = isinstance(points, list) and all(
            isinstance(point, list)
            and len(point) == 2
            and all(map(_is_value, point))
            and 0 <= point[0] <= MAX_ITERATION
            for point in points
        )
        if not is_curve:
            raise SetupError(
                f"{where}: the curve {name!r} must be a list of points [iteration, value]. "
                "Remove the line and run again."
            )
    known = {name: points for name, points in curves.items() if name in KEYS.values() and points}
    return {name: np.array(sorted(points), dtype=float) for name, points in known.items()}


def _is_value(value: Any) -> bool:
    return type(value) in (int, float) and -MAX_VALUE <= value <= MAX_VALUE


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
