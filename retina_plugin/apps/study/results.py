"""Reads a study folder: the plan that the runner wrote, and the record and learning curves of each run.

Nothing is computed here but what a missing figure means. Whatever cannot be read is refused with the file's name, for a
report of half a folder would look like a report of the whole.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import SetupError
from .learning_curves import Curve, read_curves

__all__ = ["METRICS", "PLOTS", "RECORD", "Row", "Run", "Study", "StudyFolder", "read_study_folder"]

# Names in a run record, as Detectron2's COCO evaluation gives them; the paper writes S, M and L.
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
PAPER_NAMES = {"APS": "APs", "APM": "APm", "APL": "APl"}
PLOTS = ("line", "bars", "grouped", "heatmap", "speed", "none")
RECORD = "run_record.json"


@dataclass(frozen=True)
class Run:
    """One training of one row with one seed."""

    seed: int
    path: str  # folder, relative to the study's
    status: str  # finished, diverged, failed or "not finished"
    reason: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)  # AP in [0, 100]; time_ms; of a finished run only
    no_detections: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One setting of a study: a row of the paper's table, or our own."""

    name: str
    label: str
    changes: dict[str, Any]
    paper: dict[str, Any]  # metric, time_ms or source -> the paper's figure; {}: the paper has none
    x: dict[str, Any]  # values on the plot's axes
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Study:
    name: str
    title: str
    paper_table: str
    question: str
    reference: str | None
    plot: str
    reported: tuple[dict[str, Any], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class StudyFolder:
    """Everything that a report is made of."""

    settings: dict[str, Any]
    studies: tuple[Study, ...]
    runs: dict[str, Run]  # path -> run; a run may serve several rows
    discussion: dict[str, str]  # study -> text


def read_study_folder(study_dir: Path) -> StudyFolder:
    """Read and check ``study.json``, the records that it names and ``discussion.md`` where there is one.

    Raises:
        SetupError: a file is absent or half written, a field is missing, the runs are of different data sets, or none
            of them has finished.
    """
    plan_path = study_dir / "study.json"
    if not plan_path.is_file():
        raise SetupError(
            f"{study_dir} has no study.json, so it is no study folder. Give the folder that `study run` wrote."
        )
    plan = _read_json(plan_path)
    entries = _field(plan, "studies", dict, str(plan_path))
    paths = sorted({path for entry in entries.values() for path in _paths_of(entry, str(plan_path))})
    runs = _fill_no_detections({path: _read_run(study_dir, path) for path in paths})
    _check_data(runs)
    if not any(run.status == "finished" for run in runs.values()):
        raise SetupError(f"{study_dir} has no finished run among its {len(runs)}. Run the study first, or resume it.")
    studies = tuple(_read_study(name, entry, runs, str(plan_path)) for name, entry in entries.items())
    return StudyFolder(plan.get("settings", {}), studies, runs, _read_discussion(study_dir / "discussion.md"))


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(
            f"{path} cannot be read as JSON ({error}): it is half written or damaged. Remove it and run again."
        ) from error
    if not isinstance(content, dict):
        raise SetupError(f"{path} must hold a JSON object, got {type(content).__name__}. Remove it and run again.")
    return content


def _field(node: dict, key: str, kind: type, where: str) -> Any:
    value = node.get(key)
    if not isinstance(value, kind):
        raise SetupError(
            f"{where}: '{key}' must be {kind.__name__}, got {value!r}. Let `study run` write the file again."
        )
    return value


def _paths_of(entry: dict, where: str) -> list[str]:
    if not isinstance(entry, dict):
        raise SetupError(
            f"{where}: each of 'studies' must be an object, got {entry!r}. Let `study run` write it again."
        )
    return [
        path
        for row in _field(entry, "rows", list, where)
        for seed, path in _field(row, "runs", dict, f"{where}, row {row.get('name')!r}").items()
        if _is_run(seed, path, where)
    ]


def _is_run(seed: str, path: Any, where: str) -> bool:
    if not (seed.isdigit() and isinstance(path, str)):
        raise SetupError(f"{where}: 'runs' must map a seed to a folder, got {seed!r}: {path!r}. Write it again.")
    return True


def _read_study(name: str, entry: dict, runs: dict[str, Run], where: str) -> Study:
    where = f"{where}, study {name!r}"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):  # it becomes a file's name
        raise SetupError(f"{where}: a study's name must be letters, digits, '_' and '-'. Rename it there.")
    plot = entry.get("plot", "none")
    if plot not in PLOTS:
        raise SetupError(f"{where}: 'plot' must be one of {', '.join(PLOTS)}, got {plot!r}. Correct it there.")
    rows = tuple(_read_row(row, runs, where) for row in entry["rows"])
    reference = entry.get("reference")
    if reference is not None and reference not in {row.name for row in rows}:
        raise SetupError(
            f"{where}: 'reference' must be one of its rows, got {reference!r}. Name one of "
            f"{', '.join(row.name for row in rows)}."
        )
    return Study(
        name=name,
        title=str(entry.get("title") or name),
        paper_table=str(entry.get("paper_table") or ""),
        question=str(entry.get("question") or ""),
        reference=reference,
        plot=plot,
        reported=tuple(_with_record_names(item) for item in entry.get("reported") or ()),
        rows=rows,
    )


def _read_row(entry: dict, runs: dict[str, Run], where: str) -> Row:
    name = _field(entry, "name", str, where)
    seeds = sorted(entry["runs"], key=int)
    return Row(
        name=name,
        label=str(entry.get("label") or name),
        changes=entry.get("changes") or {},
        paper=_with_record_names(entry.get("paper") or {}),
        x=entry.get("x") or {},
        runs=tuple(runs[entry["runs"][seed]] for seed in seeds),
    )


def _with_record_names(figures: dict[str, Any]) -> dict[str, Any]:
    return {PAPER_NAMES.get(key, key): value for key, value in figures.items()}


def _read_run(study_dir: Path, path: str) -> Run:
    folder = study_dir / path
    seed_text = folder.name.removeprefix("seed")
    seed = int(seed_text) if seed_text.isdigit() else -1
    if not (folder / RECORD).is_file():
        return Run(seed, path, "not finished", "not started")
    record = _read_json(folder / RECORD)
    seed = record.get("seed", seed)
    status = record.get("status")
    facts = {"record": record, "curves": read_curves(folder / "metrics.json")}
    if status in ("diverged", "failed"):
        return Run(seed, path, status, record.get("reason") or "no reason recorded", **facts)
    if status != "finished":
        reason = record.get("reason") or {"running": "still running, or killed"}.get(status, status)
        return Run(seed, path, "not finished", reason, **facts)
    metrics = (record.get("results") or {}).get("bbox")
    if not metrics:
        return Run(seed, path, "not finished", "trained, but not evaluated", **facts)
    return Run(seed, path, "finished", None, *_metrics_of(metrics, record, study_dir / path / RECORD), **facts)


def _metrics_of(scores: dict, record: dict, path: Path) -> tuple[dict[str, float | None], bool]:
    """Metrics of a finished run, and whether it had no detection at all: COCO's AP is then not a number, ours 0."""
    metrics = {name: scores.get(name) for name in METRICS} | {"time_ms": record.get("inference_ms_per_image")}
    for name, value in metrics.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not (number and (0 <= value <= 100 or name == "time_ms")):
            raise SetupError(
                f"{path}: '{name}' must be a number in [0, 100] or null, got {value!r}. Evaluate it again."
            )
    no_detections = metrics["AP"] is None
    if no_detections:
        metrics |= {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    return metrics, no_detections


def _fill_no_detections(runs: dict[str, Run]) -> dict[str, Run]:
    """AP by size is 0 without detections too, but undefined where the data have no box of that size."""
    defined = {name for name in METRICS for run in runs.values() if run.metrics.get(name) is not None}
    for run in runs.values():
        if run.no_detections:
            run.metrics.update({name: 0.0 for name in defined if run.metrics[name] is None})
    return runs


def _check_data(runs: dict[str, Run]) -> None:
    """One report, one data set: figures of two must not stand in one table."""
    known = [(run, run.record["data"]["sets"]) for run in runs.values() if (run.record.get("data") or {}).get("sets")]
    for run, sets in known[1:]:
        first, expected = known[0]
        if sets != expected:
            raise SetupError(
                f"{first.path} and {run.path} are of different data ({_describe(expected)}; {_describe(sets)}): one "
                "report must be of one data set. Move one of them to a study folder of its own."
            )


def _describe(sets: dict[str, dict]) -> str:
    return ", ".join(
        f"{name}: {facts.get('images')} images, {facts.get('boxes')} boxes" for name, facts in sets.items()
    )


def _read_discussion(path: Path) -> dict[str, str]:
    """Text under each ``## <study>`` heading; {} without the file."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if line.startswith("## "):
            lines = sections.setdefault(line[3:].strip(), [])
        else:
            lines.append(line)
    return {name: "\n".join(lines).strip() for name, lines in sections.items()}
