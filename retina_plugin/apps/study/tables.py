"""Makes the tables of a report as text cells, and as CSV with full precision."""

import csv
import io

from ..report.pages import DASH, Table
from .records import METRICS
from .summary import RowSummary, StudySummary
from .verdict import format_p

__all__ = ["csv_text", "reported_table", "seed_table", "signed", "stopped_table", "study_table"]

MINUS = "\N{MINUS SIGN}"
CELL_CLASSES = {"beyond": "beyond", "within": "within", "diverged": "bad", "failed": "bad"}


def study_table(summary: StudySummary) -> Table:
    """Make the table of our mean ± std over n seeds, tested differences from the reference, and the paper's figures."""
    metrics = METRICS + (("time_ms",) if summary.has_times else ())
    titles = tuple("ms / image" if name == "time_ms" else name for name in metrics)
    papers = ("paper AP", "paper Δ") if summary.has_paper("AP") else ()
    paper_times = ("paper ms",) if summary.has_paper("time_ms") else ()
    columns = ("setting", "n", "AP", "Δ AP", "p (Holm)", "seed noise", *papers, *titles[1:], *paper_times)
    rows = []
    for row in summary.rows:
        if row.is_reference or row.difference is None:
            noise = DASH
        elif row.beyond_noise is None:
            noise = "n = 1: no test" if row.n == 1 else "no test"
        else:
            noise = "beyond" if row.beyond_noise else "within"
        values, paper = [_mean_std(row, name) for name in metrics], row.row.paper
        if not row.n:
            values[0] = row.status
        cells = [
            row.row.label + (f" ({'; '.join(row.notes)})" if row.notes and row.n else ""),
            str(row.n),
            values[0],
            "reference" if row.is_reference else signed(row.difference),
            DASH if row.p_holm is None else format_p(row.p_holm).removeprefix("p = ").removeprefix("p "),
            noise,
        ]
        if papers:
            has_ap = row.is_reference and paper.get("AP") is not None
            cells += [_decimals(paper.get("AP")), "reference" if has_ap else signed(row.paper_difference)]
        rows.append([*cells, *values[1:], *(_decimals(paper.get("time_ms"), 0) for _ in paper_times)])
    kinds = ["reference" if row.is_reference else "" for row in summary.rows]
    return Table(summary.study.title, columns, rows, row_classes=kinds, cell_classes=CELL_CLASSES)


def _mean_std(row: RowSummary, metric: str) -> str:
    mean, std = row.mean_std(metric)
    if mean is None:
        return DASH
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def _decimals(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """Format a difference: +1.2, −0.3 or 0.0, with a true minus sign; a dash for None."""
    if value is None:
        return DASH
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else f"{'+' if value > 0 else MINUS}{text}"


def reported_table(summary: StudySummary) -> Table:
    """Make the table of the paper's detectors that the study does not run."""
    reported = summary.study.reported
    names = [name for name in (*METRICS, "time_ms") if any(item.get(name) is not None for item in reported)]
    titles = ["ms / image" if name == "time_ms" else name for name in names]
    rows = [
        [str(item.get("label", "?")), *(_decimals(item.get(name)) for name in names), str(item.get("source") or DASH)]
        for item in reported
    ]
    columns = ["reported by the paper, not run", *titles, "source"]
    return Table("Reported by the paper, not run", columns, rows, row_classes=["reported"] * len(rows))


def seed_table(summary: StudySummary) -> Table:
    """Make the table of every run's AP, with the mean difference from the reference, paired by seed."""
    seeds = sorted({run.seed for row in summary.rows for run in row.row.runs})
    rows = []
    for row in summary.rows:
        cells = {}
        for run in row.row.runs:
            ap = run.metrics.get("AP")
            cells[run.seed] = run.status if ap is None else f"{ap:.2f}"
        paired = DASH
        if row.paired:
            spread = "" if row.paired.std is None else f" ± {row.paired.std:.1f}"
            paired = f"{signed(row.paired.mean)}{spread} (n = {row.paired.n})"
        rows.append([row.row.label, *(cells.get(seed, DASH) for seed in seeds), paired])
    kinds = ["reference" if row.is_reference else "" for row in summary.rows]
    columns = ["setting", *(f"seed {seed}" for seed in seeds), "paired Δ AP"]
    return Table("AP by seed", columns, rows, row_classes=kinds, cell_classes=CELL_CLASSES)


def stopped_table(summary: StudySummary) -> Table:
    """Make the table of the runs without a result, with the reason."""
    rows = [
        [row.row.label, str(run.seed), run.status, " ".join((run.reason or DASH).split())]
        for row in summary.rows
        for run in row.row.runs
        if run.status != "finished"
    ]
    columns = ["setting", "seed", "status", "reason"]
    return Table("Runs without a result", columns, rows, text=(0, 2, 3), cell_classes=CELL_CLASSES)


def csv_text(summary: StudySummary) -> str:
    """Make the CSV text, a line for each row of the study and each reported detector; missing figures are empty."""
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
