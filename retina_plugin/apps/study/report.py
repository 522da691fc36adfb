"""Builds the report of a study folder and writes it as an HTML page, Markdown, tables and plots."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import SetupError
from ...files import write_whole
from ..report.pages import Table, render
from ..report.plots import Panel
from .curve_plots import curve_panels, draw_overview
from .index import choose_rows
from .plots import study_panels
from .records import METRICS, RunRecord
from .results import Run, Study, StudyFolder, read_study_folder
from .statistics import SIGNIFICANCE
from .summary import RowSummary, StudySummary, summarize
from .tables import csv_text, reported_table, seed_table, stopped_table, study_table
from .verdict import conclusions, pairs_sentence, run_warnings, verdict

__all__ = ["write_report"]

TEST = (
    "Difference from the reference row: Welch's two-sided t-test on the AP of the seeds, Holm-corrected over the rows "
    f"of one study; beyond seed noise where the corrected p is below {SIGNIFICANCE}. Pairs of rows and the lead of a "
    "best row are tested the same way without correction, and nothing is corrected over the studies. With a few seeds "
    "only large differences can pass."
)
ORDERING = " Ordering: Kendall's tau-b between our mean AP and the paper's AP, over rows that have both."


@dataclass(frozen=True)
class StudyPart:
    """Tables, plots and sentences of one study."""

    study: Study
    summary: StudySummary
    anchor: str  # id on the page
    amount: str  # number of finished rows and runs, in words
    verdict: str
    pairs: str  # sentence on how many pairs of rows differ beyond seed noise
    panels: list[Panel]
    curves: list[Panel]
    discussion: list[str]  # paragraphs
    rows: Table
    reported: Table | None  # the paper's detectors that the study does not run
    stopped: Table  # runs without a result
    seeds: Table
    commands: list[str]


@dataclass(frozen=True)
class Report:
    """Content of the HTML page, the Markdown text and the JSON file."""

    folder: StudyFolder
    parts: list[StudyPart]
    shows: str
    hides: str
    warnings: list[str]
    commands: list[str]
    protocol: list[tuple[str, str]]

    @property
    def test(self) -> str:
        return TEST + (ORDERING if self.is_of_paper else "")

    @property
    def is_of_paper(self) -> bool:
        return any(part.study.is_of_paper for part in self.parts)

    @property
    def title(self) -> str:
        if self.is_of_paper:
            return "RetinaNet and focal loss: the paper’s ablations"
        titles = [part.study.title for part in self.parts]
        return titles[0] if len(titles) == 1 else f"Study: {', '.join(titles)}"


def write_report(study_dir: Path, output: Path, rows: Sequence[str] = ()) -> list[Path]:
    """Write the report of a study folder.

    Args:
        study_dir: folder with ``study.json`` and the runs; it is only read.
        output: folder, created if missing; an earlier report in it is replaced.
        rows: names of the rows to report; all of them by default.

    Returns:
        Paths of index.html, report.md, results.json, ``<study>.csv``, the overview and ``plots/`` as PNG and SVG.

    Raises:
        SetupError: the study folder is not valid (see ``read_study_folder``), or ``output`` cannot be written.
    """
    folder = read_study_folder(Path(study_dir))
    if rows:
        folder = replace(folder, studies=tuple(choose_rows({s.name: s for s in folder.studies}, rows).values()))
    report = build_report(folder)
    overview = draw_overview([part.summary for part in report.parts])
    # Everything is made before the first file is written. The pages come last, since they link to the others.
    files: dict[str, str | bytes] = {"overview.png": overview.png, "overview.svg": overview.svg}
    for part in report.parts:
        files[f"{part.study.name}.csv"] = csv_text(part.summary)
        for panel in part.panels + part.curves:
            files[f"plots/{part.study.name}_{panel.name}.png"] = panel.png
            files[f"plots/{part.study.name}_{panel.name}.svg"] = panel.svg
    files["results.json"] = json.dumps(results_json(report), indent=2, allow_nan=False) + "\n"
    files["report.md"] = render("study/report.md.j2", report=report)
    links = {part.anchor: part.study.name.replace("_", " ") for part in report.parts}
    files["index.html"] = render("study/page.html.j2", report=report, links=links)
    paths = {Path(output) / name: content for name, content in files.items()}
    try:
        for path, content in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
    except OSError as error:
        raise SetupError(f"{output} cannot be written ({error.strerror}). Give --output another folder.") from error
    return list(paths)


def build_report(folder: StudyFolder) -> Report:
    """Compute the tables, sentences and plots of every study."""
    parts = []
    for study in folder.studies:
        summary = summarize(study)
        runs = [run for row in study.rows for run in row.runs]
        paragraphs = re.split(r"\n\s*\n", folder.discussion.get(study.name) or "")
        rows, finished = summary.rows, sum(row.n for row in summary.rows)
        part = StudyPart(
            study=study,
            summary=summary,
            anchor="study-" + re.sub(r"[^A-Za-z0-9_-]", "-", study.name),
            amount=f"{sum(row.n > 0 for row in rows)} of {len(rows)} rows, {finished} runs",
            verdict=verdict(summary),
            pairs=pairs_sentence(summary),
            panels=study_panels(summary),
            curves=curve_panels(summary),
            discussion=[" ".join(text.split()) for text in paragraphs if text.strip()],
            rows=study_table(summary),
            reported=reported_table(summary) if study.reported else None,
            stopped=stopped_table(summary),
            seeds=seed_table(summary),
            commands=list(dict.fromkeys(run.record.command for run in runs if run.record.command)),
        )
        parts.append(part)
    shows, hides = conclusions(folder)
    given = folder.settings.get("command") or []
    commands = [given] if isinstance(given, str) else [str(command) for command in given]
    return Report(folder, parts, shows, hides, run_warnings(folder), commands, protocol_facts(folder))


def protocol_facts(folder: StudyFolder) -> list[tuple[str, str]]:
    """Describe protocol, data, schedule, hardware and versions of the finished runs as pairs (title, text)."""
    settings = folder.settings
    runs = [run for run in folder.runs.values() if run.status == "finished"]
    sets = runs[0].record.sets if runs else {}
    counts = [f"{name}: {facts}, {len(facts.class_names)} classes" for name, facts in sets.items()]
    seconds = [run.record.wall_seconds for run in runs if run.record.wall_seconds is not None]

    def schedule(record: RunRecord) -> str:
        iterations, images = ("?" if n is None else n for n in (record.iterations, record.images_per_batch))
        return f"{iterations} iterations of {images} images"

    def hardware(record: RunRecord) -> str:
        cpu = f"{record.cpu or 'unknown'}, {record.cpu_threads or '?'} threads"
        return f"{record.num_gpus} x {record.gpu}; {cpu}" if record.gpu else cpu

    def versions(record: RunRecord) -> str:
        return ", ".join(f"{name} {number}" for name, number in record.versions.items() if number)

    def commit(record: RunRecord) -> str:
        return f"{(record.commit or 'unknown')[:12]}{' with uncommitted changes' if record.dirty else ''}"

    facts = [
        ("Protocol", str(settings.get("protocol") or "")),
        ("Base config", str(settings.get("base_config") or "")),
        ("Overrides", " ".join(str(item) for item in settings.get("overrides") or [])),
        ("Share of the schedule", percent(settings.get("fraction"))),
        ("Data", "; ".join(counts)),
        ("Schedule", _count(runs, schedule)),
        ("Hardware", _count(runs, hardware)),
        ("Versions", _count(runs, versions)),
        ("Commit", _count(runs, commit)),
        ("Time", f"{sum(seconds) / 3600:.2f} hours in all, for {len(seconds)} finished runs" if seconds else ""),
    ]
    return [(title, text) for title, text in facts if text]


def percent(share: Any) -> str:
    """Write a share as percent, such as "3.33 %"; "" for what is no number."""
    return f"{100 * share:.3g} %" if isinstance(share, (int, float)) else ""


def _count(runs: list[Run], describe: Callable[[RunRecord], str]) -> str:
    counts = Counter(describe(run.record) for run in runs)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{text} ({count} runs)" for text, count in counts.most_common())


def results_json(report: Report) -> dict[str, Any]:
    """Collect the numbers of the report for other programs; missing ones are null."""
    studies = {}
    for part in report.parts:
        summary = part.summary
        studies[part.study.name] = {
            "title": part.study.title,
            "reference": part.study.reference,
            "verdict": part.verdict,
            "ordering": summary.ordering and summary.ordering._asdict(),
            "pairs": summary.pairs._asdict(),
            "rows": [row_json(row) for row in summary.rows],
            "reported": list(part.study.reported),
        }
    return {"settings": report.folder.settings, "test": report.test, "warnings": report.warnings, "studies": studies}


def row_json(row: RowSummary) -> dict[str, Any]:
    """Collect the facts, metrics, tests and runs of one row."""
    metrics = {name: dict(zip(("mean", "std"), row.mean_std(name), strict=True)) for name in (*METRICS, "time_ms")}
    names = ("seed", "path", "status", "reason", "metrics", "no_detections")
    return {
        "name": row.row.name,
        "label": row.row.label,
        "changes": row.row.changes,
        "status": row.status,
        "n": row.n,
        "metrics": metrics,
        "paired": row.paired and row.paired._asdict(),
        "paper": row.row.paper,
        "runs": [{name: getattr(run, name) for name in names} for run in row.row.runs],
        "difference": row.difference,
        "p_welch": row.p_value,
        "p_holm": row.p_holm,
        "beyond_noise": row.beyond_noise,
    }
