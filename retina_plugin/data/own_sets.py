"""Data sets that a config declares by path, in any of the known formats: ``DATASETS.TRAIN_PATH``, ``DATASETS.OWN``."""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ..errors import SetupError
from .formats import FORMATS, read_boxes
from .formats.box_set import BoxSet, Remark
from .formats.files import read_names
from .split import split_set

__all__ = ["OwnSet", "read_own_sets"]

# Where a set says itself what is for validation: Pascal VOC's list, YOLO's folders.
_OWN_SPLITS = ("ImageSets/Main/val.txt", "images/val", "val")
_ENTRY_KEYS = ("name", "path", "format", "images", "classes", "use", "split")
_SPLIT_KEYS = ("val", "seed", "group")
_USES = ("train", "val")


@dataclass(frozen=True)
class OwnSet:
    """A declared set or its part, as it is to be registered."""

    name: str
    use: str  # "train" or "val"
    path: Path
    # None: the path does not exist here, which matters only to who uses the set.
    content: BoxSet | None


@dataclass(frozen=True)
class _Declaration:
    """What the config says of one set."""

    key: str  # of the config, for messages
    names: tuple[str, ...]  # in the catalog: one, or those of train and val where it is split
    path: Path
    use: str = "train"
    file_format: str = "auto"
    images: Path | None = None
    classes: tuple[str, ...] = ()
    fraction: float = 0.0
    seed: int = 0
    group: str = ""
    subset: str = ""


def read_own_sets(cfg: CfgNode) -> tuple[list[OwnSet], list[str]]:
    """The sets that ``cfg`` declares by path, and the names of their classes in common; ([], []) without any.

    Classes of names files come first, in their order; others follow by name. A declared path that is missing is
    passed over as long as another is there, since an evaluation may run where the training set is not.

    Raises:
        SetupError: a key, or a file with its line.
    """
    declarations = _declarations(cfg)
    if declarations and not any(declaration.path.exists() for declaration in declarations):
        first = declarations[0]
        raise SetupError(f"{first.key} is {first.path}, which does not exist: give the folder or file of the boxes.")
    allow_outside = cfg.DATASETS.ALLOW_OUTSIDE_PATHS
    sets = [part for declaration in declarations for part in _read(declaration, allow_outside=allow_outside)]
    _refuse_same_images(declarations, sets)
    given, counted = [], set()
    for part in sets:
        if part.content is not None:
            given += part.content.given_classes or []
            counted |= set(part.content.class_counts)
    class_names = list(dict.fromkeys([*given, *sorted(counted)]))
    if sets and not class_names:
        raise SetupError(f"{sets[0].path} has no box in any image: there is no class to learn.")
    return sets, class_names


def _read(declaration: _Declaration, *, allow_outside: bool) -> list[OwnSet]:
    use, path = declaration.use, declaration.path
    uses = _USES if declaration.fraction else (use,)
    if not path.exists():
        return [OwnSet(name, use, path, None) for name, use in zip(declaration.names, uses, strict=True)]
    whole = read_boxes(
        path,
        declaration.file_format,
        images=declaration.images,
        subset=declaration.subset,
        classes=list(declaration.classes) or None,
        allow_outside=allow_outside,
    )
    parts = (whole,)
    if declaration.fraction:
        if recorded := next((path / name for name in _OWN_SPLITS if (path / name).exists()), None):
            what = "its own split is not used, VAL_FRACTION draws another (the same path in VAL_PATH takes its own)"
            whole.remarks.append(Remark(what, str(recorded)))
        parts = split_set(whole, declaration.fraction, declaration.seed, declaration.group)
        if whole.given_classes is None:  # the order of the classes is a matter of all sets together
            for part in parts:
                part.given_classes = None
    return [OwnSet(name, use, path, part) for name, use, part in zip(declaration.names, uses, parts, strict=True)]


def _declarations(cfg: CfgNode) -> list[_Declaration]:
    node = cfg.DATASETS
    _check_values(node)
    if not node.OWN:
        return _from_paths(node)
    used = next((k for k in ("TRAIN_PATH", "VAL_PATH", "TRAIN_JSON", "VAL_JSON", "VAL_FRACTION") if node[k]), None)
    if used:
        raise SetupError(f"DATASETS.OWN and DATASETS.{used} are both set: give the sets in one of them.")
    declarations = [_from_entry(f"DATASETS.OWN[{i}]", entry) for i, entry in enumerate(node.OWN)]
    names = [name for declaration in declarations for name in declaration.names]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise SetupError(f"DATASETS.OWN has more than one set with the name {repeated!r}: make it unique.")
    return declarations


def _check_values(node: CfgNode) -> None:
    formats = ("auto", *FORMATS)
    if node.FORMAT not in formats:
        raise SetupError(f"DATASETS.FORMAT must be one of {', '.join(formats)}, got {node.FORMAT!r}.")
    if not 0 <= node.VAL_FRACTION < 1:
        raise SetupError(f"DATASETS.VAL_FRACTION must be in [0, 1), got {node.VAL_FRACTION:g}: 0.2 is a fifth.")
    for prefix in ("TRAIN", "VAL"):
        if node[f"{prefix}_PATH"] and node[f"{prefix}_JSON"]:
            raise SetupError(f"DATASETS.{prefix}_PATH and DATASETS.{prefix}_JSON are both set: give one of them.")


def _from_paths(node: CfgNode) -> list[_Declaration]:
    common: dict[str, Any] = {"file_format": node.FORMAT, "classes": _class_names("DATASETS.CLASSES", node.CLASSES)}
    if node.VAL_FRACTION:
        taken = next((key for key in ("VAL_PATH", "VAL_JSON") if node[key]), None)
        if taken:
            raise SetupError(
                f"DATASETS.VAL_FRACTION is {node.VAL_FRACTION:g}, but DATASETS.{taken} names a set to validate on: "
                "give one of them."
            )
        key = "TRAIN_PATH" if node.TRAIN_PATH else "TRAIN_JSON"
        if not node[key]:
            raise SetupError("DATASETS.VAL_FRACTION needs DATASETS.TRAIN_PATH, the set to split.")
        if key == "TRAIN_JSON":
            common["file_format"] = "coco"
        return [
            _Declaration(
                f"DATASETS.{key}", ("custom_train", "custom_val"), _path(node[key]), images=_images(node.TRAIN_IMAGES),
                fraction=node.VAL_FRACTION, seed=node.SPLIT_SEED, group=node.SPLIT_GROUP, **common,
            )
        ]  # fmt: skip
    return [
        _Declaration(
            f"DATASETS.{prefix}_PATH", (f"custom_{use}",), _path(node[f"{prefix}_PATH"]), use,
            images=_images(node[f"{prefix}_IMAGES"]), subset=use, **common,
        )
        for prefix, use in (("TRAIN", "train"), ("VAL", "val"))
        if node[f"{prefix}_PATH"]
    ]  # fmt: skip


def _from_entry(key: str, entry: Any) -> _Declaration:
    _check_keys(key, entry, _ENTRY_KEYS)
    for needed in ("name", "path"):
        if not isinstance(entry.get(needed), str) or not entry[needed]:
            raise SetupError(f"{key} needs {needed}, as text, got {entry.get(needed)!r}.")
    if not re.fullmatch(r"[\w.-]+", entry["name"]):  # it becomes the name of a file too
        raise SetupError(f"{key}: name must be of letters, digits, '_', '-' and '.', got {entry['name']!r}.")
    use, split = entry.get("use", "train"), entry.get("split") or {}
    if use not in _USES:
        raise SetupError(f"{key}: use must be train or val, got {use!r}.")
    _check_keys(f"{key}: split", split, _SPLIT_KEYS)
    fraction, seed, group = split.get("val", 0.0), split.get("seed", 0), split.get("group", "")
    if split and (type(fraction) is not float or not 0 < fraction < 1):
        raise SetupError(f"{key}: split.val must be in (0, 1), got {fraction!r}: 0.2 is a fifth.")
    if type(seed) is not int or not isinstance(group, str):
        raise SetupError(f"{key}: split.seed must be a whole number and split.group text, got {seed!r} and {group!r}.")
    file_format = entry.get("format", "auto")
    if file_format not in ("auto", *FORMATS):
        raise SetupError(f"{key}: format must be one of auto, {', '.join(FORMATS)}, got {file_format!r}.")
    name = entry["name"]
    return _Declaration(
        key, (f"{name}_train", f"{name}_val") if split else (name,), _path(entry["path"]), use, file_format,
        _images(entry.get("images", "")), _class_names(f"{key}: classes", entry.get("classes", ())),
        float(fraction), seed, group, "" if split else use,
    )  # fmt: skip


def _check_keys(where: str, entry: Any, known: tuple[str, ...]) -> None:
    if not isinstance(entry, dict):
        raise SetupError(f"{where} must be KEY: VALUE pairs ({', '.join(known)}), got {entry!r}.")
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
            raise SetupError(f"{where} has an unknown key {key!r}; {hint}")


def _class_names(key: str, value: Any) -> tuple[str, ...]:
    """Names as given, or those in the one file that is named instead."""
    names = [value] if isinstance(value, str) and value else list(value or ())
    if len(names) == 1 and isinstance(names[0], str) and Path(names[0]).suffix:
        return tuple(read_names(_path(names[0])))
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
        raise SetupError(f"{key} must be different names, or a file of them, got {value!r}.")
    return tuple(names)


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))


def _images(text: str) -> Path | None:
    return _path(text) if text else None


def _refuse_same_images(declarations: list[_Declaration], sets: list[OwnSet]) -> None:
    """A set without parts of its own, named for both: its AP would be that of its training images."""
    by_path: dict[Path, OwnSet] = {}
    for declaration, part in zip(declarations, sets, strict=False):
        other = by_path.setdefault(part.path, part)
        if declaration.fraction or other.content is None or part.content is None or other.use == part.use:
            continue
        if {image.path for image in other.content.images} == {image.path for image in part.content.images}:
            raise SetupError(
                f"{declaration.key} {part.path} has the same images to train and to validate on, and says of no part "
                "that it is for validation: set DATASETS.VAL_FRACTION 0.2 in its place, or name two folders."
            )
