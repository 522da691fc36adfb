"""Statistics of a report.

Spread over seeds, Welch's test of a difference, Holm's correction, Kendall's rank correlation with the paper.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

__all__ = [
    "SIGNIFICANCE", "Ordering", "Paired", "compare_ordering", "holm", "mean_std", "paired_difference", "welch_test",
]  # fmt: skip

SIGNIFICANCE = 0.05  # convention: a p-value below it is called beyond seed noise


class Ordering(NamedTuple):
    """Kendall's tau-b in [-1, 1], its two-sided p-value and the number of rows."""

    tau: float
    p_value: float
    n: int


class Paired(NamedTuple):
    """Differences between runs of the same seed."""

    mean: float
    std: float | None
    n: int


def mean_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (divisor n - 1): (None, None) of no value, (mean, None) of one."""
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def welch_test(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value of Welch's t-test for equal means; the variances may differ.

    Returns:
        p in [0, 1], symmetric in the arguments; None if a side has fewer than two values or neither has any spread.
    """
    if min(len(first), len(second)) < 2 or len(set(first)) == len(set(second)) == 1:
        return None
    facts = [fact for values in (first, second) for fact in (*mean_std(values), len(values))]
    p_value = float(stats.ttest_ind_from_stats(*facts, equal_var=False).pvalue)
    return p_value if math.isfinite(p_value) else None


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Paired | None:
    """Difference ``first - second`` paired by seed (seed -> value); None if the seeds differ or there are none."""
    if not first or first.keys() != second.keys():
        return None
    differences = [first[seed] - second[seed] for seed in first]
    return Paired(*mean_std(differences), len(differences))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction for testing several differences at once.

    Args:
        p_values: in [0, 1]; None for a comparison without a test, which is not counted.

    Returns:
        The corrected p-values in the given order: the k-th smallest of m is multiplied by (m - k + 1), raised to at
        least the one before it, and limited to 1.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        corrected[i] = least
    return corrected


def compare_ordering(ours: Sequence[float], papers: Sequence[float]) -> Ordering | None:
    """Kendall's tau-b of two rankings of the same rows, ties allowed.

    Returns:
        tau, p-value and number of rows; None with fewer than three rows or if all are tied.
    """
    if len(ours) < 3:
        return None
    result = stats.kendalltau(ours, papers, variant="b")
    return (
        Ordering(float(result.statistic), float(result.pvalue), len(ours)) if math.isfinite(result.statistic) else None
    )
