"""Reads a study folder: the plan that the runner wrote, and the record and learning curves of each run.

Each training has a folder of its own below ``runs/``. ``runs.jsonl`` collects the data that a report needs, one line a
run, so that a study can be kept and shared as two files: ``study.json`` and ``runs.jsonl``. An unreadable file is an
error: a report of half a study would look like a report of the whole.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from ...errors import SetupError
from ...files import write_whole
from ...locks import lock_file
from ...reading import read_text, refuse_link
from .index import PLOTS, Row, Study
from .learning_curves import Curve, check_curves, read_curves
from .records import (
    MAX_BYTES,
    METRICS,
    Fields,
    RunRecord,
    SetFacts,
    parse_object,
    parse_run_record,
    read_object,
    read_run_record,
)

__all__ = ["RECORD", "Run", "StudyFolder", "file_lock", "read_plan", "read_record", "read_study_folder", "store_run"]

PAPER_NAMES = {"APS": "APs", "APM": "APm", "APL": "APl"}
RECORD = "run_record.json"
RUNS = "runs.jsonl"
MAX_MILLISECONDS = 10**9  # a guard


@dataclass(frozen=True)
class Run:
    """The outcome of one training of one row with one seed."""

    seed: int
    path: str  # folder, relative to the study folder
    status: str  # finished, diverged, failed or "not finished"
    reason: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)  # AP in [0, 100], time_ms; only of a finished run
    no_detections: bool = False
    record: RunRecord = field(default_factory=RunRecord)
    curves: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFolder:
    """Content of a study folder; the rows of its studies hold the outcomes of their runs."""

    settings: dict[str, Any]
    studies: tuple[Study, ...]
    runs: dict[str, Run]  # path -> run; several rows may share a run
    discussion: dict[str, str]  # study -> text


def read_record(folder: Path) -> RunRecord | None:
    """Read the record in the folder ``STUDY/runs/ROW-FINGERPRINT/seedN``, else that in the study's ``runs.jsonl``.

    Returns None if both are missing or the record is not complete.
    """
    if not os.path.lexists(folder / RECORD):
        study_dir = folder.parents[2]
        line = _read_lines(study_dir).get(folder.relative_to(study_dir).as_posix())
        return line and parse_run_record(line.group("record"))
    try:
        return read_run_record(folder / RECORD)
    except SetupError:
        return None


def store_run(folder: Path) -> None:
    """Write the run's line in the study's ``runs.jsonl``: its record and the points of its learning curves."""
    study_dir = folder.parents[2]
    path = folder.relative_to(study_dir).as_posix()
    curves = {name: curve.tolist() for name, curve in read_curves(folder / "metrics.json").items()}
    with file_lock(study_dir / ".runs.lock"):
        lines = {key: line.values for key, line in _read_lines(study_dir).items()}
        lines[path] = {"path": path, "record": read_object(folder / RECORD).values, "curves": curves}
        write_whole(study_dir / RUNS, "".join(json.dumps(lines[key]) + "\n" for key in sorted(lines)))


@contextmanager
def file_lock(path: Path) -> Iterator[IO]:
    """Hold an exclusive lock on a file, created if missing; wait until it is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        lock_file(file, wait=True)
        yield file


def read_study_folder(study_dir: Path) -> StudyFolder:
    """Read and check ``study.json``, its runs and, if there is one, ``discussion.md``.

    Raises:
        SetupError: a file is missing or half written, a field is missing, the runs use different data sets, or none of
            them has finished.
    """
    plan_path = study_dir / "study.json"
    if not plan_path.is_file():
        raise SetupError(
            f"{study_dir} has no study.json, so it is not a study folder. Give the folder that `study run` wrote."
        )
    (plan, studies), lines = read_plan(plan_path), _read_lines(study_dir)
    runs: dict[str, Run] = {}
    for path in (path for study in studies for row in study.rows for path in row.runs):
        runs[path] = runs.get(path) or _read_run(study_dir, path, lines.get(path))
    # COCO's AP by size is undefined without a detection, and also if the data have no box of that size.
    defined = {name for name in METRICS for run in runs.values() if run.metrics.get(name) is not None}
    for run in runs.values():
        if run.no_detections:
            run.metrics.update({name: 0.0 for name in defined if run.metrics[name] is None})
    # Figures of runs on different data must not be compared in one table.
    known = [(run, run.record.sets) for run in runs.values() if run.record.sets]
    for run, sets in known[1:]:
        first, expected = known[0]
        if sets != expected:
            raise SetupError(
                f"{first.path} and {run.path} are of different data ({_describe(expected)}; {_describe(sets)}): one "
                "report must be of one data set. Move one of them to a study folder of its own."
            )
    if not any(run.status == "finished" for run in runs.values()):
        raise SetupError(f"{study_dir} has no finished run among its {len(runs)}. Run the study first, or resume it.")
    finished = tuple(
        replace(study, rows=tuple(replace(row, runs=tuple(runs[path] for path in row.runs)) for row in study.rows))
        for study in studies
    )
    discussion: dict[str, list[str]] = {}  # text under each "## STUDY" heading
    lines_of_study: list[str] = []
    path = study_dir / "discussion.md"
    refuse_link(path)
    for line in read_text(path, MAX_BYTES).splitlines() if os.path.lexists(path) else []:
        if line.startswith("## "):
            lines_of_study = discussion.setdefault(line[3:].strip(), [])
        else:
            lines_of_study.append(line)
    texts = {name: "\n".join(text).strip() for name, text in discussion.items()}
    return StudyFolder(plan.get("settings") or {}, finished, {path: runs[path] for path in sorted(runs)}, texts)


def _read_lines(study_dir: Path) -> dict[str, Fields]:
    """Read the lines of ``runs.jsonl`` by path of their run; {} without the file."""
    path = study_dir / RUNS
    if not os.path.lexists(path):
        return {}
    refuse_link(path)
    text = read_text(path, MAX_BYTES)
    lines = [parse_object(line, f"{path}, line {i}") for i, line in enumerate(text.splitlines(), 1) if line]
    for line in lines:
        if not line.text("path"):
            raise line.refuse("path", "str")
    return {line.text("path"): line for line in lines}


def read_plan(path: Path) -> tuple[dict[str, Any], list[Study]]:
    """Read ``study.json``: its content, and its studies; the ``runs`` of their rows are paths, by rising seed.

    Raises:
        SetupError: it is damaged, or a field is missing or of another type.
    """
    plan = read_object(path)
    entries = plan.group("studies", required=True)
    studies = [
        _read_study(name, replace(entries.group(name), where=f"{path}, study {name!r}")) for name in entries.values
    ]
    settings = plan.group("settings")  # those that a report shows and a second `study run` compares
    for key in ("protocol", "base_config"):
        settings.text(key)
    settings.number("fraction", 0)
    settings.items("overrides")
    if not isinstance(settings.values.get("command"), str):
        settings.items("command")
    return plan.values, studies


def _read_study(name: str, entry: Fields) -> Study:
    """Read a study of the plan."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):  # it is used as a file name
        raise SetupError(f"{entry.where}: a study's name must be letters, digits, '_' and '-'. Rename it there.")
    plot = entry.text("plot", "none")
    if plot not in PLOTS:
        raise entry.refuse("plot", f"one of {', '.join(PLOTS)}", "Correct it there.")
    rows = [_read_row(row) for row in entry.groups("rows", required=True)]
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise entry.refuse("rows", "rows of different names")
    reference = entry.text("reference") or None
    if reference is not None and reference not in names:
        raise entry.refuse("reference", "one of its rows", f"Name one of {', '.join(names)}.")
    return Study(
        name=name,
        title=entry.text("title", name),
        paper_table=entry.text("paper_table"),
        question=entry.text("question"),
        base=Path(entry.text("base")),
        reference=reference,
        plot=plot,
        rows=tuple(rows),
        reported=tuple(_read_figures(item) for item in entry.groups("reported")),
    )


def _read_row(row: Fields) -> Row:
    name = row.text("name")
    if not name:
        raise row.refuse("name", "str")
    runs = row.group("runs", required=True)
    for seed, path in runs.values.items():
        # A path leads to a folder of the study; a seed is a number that a folder can be named after.
        parts = re.split(r"[/\\]", path) if isinstance(path, str) else [".."]
        if not re.fullmatch(r"[0-9]{1,18}", seed) or ".." in parts or not parts[0] or ":" in parts[0]:
            raise SetupError(
                f"{row.where}: 'runs' must map a seed to a folder of the study, got {seed!r}: {path!r}. Write it again."
            )
    x = row.group("x")
    for axis, value in x.values.items():
        if not isinstance(value, str):
            x.number(axis)
    return Row(
        name=name,
        label=row.text("label", name),
        changes=row.group("changes").values,
        paper=_read_figures(row.group("paper")),
        x=x.values,
        runs=tuple(runs.values[seed] for seed in sorted(runs.values, key=int)),
    )


def _read_figures(paper: Fields) -> dict[str, Any]:
    """The figures of the paper under the names of a run record, and their source."""
    figures: dict[str, Any] = {}
    for key in paper.values:
        name = PAPER_NAMES.get(key, key)
        if name in METRICS or name == "time_ms":
            figures[name] = paper.number(key, 0, 100 if name in METRICS else MAX_MILLISECONDS)
        else:
            figures[name] = paper.text(key)
    return figures


def _read_run(study_dir: Path, path: str, line: Fields | None) -> Run:
    """Read the outcome of a run from the record in its folder, else from its line in ``runs.jsonl``."""
    folder = study_dir / path
    seed_text = folder.name.removeprefix("seed")
    seed = int(seed_text) if re.fullmatch(r"[0-9]{1,18}", seed_text) else -1
    if os.path.lexists(folder / RECORD):
        record, curves = read_run_record(folder / RECORD), read_curves(folder / "metrics.json")
    elif line is not None:
        record = parse_run_record(replace(line.group("record", required=True), where=line.where))
        curves = check_curves(line.group("curves").values, line.where)
    else:
        return Run(seed, path, "not finished", "not started")
    seed, status = seed if record.seed is None else record.seed, record.status
    facts = {"record": record, "curves": curves}
    if status in ("diverged", "failed"):
        return Run(seed, path, status, record.reason or "no reason recorded", **facts)
    if status != "finished":
        reason = record.reason or {"running": "still running, or killed"}.get(status, status)
        return Run(seed, path, "not finished", reason, **facts)
    if not record.scores:
        return Run(seed, path, "not finished", "trained, but not evaluated", **facts)
    metrics = record.scores | {"time_ms": record.ms_per_image}
    no_detections = metrics["AP"] is None  # COCO's AP is NaN then; it counts as 0 here
    if no_detections:
        metrics |= {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    return Run(seed, path, "finished", None, metrics, no_detections, **facts)


def _describe(sets: dict[str, SetFacts]) -> str:
    return ", ".join(f"{name}: {facts}" for name, facts in sets.items())
