"""The typed form of the JSON of a study: the type of each field is checked once, when the file is read.

A study folder may come from a stranger, or be half written. A field of another type than its own ends in one sentence
with the file and the line; unknown fields are ignored.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import SetupError
from ...reading import read_text, refuse_link

__all__ = [
    "MAX_BYTES", "METRICS", "Fields", "RunRecord", "SetFacts", "parse_object", "parse_run_record", "read_object",
    "read_run_record",
]  # fmt: skip

# Names in a run record, from Detectron2's COCO evaluation; the paper's table has capital S, M and L.
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Guards: the records of 200 runs have 2 MB; a record has a depth of 5.
MAX_BYTES = 2**28
MAX_DEPTH = 50
MAX_NUMBER = 2**53  # whole numbers up to it are exact as floats, which other programs take them for
_SHOWN = 80  # characters of a wrong value in a message


@dataclass(frozen=True)
class Fields:
    """A JSON object that checks the type of each field taken from it; null counts as missing."""

    values: dict[str, Any]
    where: str  # file, with the line or the place in it
    remedy: str = "Let `study run` write the file again."

    def refuse(self, key: str, rule: str, remedy: str = "") -> SetupError:
        shown = repr(self.values.get(key))
        shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
        return SetupError(f"{self.where}: '{key}' must be {rule}, got {shown}. {remedy or self.remedy}")

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.refuse(key, "text")
        return value or default

    def flag(self, key: str) -> bool:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return bool(value)

    def number(self, key: str, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) not in (int, float) or not low <= value <= high:
            limits = f"in [{low}, {high}]" if high < MAX_NUMBER else "of 0 or more" if low == 0 else "below 2^53"
            raise self.refuse(key, f"a number {limits} or null")
        return value

    def whole(self, key: str) -> int | None:
        value = self.number(key, 0)
        if value is not None and type(value) is not int:
            raise self.refuse(key, "a whole number")
        return value

    def group(self, key: str, *, required: bool = False) -> "Fields":
        value = self.values.get(key)
        if value is None and not required:
            value = {}
        if not isinstance(value, dict):
            raise self.refuse(key, "an object" if not required else "dict")
        return Fields(value, f"{self.where}, {key}", self.remedy)

    def groups(self, key: str, *, required: bool = False) -> "list[Fields]":
        items = self.items(key, required=required)
        if not all(isinstance(item, dict) for item in items):
            raise self.refuse(key, "a list of objects")
        return [Fields(item, f"{self.where}, {key} {i}", self.remedy) for i, item in enumerate(items, 1)]

    def items(self, key: str, *, required: bool = False) -> list[Any]:
        value = self.values.get(key)
        if value is None and not required:
            value = []
        if not isinstance(value, list):
            raise self.refuse(key, "list")
        return value


@dataclass(frozen=True)
class SetFacts:
    """What a record says of a data set."""

    images: int | None = None
    boxes: int | None = None
    class_names: tuple[str, ...] = ()

    def __str__(self) -> str:
        images, boxes = ("?" if count is None else count for count in (self.images, self.boxes))
        return f"{images} images, {boxes} boxes"


@dataclass(frozen=True)
class RunRecord:
    """The record of one run; None and "" stand for what it does not say."""

    status: str = ""
    reason: str = ""
    seed: int | None = None
    command: str = ""
    iterations: int | None = None
    images_per_batch: int | None = None
    wall_seconds: float | None = None
    ms_per_image: float | None = None
    scores: dict[str, float | None] = field(default_factory=dict)  # METRICS, in [0, 100]; {} if it was not evaluated
    sets: dict[str, SetFacts] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    dirty: bool = False
    gpu: str = ""
    num_gpus: int = 1
    cpu: str = ""
    cpu_threads: int | None = None
    setup_error: bool = False  # it failed by a mistake of the user, who may have corrected it
    content: dict[str, Any] = field(default_factory=dict, repr=False)  # the whole object


def read_run_record(path: Path) -> RunRecord:
    """Read a ``run_record.json``.

    Raises:
        SetupError: it cannot be read, or a field of it is of another type.
    """
    return parse_run_record(read_object(path))


def parse_run_record(record: Fields) -> RunRecord:
    """Check the fields of a record; raise a SetupError for the first that is of another type."""
    git, hardware, sets = record.group("git"), record.group("hardware"), record.group("data").group("sets")
    versions, results = record.group("versions"), record.group("results").group("bbox")
    scores = Fields(results.values, record.where, "Evaluate it again.")
    return RunRecord(
        status=record.text("status"),
        reason=record.text("reason"),
        seed=record.whole("seed"),
        command=record.text("command"),
        iterations=record.whole("iterations"),
        images_per_batch=record.whole("images_per_batch"),
        wall_seconds=record.number("wall_seconds", 0),
        ms_per_image=record.number("inference_ms_per_image", 0),
        scores={name: scores.number(name, 0, 100) for name in METRICS} if results.values else {},
        sets={
            name: SetFacts(facts.whole("images"), facts.whole("boxes"), tuple(map(str, facts.items("class_names"))))
            for name, facts in ((name, sets.group(name)) for name in sets.values)
        },
        versions={name: versions.text(name) for name in versions.values},
        commit=git.text("commit"),
        dirty=git.flag("dirty"),
        gpu=hardware.text("gpu"),
        num_gpus=hardware.whole("num_gpus") or 1,
        cpu=hardware.text("cpu"),
        cpu_threads=hardware.whole("cpu_threads"),
        setup_error=record.flag("setup_error"),
        content=record.values,
    )


def read_object(path: Path) -> Fields:
    """Read the JSON object in a file.

    Raises:
        SetupError: it is missing, damaged, no regular file or no object, or has a value that no record has.
    """
    refuse_link(path)
    return parse_object(read_text(path, MAX_BYTES), str(path))


def parse_object(text: str, where: str) -> Fields:
    """Parse a JSON object, with the errors of ``read_object``; ``where`` is for messages."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SetupError(
            f"{where} cannot be read as JSON ({error}): it is half written or damaged. Remove it and run again."
        ) from None
    if not isinstance(content, dict):
        raise SetupError(f"{where} must hold a JSON object, got {type(content).__name__}. Remove it and run again.")
    level: list[Any] = [content]
    for _ in range(MAX_DEPTH):
        if fault := next(filter(None, map(_find_fault, level)), ""):
            raise SetupError(f"{where} has {fault}, which no record has. Remove it and run again.")
        trees = ([*node, *node.values()] if isinstance(node, dict) else node for node in level)
        level = [inner for tree in trees if isinstance(tree, list) for inner in tree]
        if not level:
            return Fields(content, where)
    raise SetupError(f"{where} is nested too deeply to be a record. Remove it and run again.")


def _find_fault(value: Any) -> str:
    """Name the fault that keeps a value from being written to a page or to JSON again; "" for none."""
    if isinstance(value, int | float) and not (
        math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63
    ):
        return "a number that is not finite" if isinstance(value, float) else "a number beyond 2^63"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "text that is not Unicode"
    return ""
