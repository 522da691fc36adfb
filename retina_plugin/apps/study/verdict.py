"""Writes the sentences of a report from its figures: verdicts, warnings, conclusions."""

from collections.abc import Callable
from typing import Any

from .records import RunRecord
from .results import StudyFolder
from .statistics import SIGNIFICANCE, welch_test
from .summary import RowSummary, StudySummary

__all__ = ["conclusions", "format_p", "pairs_sentence", "run_warnings", "verdict"]

# Paper Sec. 4.1 and 5: trainval35k (COCO's train2017) of 118,287 images, 90k iterations of 16 images.
PAPER_IMAGES = 118_287
PAPER_IMAGES_SEEN = 90_000 * 16


def format_p(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def verdict(summary: StudySummary) -> str:
    """Write one line: the best row, its lead, and the agreement of the order with the paper's."""
    shown = [row for row in summary.rows if row.ap is not None]
    if not shown:
        return "No row has a finished run yet." + _missing(summary)
    best, *rest = sorted(shown, key=lambda row: -row.ap)
    parts = [_best_sentence(summary, best, rest)]
    if summary.ordering:
        tau, p_value, n = summary.ordering
        parts.append(f"Ordering against the paper's: tau = {tau:.2f} (n = {n} rows, {format_p(p_value)}).")
    elif summary.study.is_of_paper and sum(row.row.paper.get("AP") is not None for row in shown) < 3:
        parts.append("Fewer than three rows have both figures, so no ordering is compared.")
    return " ".join(parts) + _missing(summary)


def _best_sentence(summary: StudySummary, best: RowSummary, rest: list[RowSummary]) -> str:
    papers = {row.row.name: row.row.paper["AP"] for row in summary.rows if row.row.paper.get("AP") is not None}
    top = [row for row in summary.rows if papers and papers.get(row.row.name) == max(papers.values())]
    if best.ap == 0:
        return "No row has found anything: every AP is 0."
    if not rest:
        return f"Only {best.row.label} has an AP here: there is nothing to rank."
    if not top:
        papers = "; the paper has no figures for these rows" if summary.study.is_of_paper else ""
        return f"Best here: {best.row.label}{_lead(best, rest)}{papers}."
    if any(row is best for row in top):
        return f"The paper's best row, {best.row.label}, is also best here{_lead(best, rest)}."
    papers_best = next((row for row in top if row.ap is not None), None)
    if papers_best is None:
        return f"The paper's best row, {top[0].row.label}, has no AP here ({top[0].status}); best is {best.row.label}."
    gap = f"{best.ap - papers_best.ap:.1f} AP above it, {_noise(best, papers_best)}"
    return f"The paper's best row is {papers_best.row.label}; here it is {best.row.label}, {gap}."


def _lead(best: RowSummary, rest: list[RowSummary]) -> str:
    return f" ({best.ap - rest[0].ap:.1f} AP ahead of {rest[0].row.label}, {_noise(best, rest[0])})"


def _noise(first: RowSummary, second: RowSummary) -> str:
    """Test one pair of rows, without correction; as the pair is picked for its rank, the p-value is a little low."""
    p_value = welch_test(first.values("AP"), second.values("AP"))
    if p_value is None:
        return f"no test with n = {min(first.n, second.n)}" if min(first.n, second.n) < 2 else "no spread to test with"
    return f"{'beyond' if p_value < SIGNIFICANCE else 'within'} seed noise, {format_p(p_value)}"


def _missing(summary: StudySummary) -> str:
    counts = {s: sum(row.status == s for row in summary.rows) for s in ("diverged", "failed", "not finished")}
    found = [f"{count} {status}" for status, count in counts.items() if count]
    text = f" Of {len(summary.rows)} rows: {', '.join(found)}." if found else ""
    lacks = summary.reference is not None and summary.reference.ap is None
    return text + (f" The reference row, {summary.reference.row.label}, has no AP: no differences." if lacks else "")


def pairs_sentence(summary: StudySummary) -> str:
    """Write the number of pairs of rows that differ by no more than seed noise."""
    total, tested, within = summary.pairs
    if not total:
        return "Fewer than two rows have a figure: there is no order to judge."
    if not tested:
        return f"None of the {total} pairs of rows can be tested (fewer than two seeds, or no spread)."
    rest = f"; {total - tested} cannot be tested" if tested < total else ""
    return f"{within} of the {tested} tested pairs of rows differ by no more than seed noise{rest}."


def conclusions(folder: StudyFolder) -> tuple[str, str]:
    """Write the first lines of the report: the conclusions that it allows, and those it does not."""
    finished = [run for run in folder.runs.values() if run.status == "finished"]
    seeds = sorted({run.seed for run in finished})
    images = seen = 0
    for record in (run.record for run in finished):
        images = max([images, *(facts.images or 0 for facts in record.sets.values())])  # training has the largest set
        seen = max(seen, (record.iterations or 0) * (record.images_per_batch or 0))
    amount, schedule = f"{images:,} training images", f"{seen:,.0f} image presentations"
    is_of_paper = any(study.is_of_paper for study in folder.studies)
    if is_of_paper:
        amount += f" ({_share(images, PAPER_IMAGES)} of the paper's {PAPER_IMAGES:,})"
        schedule += f" ({_share(seen, PAPER_IMAGES_SEEN)} of its {PAPER_IMAGES_SEEN:,})"
    shows = (
        f"How the settings compare with one another under one protocol: {amount}, at most {schedule}, "
        f"{len(finished)} finished runs, seeds {', '.join(map(str, seeds))}. A difference is called real only where it "
        "exceeds the seed noise."
    )
    if len(seeds) < 2:
        shows += " With a single seed nothing is tested: every difference may be chance."
    if not is_of_paper:
        return shows, (
            "The order of the rows may be another on other data or with a longer training; a difference within noise "
            "is not evidence of equality."
        )
    hides = (
        "The level of any AP here is not comparable with the paper's, which stands beside it for the order of the rows "
        "only. That an order holds, or fails to, on this little data and training says nothing certain about COCO at "
        "the paper's length; a difference within noise is not evidence of equality either."
    )
    return shows, hides


def _share(part: float, whole: float) -> str:
    percent = 100 * part / whole
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


# Facts of a record that should be the same in all runs, by title.
UNIFORM: dict[str, Callable[[RunRecord], Any]] = {
    "commits": lambda record: record.commit,
    "devices": lambda record: record.gpu or record.cpu,
    "versions of torch": lambda record: record.versions.get("torch"),
    "versions of Detectron2": lambda record: record.versions.get("detectron2"),
    "lengths of training (iterations)": lambda record: record.iterations,
}


def run_warnings(folder: StudyFolder) -> list[str]:
    """List the weak points of a comparison: different code, machines or schedules, changed code, missing runs."""
    records = [run.record for run in folder.runs.values() if run.status == "finished"]
    warnings = []
    for title, fact in UNIFORM.items():
        found = sorted({str(value) for record in records if (value := fact(record)) not in (None, "")})
        if len(found) > 1:
            warnings.append(f"The runs are of different {title}: {', '.join(found)}.")
    dirty = sum(record.dirty for record in records)
    if dirty:
        warnings.append(f"{dirty} of {len(records)} finished runs were made with uncommitted changes in the code.")
    for status in ("diverged", "failed", "not finished"):
        count = sum(run.status == status for run in folder.runs.values())
        if count:
            warnings.append(f"{count} of {len(folder.runs)} runs: {status}. They are listed under their study.")
    return warnings
