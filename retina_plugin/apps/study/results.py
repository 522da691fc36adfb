"""Reads a study folder: the plan that the runner wrote, and the record and learning curves of each run.

Each training has a folder of its own below ``runs/``. ``runs.jsonl`` collects the data that a report needs, one line a
run, so that a study can be kept and shared as two files: ``study.json`` and ``runs.jsonl``. An unreadable file is an
error: a report of half a study would look like a report of the whole.
"""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import SetupError
from ...files import write_whole
from .index import PLOTS, Row, Study
from .learning_curves import Curve, read_curves

__all__ = ["METRICS", "RECORD", "Run", "StudyFolder", "file_lock", "read_record", "read_study_folder", "store_run"]

# Names in a run record, from Detectron2's COCO evaluation; the paper's table has capital S, M and L.
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
PAPER_NAMES = {"APS": "APs", "APM": "APm", "APL": "APl"}
RECORD = "run_record.json"
RUNS = "runs.jsonl"


@dataclass(frozen=True)
class Run:
    """The outcome of one training of one row with one seed."""

    seed: int
    path: str  # folder, relative to the study folder
    status: str  # finished, diverged, failed or "not finished"
    reason: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)  # AP in [0, 100], time_ms; only of a finished run
    no_detections: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyFolder:
    """Content of a study folder; the rows of its studies hold the outcomes of their runs."""

    settings: dict[str, Any]
    studies: tuple[Study, ...]
    runs: dict[str, Run]  # path -> run; several rows may share a run
    discussion: dict[str, str]  # study -> text


def read_record(folder: Path) -> dict | None:
    """Read the record in the folder ``STUDY/runs/ROW-FINGERPRINT/seedN``, else that in the study's ``runs.jsonl``.

    Returns None if both are missing or the record is not complete.
    """
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        study_dir = folder.parents[2]
        return _read_lines(study_dir).get(folder.relative_to(study_dir).as_posix(), {}).get("record")
    except (OSError, ValueError):
        return None


def store_run(folder: Path) -> None:
    """Write the run's line in the study's ``runs.jsonl``: its record and the points of its learning curves."""
    study_dir = folder.parents[2]
    path = folder.relative_to(study_dir).as_posix()
    curves = {name: curve.tolist() for name, curve in read_curves(folder / "metrics.json").items()}
    with file_lock(study_dir / ".runs.lock"):
        lines = _read_lines(study_dir) | {path: {"path": path, "record": _read_json(folder / RECORD), "curves": curves}}
        write_whole(study_dir / RUNS, "".join(json.dumps(lines[key]) + "\n" for key in sorted(lines)))


@contextmanager
def file_lock(path: Path) -> Iterator[IO]:
    """Hold an exclusive lock on a file, created if missing; wait until it is free."""
    import fcntl  # here: Windows has no fcntl, and reading a study needs no lock

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
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
    plan, lines = _read_json(plan_path), _read_lines(study_dir)
    runs: dict[str, Run] = {}
    studies = []
    for name, entry in _field(plan, "studies", dict, str(plan_path)).items():
        if not isinstance(entry, dict):
            raise SetupError(
                f"{plan_path}: each of 'studies' must be an object, got {entry!r}. Let `study run` write it again."
            )
        study = _read_study(name, entry, f"{plan_path}, study {name!r}")
        for path in (path for row in study.rows for path in row.runs):
            runs[path] = runs.get(path) or _read_run(study_dir, path, lines.get(path))
        studies.append(study)
    # COCO's AP by size is undefined without a detection, and also if the data have no box of that size.
    defined = {name for name in METRICS for run in runs.values() if run.metrics.get(name) is not None}
    for run in runs.values():
        if run.no_detections:
            run.metrics.update({name: 0.0 for name in defined if run.metrics[name] is None})
    # Figures of runs on different data must not be compared in one table.
    known = [(run, run.record["data"]["sets"]) for run in runs.values() if (run.record.get("data") or {}).get("sets")]
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
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if line.startswith("## "):
            lines_of_study = discussion.setdefault(line[3:].strip(), [])
        else:
            lines_of_study.append(line)
    texts = {name: "\n".join(text).strip() for name, text in discussion.items()}
    return StudyFolder(plan.get("settings", {}), finished, {path: runs[path] for path in sorted(runs)}, texts)


def _read_json(path: Path, text: str | None = None) -> dict:
    """Parse a JSON object from a file, or from one line of it (``text``)."""
    try:
        content = json.loads(path.read_text(encoding="utf-8") if text is None else text)
    except (OSError, ValueError) as error:
        raise SetupError(
            f"{path} cannot be read as JSON ({error}): it is half written or damaged. Remove it and run again."
        ) from error
    if not isinstance(content, dict):
        raise SetupError(f"{path} must hold a JSON object, got {type(content).__name__}. Remove it and run again.")
    return content


def _read_lines(study_dir: Path) -> dict[str, dict]:
    """Read the lines of ``runs.jsonl`` by path of their run; {} without the file."""
    path = study_dir / RUNS
    if not path.is_file():
        return {}
    lines = [_read_json(path, line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return {_field(line, "path", str, str(path)): line for line in lines}


def _field(node: dict, key: str, kind: type, where: str) -> Any:
    value = node.get(key)
    if not isinstance(value, kind):
        raise SetupError(
            f"{where}: '{key}' must be {kind.__name__}, got {value!r}. Let `study run` write the file again."
        )
    return value


def _read_study(name: str, entry: dict, where: str) -> Study:
    """Read a study of the plan; the ``runs`` of its rows are paths, by rising seed."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):  # it is used as a file name
        raise SetupError(f"{where}: a study's name must be letters, digits, '_' and '-'. Rename it there.")
    plot = entry.get("plot", "none")
    if plot not in PLOTS:
        raise SetupError(f"{where}: 'plot' must be one of {', '.join(PLOTS)}, got {plot!r}. Correct it there.")
    rows = []
    for row in _field(entry, "rows", list, where):
        paths = _field(row, "runs", dict, f"{where}, row {row.get('name')!r}")
        for seed, path in paths.items():
            if not (seed.isdecimal() and isinstance(path, str)):
                raise SetupError(
                    f"{where}: 'runs' must map a seed to a folder, got {seed!r}: {path!r}. Write it again."
                )
        row_name = _field(row, "name", str, where)
        rows.append(
            Row(
                name=row_name,
                label=str(row.get("label") or row_name),
                changes=row.get("changes") or {},
                paper=_with_record_names(row.get("paper") or {}),
                x=row.get("x") or {},
                runs=tuple(paths[seed] for seed in sorted(paths, key=int)),
            )
        )
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
        base=Path(entry.get("base") or ""),
        reference=reference,
        plot=plot,
        rows=tuple(rows),
        reported=tuple(_with_record_names(item) for item in entry.get("reported") or ()),
    )


def _with_record_names(figures: dict[str, Any]) -> dict[str, Any]:
    return {PAPER_NAMES.get(key, key): value for key, value in figures.items()}


def _read_run(study_dir: Path, path: str, line: dict | None) -> Run:
    """Read the outcome of a run from the record in its folder, else from its line in ``runs.jsonl``."""
    folder = study_dir / path
    seed_text = folder.name.removeprefix("seed")
    seed = int(seed_text) if seed_text.isdecimal() else -1
    if (folder / RECORD).is_file():
        record, curves = _read_json(folder / RECORD), read_curves(folder / "metrics.json")
    elif line is not None:
        record = _field(line, "record", dict, f"{study_dir / RUNS}, {path}")
        curves = {name: np.array(points, dtype=float) for name, points in line.get("curves", {}).items()}
    else:
        return Run(seed, path, "not finished", "not started")
    seed, status = record.get("seed", seed), record.get("status")
    facts = {"record": record, "curves": curves}
    if status in ("diverged", "failed"):
        return Run(seed, path, status, record.get("reason") or "no reason recorded", **facts)
    if status != "finished":
        reason = record.get("reason") or {"running": "still running, or killed"}.get(status, status)
        return Run(seed, path, "not finished", reason, **facts)
    scores = (record.get("results") or {}).get("bbox")
    if not scores:
        return Run(seed, path, "not finished", "trained, but not evaluated", **facts)
    metrics = {name: scores.get(name) for name in METRICS} | {"time_ms": record.get("inference_ms_per_image")}
    for name, value in metrics.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not (number and (0 <= value <= 100 or name == "time_ms")):
            raise SetupError(
                f"{folder / RECORD}: '{name}' must be a number in [0, 100] or null, got {value!r}. Evaluate it again."
            )
    no_detections = metrics["AP"] is None  # COCO's AP is NaN then; it counts as 0 here
    if no_detections:
        metrics |= {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    return Run(seed, path, "finished", None, metrics, no_detections, **facts)


def _describe(sets: dict[str, dict]) -> str:
    return ", ".join(
        f"{name}: {facts.get('images')} images, {facts.get('boxes')} boxes" for name, facts in sets.items()
    )
