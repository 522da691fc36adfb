"""Reads the studies from ``configs/ablations/index.yaml`` and the files beside it, and the paper's figures.

A study is a folder of YAML files (its rows) or a grid of values. The changes of a row are found by comparing its file
with the study's base, so that they can be applied to any other config.
"""

import csv
import itertools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ...config.load import config_difference, config_values, load_base_config, load_config
from ...config.safe_yaml import parse_yaml
from ...config.shipped import CONFIGS
from ...config.yaml_source import base_files
from ...errors import SetupError
from ...reading import read_text
from .records import Fields

__all__ = ["ABLATIONS", "PLOTS", "Row", "Study", "choose_rows", "load_studies"]

ABLATIONS = CONFIGS / "ablations"
TABLES = Path(__file__).with_name("paper_tables.csv")
METRICS = ("AP", "AP50", "AP75", "APS", "APM", "APL", "time_ms")
PLOTS = ("line", "bars", "grouped", "heatmap", "speed", "none")
# Base of a study without an entry in the index, the same as for the paper's ablations.
DEFAULT_BASE = "retina_R50_FPN_600.yaml"
MAX_INDEX_BYTES = 2**20
STUDY_KEYS = {"title", "paper_table", "question", "base", "reference", "plot", "axes", "grid", "reported", "rows"}
ROW_KEYS = {"label", "paper", "x"}
NOT_IN_PAPER = "not in the paper"  # in place of a table's number
MAX_ROWS = 10_000  # a guard: the paper's largest grid has 63
# Words of MODEL.LOAD that let through what is otherwise refused.
PERMISSIONS = {"trust", "ignore_manifest", "partial"}


@dataclass(frozen=True)
class Row:
    """One line of a study's table: ``changes`` maps each key of the study to this row's value."""

    name: str
    label: str
    changes: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, Any] = field(default_factory=dict)  # the paper's metrics, time_ms and source; may be {}
    x: dict[str, float] = field(default_factory=dict)  # values on the plot's axes
    runs: tuple = ()  # its runs, by rising seed: see results.py


@dataclass(frozen=True)
class Study:
    """A table whose rows differ only in the study's keys, and how to plot it."""

    name: str
    title: str
    paper_table: str
    question: str
    base: Path
    reference: str | None
    plot: str
    rows: tuple[Row, ...]
    reported: tuple[dict[str, Any], ...] = ()

    @property
    def is_of_paper(self) -> bool:
        """False for a study of one's own."""
        return self.paper_table not in ("", NOT_IN_PAPER)


def load_studies(
    names: list[str] | None = None, folder: Path = ABLATIONS, *, with_changes: bool = True
) -> dict[str, Study]:
    """Load studies by name, in the order of the index, then those without an entry.

    Args:
        names: names of the studies; "all" or None for every one.
        folder: holds ``index.yaml`` (may be missing) and one folder of YAML files per study.
        with_changes: load each file with Detectron2 to find its changes. Without it ``changes`` of such rows are empty,
            and a row without a label in the index gets its name as label.

    Raises:
        SetupError: a study is unknown, or the index does not fit the files.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder} is not a folder: give --studies a folder with one folder of YAML files per study.")
    index = _read_index(folder / "index.yaml")
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.yaml")))
    known = [*index, *(name for name in folders if name not in index)]
    wanted = known if names is None or "all" in names else names
    if not known:
        raise SetupError(f"{folder} has no study: give --studies a folder with one folder of YAML files per study.")
    if unknown := [name for name in wanted if name not in known]:
        raise SetupError(f"unknown study {', '.join(unknown)}: choose from {', '.join(known)}, or all.")
    return {name: _load_study(name, index.get(name, {}), folder, with_changes) for name in dict.fromkeys(wanted)}


def choose_rows(studies: dict[str, Study], names: Sequence[str]) -> dict[str, Study]:
    """Return the studies with the rows of these names alone; studies without any of them are left out.

    Raises:
        SetupError: no study has a row of one of the names.
    """
    known = [row.name for study in studies.values() for row in study.rows]
    if unknown := [name for name in names if name not in known]:
        raise SetupError(f"--rows {unknown[0]} is no row of {', '.join(studies)}: choose from {', '.join(known)}.")
    chosen = {}
    for name, study in studies.items():
        if rows := tuple(row for row in study.rows if row.name in names):
            reference = study.reference if study.reference in names else None
            chosen[name] = replace(study, rows=rows, reference=reference)
    return chosen


def paper_figures(reference: str) -> dict[str, Any]:
    """Look up the paper's figures of ``TABLE/ROW``: METRICS (None if the paper has none) and ``source``.

    Raises:
        SetupError: there is no such row in paper_tables.csv.
    """
    table, _, row = reference.partition("/")
    for record in _tables():
        if (record["table"], record["row_key"]) == (table, row):
            return {**_figures(record), "source": f"{table}: {row}"}
    raise SetupError(f"paper: {reference!r} is not a TABLE/ROW of {TABLES.name}.")


@cache
def _tables() -> list[dict[str, str]]:
    with TABLES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _figures(record: dict[str, str]) -> dict[str, float | None]:
    return {metric: float(record[metric]) if record[metric] else None for metric in METRICS}


def _read_index(path: Path) -> dict[str, dict]:
    if not path.is_file():
        return {}
    index = parse_yaml(read_text(path, MAX_INDEX_BYTES), str(path))[1] or {}
    if not isinstance(index, dict):
        raise SetupError(f"{path} must hold STUDY: {{...}} pairs, got {type(index).__name__}.")
    for name, entry in index.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", str(name)) or str(name).startswith("."):  # it names a folder
            raise SetupError(f"{path}: a study's name must be letters, digits, '_', '-' and '.', got {name!r}.")
        if not isinstance(entry, dict):
            raise SetupError(f"{path}: {name} must hold KEY: VALUE pairs, got {entry!r}.")
        _check_entry(Fields(entry, f"{path}: {name}", "Correct it there."))
    return index


def _check_entry(entry: Fields) -> None:
    """Check the keys of a study, and the types of their values."""
    for key in entry.values.keys() - STUDY_KEYS:
        raise SetupError(f"{entry.where} has the unknown key {key!r}: choose from {', '.join(sorted(STUDY_KEYS))}.")
    for key in ("title", "paper_table", "question", "base", "reference"):
        entry.text(key)
    if entry.text("plot", "bars") not in PLOTS:
        raise SetupError(f"{entry.where} has plot {entry.text('plot')!r}: choose from {', '.join(PLOTS)}.")
    if not all(isinstance(table, str) for table in entry.items("reported")):
        raise entry.refuse("reported", "a list of names of tables")
    axes, grid, rows = entry.group("axes"), entry.group("grid"), entry.group("rows")
    for axis in axes.values:
        axes.text(axis)
    for axis in grid.values:
        if not axes.values.get(axis) or not all(type(value) in (int, float) for value in grid.items(axis)):
            raise grid.refuse(axis, "a list of numbers, of an axis in 'axes'")
    if math.prod(len(values) for values in grid.values.values()) > MAX_ROWS:
        raise entry.refuse("grid", f"at most {MAX_ROWS} rows")
    for row in rows.values:
        facts = rows.group(row)
        for key in facts.values.keys() - ROW_KEYS:
            raise SetupError(f"{entry.where}/{row} has the unknown key {key!r}: choose from {sorted(ROW_KEYS)}.")
        facts.text("label")
        facts.text("paper")
        for axis in (x := facts.group("x")).values:
            x.number(axis)


def _load_own(path: Path) -> CfgNode:
    """Load a config of a study folder, which may come from a stranger.

    Raises:
        SetupError: it gives itself a permission, which only the user's own command or config can give; or a file in its
            chain of _BASE_ is at an address.
    """
    chain, seen = [str(path)], set()
    while chain:
        file = chain.pop()
        if "://" in file:
            raise SetupError(f"{path} has the address {file} in _BASE_, which a study does not follow: copy the file.")
        if file not in seen and os.path.isfile(file):  # a missing one is named by what loads it
            chain += base_files(file)
        seen.add(file)
    cfg = load_config(str(path), [])
    taken = sorted(PERMISSIONS & set(cfg.MODEL.LOAD.split("+")))
    key = f"MODEL.LOAD {taken[0]}" if taken else "DATASETS.ALLOW_OUTSIDE_PATHS"
    if taken or cfg.DATASETS.ALLOW_OUTSIDE_PATHS:
        raise SetupError(f"{path} sets {key}, which a study's files may not: give it on the command line (--opts).")
    return cfg


def _load_study(name: str, entry: dict, folder: Path, with_changes: bool) -> Study:
    base_name = entry.get("base") or DEFAULT_BASE
    # Of a study folder of one's own, elsewhere, the base may be a shipped one.
    base = next((place for place in (folder.parent / base_name, CONFIGS / base_name) if os.path.isfile(place)), None)
    if base is None or os.path.isabs(base_name) or ".." in re.split(r"[/\\]", base_name):
        raise SetupError(
            f"{folder / 'index.yaml'}: {name} has the base {base_name!r}, which must be a file in {folder.parent} or "
            f"{CONFIGS}. Correct it there."
        )
    axes = entry.get("axes") or {}
    if entry.get("grid"):
        if with_changes:
            _load_own(base)
        points = itertools.product(*([(axis, value) for value in values] for axis, values in entry["grid"].items()))
        values = {
            "-".join(f"{axis}_{value:g}" for axis, value in point): {axes[axis]: value for axis, value in point}
            for point in points
        }
    else:
        values = _file_values(folder / name, base, with_changes)
    facts = entry.get("rows") or {}
    if lost := sorted(set(facts) - set(values)):
        raise SetupError(f"{folder / 'index.yaml'}: {name} lists {', '.join(lost)}, for which there is no file.")
    ordered = list(values) if entry.get("grid") else [*facts, *(row for row in values if row not in facts)]
    rows = []
    for row in ordered:
        changes, about = values[row], facts.get(row) or {}
        x = {axis: float(changes[key]) for axis, key in axes.items() if isinstance(changes.get(key), (int, float))}
        label = about.get("label") or ", ".join(f"{axis} {value:g}" for axis, value in x.items()) or row
        paper = paper_figures(about["paper"]) if about.get("paper") else {}
        rows.append(Row(name=row, label=label, changes=changes, paper=paper, x={**x, **(about.get("x") or {})}))
    reference = entry.get("reference") or rows[0].name
    if reference not in values:
        raise SetupError(f"{folder / 'index.yaml'}: {name} has the reference {reference!r}, which is none of its rows.")
    reported = [  # the paper's rows of detectors that the study does not run
        {"label": record["row_key"], **_figures(record), "source": f"{record['table']}: {record['row_key']}"}
        for table in entry.get("reported") or []
        for record in _tables()
        if record["table"] == table
    ]
    return Study(
        name=name,
        title=entry.get("title") or name,
        paper_table=entry.get("paper_table") or NOT_IN_PAPER,
        question=entry.get("question") or "",
        base=base,
        reference=reference,
        plot=entry.get("plot") or "bars",
        rows=tuple(rows),
        reported=tuple(reported),
    )


def _file_values(folder: Path, base: Path, with_changes: bool) -> dict[str, dict[str, Any]]:
    """Map the name of a row to its values of all keys that any row of the folder changes in ``base``."""
    number = r"(\d+(?:\.\d+)?)"  # numbers in names sort as numbers: gamma_2 before gamma_10
    paths = sorted(
        folder.glob("*.yaml"),
        key=lambda path: [float(part) if i % 2 else part for i, part in enumerate(re.split(number, path.stem))],
    )
    if not paths:
        raise SetupError(f"{folder} holds no YAML file: a study needs one per row.")
    if not with_changes:
        return {path.stem: {} for path in paths}
    base_cfg = _load_own(base)
    changed = {}
    for path in paths:
        # A file without a _BASE_ is compared with the defaults: all that it sets is a change.
        before = base_cfg if base_files(str(path)) else load_base_config(str(path))
        difference = config_difference(_load_own(path), before)
        changed[path.stem] = {key: value for key, (_, value) in difference.items()}
    keys = sorted({key for values in changed.values() for key in values})
    # If another row changes a key, this row states the base's value, so that it means the same over any config.
    defaults = config_values(base_cfg)
    return {name: {key: values.get(key, defaults[key]) for key in keys} for name, values in changed.items()}
