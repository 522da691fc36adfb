"""Times of several variants of the same work, measured in turn so that a machine's drift meets all of them alike."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from retina_plugin.evaluation.evaluator import device_time

__all__ = ["Spread", "paired_ratio", "spread", "time_in_turn"]

# A call shorter than this is repeated within one sample: perf_counter and the call itself cost about a microsecond.
MIN_SAMPLE_SECONDS = 0.01
MAX_CALLS = 1000


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the samples."""

    median: float
    q1: float
    q3: float


def spread(samples: list[float]) -> Spread:
    """Median and quartiles; of one sample, all three are it.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("a spread needs at least one sample")
    if len(samples) == 1:
        return Spread(*samples * 3)
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, q1, q3)


def time_in_turn(variants: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int) -> dict[str, list[float]]:
    """Seconds a call of each variant, ``rounds`` of each, in the order A B ... A B ...

    Args:
        variants: name to the work; what it returns is dropped. Work on a GPU is waited for.
        rounds: samples of each, >= 1.
        warmup: calls of each beforehand that do not count.
    """
    calls = {name: _warm_up(work, warmup) for name, work in variants.items()}
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            samples[name].append(_seconds(work, calls[name]) / calls[name])
    return samples


def _warm_up(work: Callable[[], object], warmup: int) -> int:
    """Calls of ``work`` that make one sample."""
    for _ in range(warmup):
        work()
    return min(MAX_CALLS, max(1, round(MIN_SAMPLE_SECONDS / max(_seconds(work, 1), 1e-9))))  # 1e-9: a clock's tick


def _seconds(work: Callable[[], object], calls: int) -> float:
    start = device_time()
    for _ in range(calls):
        work()
    return device_time() - start


def paired_ratio(slow: list[float], fast: list[float]) -> Spread:
    """Spread of slow / fast, round by round: how many times faster ``fast`` is."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)])
