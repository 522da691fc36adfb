"""What a report says, before it is a page: shared by the HTML, the Markdown and the JSON."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..report.plot_style import Panel
from .curve_plots import curve_panels
from .plots import study_panels
from .results import METRICS, Run, StudyFolder
from .statistics import SIGNIFICANCE
from .summary import RowSummary, StudySummary, summarize
from .verdict import conclusions, run_warnings, verdict

__all__ = ["Report", "StudyPart", "build_report", "protocol_facts", "results_json"]

TEST = (
    "Difference from the reference row: Welch's two-sided t-test on the AP of the seeds, Holm-corrected over the rows "
    f"of one study; beyond seed noise where the corrected p is below {SIGNIFICANCE}. Pairs of rows and the lead of a "
    "best row are tested the same way without correction, and nothing is corrected over the studies. With a few seeds "
    "only large differences can pass. Ordering: Kendall's tau-b between our mean AP and the paper's AP, over rows that "
    "have both."
)


@dataclass(frozen=True)
class StudyPart:
    """One study with its plots."""

    summary: StudySummary
    verdict: str
    panels: list[Panel]
    curves: list[Panel]
    discussion: str | None


@dataclass(frozen=True)
class Report:
    folder: StudyFolder
    parts: list[StudyPart]
    shows: str
    hides: str
    warnings: list[str]
    commands: list[str]
    test: str = TEST


def build_report(folder: StudyFolder) -> Report:
    """Summaries, sentences and drawn plots of every study."""
    parts = []
    for study in folder.studies:
        summary = summarize(study)
        discussion = folder.discussion.get(study.name)
        part = StudyPart(summary, verdict(summary), study_panels(summary), curve_panels(summary), discussion)
        parts.append(part)
    shows, hides = conclusions(folder)
    return Report(folder, parts, shows, hides, run_warnings(folder), _commands(folder))


def _commands(folder: StudyFolder) -> list[str]:
    given = folder.settings.get("command") or []
    return [given] if isinstance(given, str) else [str(command) for command in given]


def protocol_facts(folder: StudyFolder) -> list[tuple[str, str]]:
    """(title, text): protocol, data, schedule, hardware, versions; counted over the finished runs."""
    settings = folder.settings
    runs = [run for run in folder.runs.values() if run.status == "finished"]
    overrides = [str(item) for item in settings.get("overrides") or []]
    facts = [
        ("Protocol", str(settings.get("protocol") or "")),
        ("Base config", str(settings.get("base_config") or "")),
        ("Overrides", " ".join(overrides)),
        ("Fraction of the schedule", str(settings.get("fraction", ""))),
        ("Data", "; ".join(_data(runs[0])) if runs else ""),
        ("Schedule", _count(runs, _schedule)),
        ("Hardware", _count(runs, _hardware)),
        ("Versions", _count(runs, _versions)),
        ("Commit", _count(runs, _commit)),
        ("Time", _hours(runs)),
    ]
    return [(title, text) for title, text in facts if text]


def _data(run: Run) -> list[str]:
    sets = (run.record.get("data") or {}).get("sets") or {}
    counts = "{images} images, {boxes} boxes, {classes} classes"
    return [
        f"{name}: " + counts.format_map({**facts, "classes": len(facts.get("class_names") or [])})
        for name, facts in sets.items()
    ]


def _count(runs: list[Run], describe: Callable[[dict[str, Any]], str]) -> str:
    counts = Counter(describe(run.record) for run in runs)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{text} ({count} runs)" for text, count in counts.most_common())


def _schedule(record: dict) -> str:
    return f"{record.get('iterations', '?')} iterations of {record.get('images_per_batch', '?')} images"


def _hardware(record: dict) -> str:
    facts = record.get("hardware") or {}
    cpu = f"{facts.get('cpu', 'unknown')}, {facts.get('cpu_threads', '?')} threads"
    return f"{facts['num_gpus']} x {facts['gpu']}; {cpu}" if facts.get("gpu") else cpu


def _versions(record: dict) -> str:
    return ", ".join(f"{name} {number}" for name, number in (record.get("versions") or {}).items() if number)


def _commit(record: dict) -> str:
    git = record.get("git") or {}
    return f"{(git.get('commit') or 'unknown')[:12]}{' with uncommitted changes' if git.get('dirty') else ''}"


def _hours(runs: list[Run]) -> str:
    seconds = [run.record["wall_seconds"] for run in runs if run.record.get("wall_seconds") is not None]
    return f"{sum(seconds) / 3600:.2f} hours in all, for {len(seconds)} finished runs" if seconds else ""


def results_json(report: Report) -> dict[str, Any]:
    """The figures of the report for another program; null where there is none."""
    studies = {part.summary.study.name: _study_json(part) for part in report.parts}
    return {"settings": report.folder.settings, "test": report.test, "warnings": report.warnings, "studies": studies}


def _study_json(part: StudyPart) -> dict[str, Any]:
    summary = part.summary
    return {
        "title": summary.study.title,
        "reference": summary.study.reference,
        "verdict": part.verdict,
        "ordering": summary.ordering and summary.ordering._asdict(),
        "pairs": summary.pairs._asdict(),
        "rows": [_row_json(row) for row in summary.rows],
        "reported": list(summary.study.reported),
    }


def _row_json(row: RowSummary) -> dict[str, Any]:
    figures = {name: dict(zip(("mean", "std"), row.mean_std(name), strict=True)) for name in (*METRICS, "time_ms")}
    names = ("seed", "path", "status", "reason", "metrics", "no_detections")
    runs = [{name: getattr(run, name) for name in names} for run in row.row.runs]
    facts = {"name": row.row.name, "label": row.row.label, "changes": row.row.changes, "status": row.status, "n": row.n}
    tests = {
        "difference": row.difference,
        "p_welch": row.p_value,
        "p_holm": row.p_holm,
        "beyond_noise": row.beyond_noise,
    }
    paired = row.paired and row.paired._asdict()
    return facts | {"metrics": figures, "paired": paired, "paper": row.row.paper, "runs": runs} | tests
