"""Summarizes the runs of a study: mean and spread, differences, tests, agreement with the paper."""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

from .index import Row, Study
from .results import Run
from .statistics import SIGNIFICANCE, Ordering, Paired, compare_ordering, holm, mean_std, paired_difference, welch_test

__all__ = ["Pairs", "RowSummary", "StudySummary", "summarize"]


class Pairs(NamedTuple):
    """Numbers of pairs of rows: all, tested, and tested without a difference beyond seed noise."""

    total: int
    tested: int
    within_noise: int


@dataclass(frozen=True)
class RowSummary:
    """One line of a study's table."""

    row: Row
    is_reference: bool = False
    difference: float | None = None  # mean AP minus that of the reference row
    paired: Paired | None = None
    p_value: float | None = None  # Welch, before correction
    p_holm: float | None = None
    paper_difference: float | None = None

    @cached_property
    def finished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.row.runs if run.status == "finished")

    @property
    def n(self) -> int:
        return len(self.finished)

    @property
    def status(self) -> str:
        """ "finished" if any run is, else the first of diverged, failed, not finished that a run has."""
        found = {run.status for run in self.row.runs}
        return next((s for s in ("finished", "diverged", "failed") if s in found), "not finished")

    def values(self, metric: str) -> list[float]:
        """Values of a metric in the finished runs that have it, by seed."""
        return [run.metrics[metric] for run in self.finished if run.metrics.get(metric) is not None]

    def mean_std(self, metric: str) -> tuple[float | None, float | None]:
        return mean_std(self.values(metric))

    @property
    def ap(self) -> float | None:
        return self.mean_std("AP")[0]

    @property
    def beyond_noise(self) -> bool | None:
        """True if the corrected p-value is significant; None without a test."""
        return None if self.p_holm is None else self.p_holm < SIGNIFICANCE

    @property
    def notes(self) -> list[str]:
        """Remarks on unfinished runs and on runs without detections."""
        notes = [f"{run.status} with seed {run.seed}" for run in self.row.runs if run.status != "finished"]
        empty = [str(run.seed) for run in self.finished if run.no_detections]
        return notes + ([f"no detections with seed {', '.join(empty)}"] if empty else [])


@dataclass(frozen=True)
class StudySummary:
    """A study and the numbers derived from its runs."""

    study: Study
    rows: tuple[RowSummary, ...]
    ordering: Ordering | None
    pairs: Pairs

    @property
    def reference(self) -> RowSummary | None:
        return next((row for row in self.rows if row.is_reference), None)

    @property
    def has_times(self) -> bool:
        return any(row.values("time_ms") or row.row.paper.get("time_ms") is not None for row in self.rows)

    def has_paper(self, metric: str) -> bool:
        """True if the paper has a figure of this metric for a row."""
        return any(row.row.paper.get(metric) is not None for row in self.rows)

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for row in self.rows for run in row.finished})


def summarize(study: Study) -> StudySummary:
    """Compare every row of a study with its reference row and with the paper.

    The tests against the reference row are corrected together by Holm; the tests of pairs of rows are not corrected.
    Rows without a finished run are not tested.
    """
    plain = [RowSummary(row) for row in study.rows]
    reference = next((row for row in plain if row.row.name == study.reference), None)
    others = [row for row in plain if reference and row is not reference]
    p_values = [welch_test(row.values("AP"), reference.values("AP")) for row in others]
    tests = {row.row.name: pair for row, pair in zip(others, zip(p_values, holm(p_values), strict=True), strict=True)}
    rows = []
    for row in plain:
        if reference is None or row is reference:
            rows.append(RowSummary(row.row, is_reference=reference is not None))
            continue
        p_value, p_holm = tests[row.row.name]
        rows.append(
            RowSummary(
                row.row,
                difference=_subtract(row.ap, reference.ap),
                paired=paired_difference(_by_seed(row), _by_seed(reference)),
                p_value=p_value,
                p_holm=p_holm,
                paper_difference=_subtract(row.row.paper.get("AP"), reference.row.paper.get("AP")),
            )
        )
    shown = [row for row in rows if row.ap is not None]
    both = [row for row in shown if row.row.paper.get("AP") is not None]
    ordering = compare_ordering([row.ap for row in both], [row.row.paper["AP"] for row in both])
    pairwise = [welch_test(first.values("AP"), second.values("AP")) for first, second in combinations(shown, 2)]
    tested = [p for p in pairwise if p is not None]
    pairs = Pairs(len(pairwise), len(tested), sum(p >= SIGNIFICANCE for p in tested))
    return StudySummary(study, tuple(rows), ordering, pairs)


def _subtract(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _by_seed(row: RowSummary) -> dict[int, float]:
    return {run.seed: run.metrics["AP"] for run in row.finished}
