"""Finding and reading the files of a data set: files of a folder, text, class names."""

import codecs
import contextlib
import csv
import io
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ...config.safe_yaml import parse_yaml
from ...errors import SetupError
from ...reading import free_memory
from ..image_paths import open_named

__all__ = ["list_files", "read_lines", "read_names", "read_text", "read_yaml", "refuse_results"]

# A guard: the largest annotation of one image that was seen has 60 kB; a file beyond this is something else.
MAX_BYTES = 64 * 2**20
MAX_LINE = 2**20  # characters; eight fields of the size that csv takes
MAX_YAML_BYTES = 2**20  # a guard: PyYAML reads 50 kB a second
_HEAD = 4096  # bytes of predictions.json; its first key says what wrote it
_DATA_SUFFIXES = (".xml", ".json", ".csv", ".txt", ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_BYTES_A_ROW = 600  # what a short row of a CSV file takes once it is read


class _Results(NamedTuple):
    """What a command of this program leaves in a folder."""

    command: str
    marks: tuple[frozenset[str], ...]  # names; a folder with all of one set is such a folder
    stems: frozenset[str]  # of its files
    folders: frozenset[str] = frozenset()


_RESULTS = (
    _Results(
        "retina predict", (frozenset({"predictions.json"}),), frozenset({"predictions"}), frozenset({"drawn"})
    ),
    _Results(
        "retina train",
        tuple(frozenset({"config.yaml", mark}) for mark in ("last_checkpoint", "run_record.json", "metrics.json")),
        frozenset({"best_metric", "chosen", "config", "config_diff", "curves", "eval_record", "log", "metrics",
                   "run_record"}),
        frozenset({"datasets", "inference", "inference_eval_only"}),
    ),
    _Results(
        "retina evaluate", (frozenset({"evaluation.json", "ap.csv"}),),
        frozenset({"ap", "calibration", "classes", "confusion", "errors", "eval_record", "evaluation", "images",
                   "pr_curves", "size_and_aspect"}),
        frozenset({"inference_eval_only"}),
    ),
    _Results(
        "retina compare", (frozenset({"comparison.json", "differences.csv"}),),
        frozenset({"comparison", "differences", "error_differences", "image_mistakes"}),
    ),
)  # fmt: skip


def _results_in(folder: str | os.PathLike, names: Collection[str]) -> list[_Results]:
    """The commands that have left results among the ``names`` in ``folder``."""
    found = [results for results in _RESULTS if any(mark <= set(names) for mark in results.marks)]
    return [results for results in found if results.command != "retina predict" or _is_predicted(Path(folder))]


def _is_predicted(folder: Path) -> bool:
    with contextlib.suppress(SetupError), open_named(folder / "predictions.json") as file:
        return re.search(rb'"description": "retina_plugin [^"]*, retina predict"', file.read(_HEAD)) is not None
    return False


def refuse_results(path: Path) -> None:
    """Refuse a file or folder that holds nothing but results of a command of this program.

    Raises:
        SetupError: it does.
    """
    folder = path if path.is_dir() else path.parent
    places = [folder] if path.is_file() else [folder, folder.absolute().parent]
    for place in places:
        for results in _results_in(place, os.listdir(place) if os.access(place, os.R_OK | os.X_OK) else ()):
            if place != folder:
                is_result = folder.name in results.folders - {"datasets"}
            elif path.is_file():
                is_result = path.name.split(".")[0] in results.stems
            else:
                is_result = not any("datasets" not in file.parts for file in list_files(path, _DATA_SUFFIXES))
            if is_result:
                raise SetupError(
                    f"{path} is a result of `{results.command}`, not annotated data: name the folder of the boxes and "
                    "images that you have drawn."
                )


def list_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files below ``folder`` with one of ``suffixes`` in either case, sorted.

    Hidden ones are left out, and what the program's own commands have written.
    """
    wanted = tuple(suffixes)
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:  # a link to a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        own = _results_in(parent, [*folders, *names])
        left_out = {name for results in own for name in folders if name in results.folders}
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left_out)
        names = [name for name in names if not any(name.split(".")[0] in results.stems for results in own)]
        found += [Path(parent, name) for name in names if name.lower().endswith(wanted) and not name.startswith(".")]
    return sorted(found)


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its byte order mark.

    Raises:
        SetupError: it is missing, too large, not text, cannot be read, or lies outside the folders of its set.
    """
    with open_named(path, max_bytes) as file:
        data = file.read(max_bytes + 1)
        return data.decode(_encoding(data))


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file of any size as ``read_text`` reads it, with their ends, as a CSV reader wants them.

    Raises:
        SetupError: for the reasons of ``read_text``, or it has a line of more than MAX_LINE characters.
    """
    with open_named(path) as raw, io.TextIOWrapper(raw, encoding=_encoding(raw.peek(2)), newline="") as file:
        number, left = 0, free_memory()
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE:
                raise SetupError(f"{path}:{number}: a line must have fewer than {MAX_LINE} characters: is it a table?")
            left -= _BYTES_A_ROW + 2 * len(line)
            if left < 0:
                raise SetupError(f"{path}:{number}: the rows do not fit into the memory that is free: split the file.")
            yield line


def _encoding(data: bytes) -> str:
    return "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file, read without running anything in it.

    Raises:
        SetupError: it is not YAML, no mapping, or beyond the limits of ``parse_yaml``.
    """
    text = read_text(path, MAX_YAML_BYTES)
    content = parse_yaml(text, str(path), ":{line}", max_characters=MAX_YAML_BYTES)[1]
    if not isinstance(content, dict):
        raise SetupError(f"{path} must hold KEY: VALUE pairs, got {type(content).__name__}.")
    return content


def read_names(path: Path) -> list[str]:
    """Class names in their order: a line each, ``names`` of a YAML file, or ``name,id`` rows of a CSV file.

    Raises:
        SetupError: there are none, one occurs twice, or the ids do not count from 0.
    """
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        names = _names_of_yaml(path, read_yaml(path).get("names"))
    elif suffix == ".csv":
        names = _names_of_csv(path)
    else:
        # A last empty line is the end of the last name; one in between would shift the classes behind it.
        lines = read_text(path, MAX_YAML_BYTES).rstrip().splitlines()
        empty = next((i for i, line in enumerate(lines, 1) if not line.strip()), None)
        if empty:
            raise SetupError(f"{path}:{empty}: a line without a class name: remove it.")
        names = [line.strip() for line in lines]
    if not names:
        raise SetupError(f"{path} has no class names: write one a line.")
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise SetupError(f"{path} has the class {repeated!r} more than once: give each its own name.")
    return names


def _names_of_yaml(path: Path, names: object) -> list[str]:
    if isinstance(names, dict):
        names = {int(key) if isinstance(key, str) and key.strip().isdecimal() else key: n for key, n in names.items()}
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise SetupError(f"{path}: names must be numbered 0 to {len(names) - 1}, got {', '.join(map(str, names))}.")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not all(type(name) in (str, int) and str(name).strip() for name in names):
        # YAML takes yes, no, on and off for True and False.
        is_bool = isinstance(names, list) and any(isinstance(name, bool) for name in names)
        hint = ": put them in quotes" if is_bool else ""
        raise SetupError(f"{path} needs names: a list of class names, got {names!r}{hint}.")
    return [str(name).strip() for name in names]


def _names_of_csv(path: Path) -> list[str]:
    ids: dict[str, int] = {}
    for row in (reader := csv.reader(read_text(path).splitlines())):
        if not row:
            continue
        if len(row) != 2 or not row[1].strip().isdecimal():
            raise SetupError(
                f"{path}:{reader.line_num}: a class is name,id with a whole number, got {','.join(row)!r}."
            )
        if row[0].strip() in ids:
            raise SetupError(f"{path}:{reader.line_num}: the class {row[0].strip()!r} occurs twice: keep one.")
        ids[row[0].strip()] = int(row[1])
    if sorted(ids.values()) != list(range(len(ids))):
        raise SetupError(f"{path}: class ids must count from 0 to {len(ids) - 1}, got {sorted(ids.values())}.")
    return sorted(ids, key=ids.__getitem__)
