"""How a cost grows with a size: the exponent of a power law."""

import math
from collections.abc import Sequence

__all__ = ["growth_exponent"]


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Least-squares slope of log cost over log size, over the upper half of the sizes.

    A fixed cost hides the growth at small sizes, so the lower half is left out (of three sizes the first).

    Args:
        sizes: increasing, > 0, at least two.
        costs: > 0, of each size.

    Returns:
        1 for linear growth, 0 for none.
    """
    if len(sizes) < 2 or len(sizes) != len(costs):
        raise ValueError(f"an exponent needs two sizes or more and a cost for each, got {len(sizes)}, {len(costs)}")
    first = min(len(sizes) // 2, len(sizes) - 2)
    x = [math.log(size) for size in sizes[first:]]
    y = [math.log(cost) for cost in costs[first:]]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)
