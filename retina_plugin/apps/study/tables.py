"""The tables of a report as text cells, and as CSV with full precision."""

import csv
import io
from dataclasses import dataclass

from .results import METRICS
from .summary import RowSummary, StudySummary
from .verdict import format_p

__all__ = ["ABSENT", "Line", "Table", "csv_text", "failures", "reported_table", "seed_table", "study_table"]

ABSENT = "–"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Line:
    """Cells of one row; kind: row, reference, stopped (no figure) or reported (the paper's)."""

    kind: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    header: tuple[str, ...]
    lines: tuple[Line, ...]


def study_table(summary: StudySummary) -> Table:
    """Ours as mean ± std over n seeds, the difference from the reference row with its test, the paper's figures."""
    metrics = METRICS + (("time_ms",) if summary.has_times else ())
    titles = tuple("ms / image" if name == "time_ms" else name for name in metrics)
    header = ("setting", "n", "AP", "Δ AP", "p (Holm)", "seed noise", "paper AP", "paper Δ", *titles[1:])
    if summary.has_times:
        header += ("paper ms",)
    lines = [_line(row, metrics, summary.has_times) for row in summary.rows]
    return Table(header, tuple(lines))


def reported_table(summary: StudySummary) -> Table:
    """The paper's figures of detectors that are not run here."""
    names = [
        name for name in (*METRICS, "time_ms") if any(item.get(name) is not None for item in summary.study.reported)
    ]
    titles = ("ms / image" if name == "time_ms" else name for name in names)
    header = ("reported by the paper, not run", *titles, "source")
    lines = [
        (str(item.get("label", "?")), *(_figure(item.get(name)) for name in names), str(item.get("source") or ABSENT))
        for item in summary.study.reported
    ]
    return Table(header, tuple(Line("reported", cells) for cells in lines))


def _line(row: RowSummary, metrics: tuple[str, ...], has_times: bool) -> Line:
    kind = "reference" if row.is_reference else "row" if row.n else "stopped"
    values = [_mean_std(row, name) for name in metrics]
    if not row.n:
        values[0] = row.status
    label = row.row.label + (f" ({'; '.join(row.notes)})" if row.notes and row.n else "")
    paper = row.row.paper
    cells = (
        label,
        str(row.n),
        values[0],
        "reference" if row.is_reference else signed(row.difference),
        ABSENT if row.p_holm is None else format_p(row.p_holm).removeprefix("p = ").removeprefix("p "),
        _noise(row),
        _figure(paper.get("AP")),
        "reference" if row.is_reference and paper.get("AP") is not None else signed(row.paper_difference),
        *values[1:],
    )
    return Line(kind, cells + ((_figure(paper.get("time_ms"), 0),) if has_times else ()))


def _noise(row: RowSummary) -> str:
    if row.is_reference or row.difference is None:
        return ABSENT
    if row.beyond_noise is None:
        return "n = 1: no test" if row.n == 1 else "no test"
    return "beyond" if row.beyond_noise else "within"


def _mean_std(row: RowSummary, metric: str) -> str:
    mean, std = row.mean_std(metric)
    if mean is None:
        return ABSENT
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def _figure(value: float | None, digits: int = 1) -> str:
    return ABSENT if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """+1.2, −0.3 or 0.0, with a true minus sign; a dash for None."""
    if value is None:
        return ABSENT
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else f"{'+' if value > 0 else MINUS}{text}"


def seed_table(summary: StudySummary) -> Table:
    """AP of every run, and the mean difference from the reference paired by seed."""
    seeds = sorted({run.seed for row in summary.rows for run in row.row.runs})
    header = ("setting", *(f"seed {seed}" for seed in seeds), "paired Δ AP")
    return Table(header, tuple(_seed_line(row, seeds) for row in summary.rows))


def _seed_line(row: RowSummary, seeds: list[int]) -> Line:
    runs = {run.seed: run for run in row.row.runs}
    cells = [ABSENT if s not in runs else _figure(runs[s].metrics.get("AP"), 2) for s in seeds]
    cells = [runs[s].status if s in runs and cell == ABSENT else cell for s, cell in zip(seeds, cells, strict=True)]
    paired = ABSENT
    if row.paired:
        spread = "" if row.paired.std is None else f" ± {row.paired.std:.1f}"
        paired = f"{signed(row.paired.mean)}{spread} (n = {row.paired.n})"
    return Line("reference" if row.is_reference else "row", (row.row.label, *cells, paired))


def failures(summary: StudySummary) -> Table:
    """Runs without a figure and why."""
    lines = [
        Line("stopped", (row.row.label, str(run.seed), run.status, run.reason or ABSENT))
        for row in summary.rows
        for run in row.row.runs
        if run.status != "finished"
    ]
    return Table(("setting", "seed", "status", "reason"), tuple(lines))


def csv_text(summary: StudySummary) -> str:
    """One line per row of the study and per reported detector; an absent figure is an empty field."""
    out = io.StringIO()
    metrics = (*METRICS, "time_ms")
    spread = [f"{name}_{part}" for name in metrics for part in ("mean", "std")]
    papers = [f"paper_{name}" for name in metrics]
    fields = ["kind", "name", "label", "status", "n", *spread, "AP_difference", "p_welch", "p_holm", *papers, "source"]
    writer = csv.DictWriter(out, fields, restval="", lineterminator="\n")
    writer.writeheader()
    for row in summary.rows:
        figures = dict(zip(spread, (value for name in metrics for value in row.mean_std(name)), strict=True))
        tests = {"AP_difference": row.difference, "p_welch": row.p_value, "p_holm": row.p_holm}
        facts = {"kind": "row", "name": row.row.name, "label": row.row.label, "status": row.status, "n": row.n}
        writer.writerow(facts | figures | tests | _paper_fields(row.row.paper, metrics))
    for item in summary.study.reported:
        writer.writerow({"kind": "reported", "label": item.get("label")} | _paper_fields(item, metrics))
    return out.getvalue()


def _paper_fields(figures: dict, metrics: tuple[str, ...]) -> dict:
    return {f"paper_{name}": figures.get(name) for name in metrics} | {"source": figures.get("source")}
