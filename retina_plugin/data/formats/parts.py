"""The parts of a set for training, validation and test, by the names of its folders, files and lists."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ...errors import SetupError
from .box_set import Remark

__all__ = ["part_of", "part_of_name", "pick_files", "pick_part", "several_files"]

_PARTS = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "valset": "val", "dev": "val",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip
# Words beside that of the part in the name of a folder or file, as in obj_train_data or instances_val2017.
_BESIDE = frozenset(
    "obj data set images image imgs img labels label annotations annotation xml json txt csv boxes instances coco "
    "autosplit voc yolo via createml".split()
)  # fmt: skip
Item = TypeVar("Item")


def part_of_name(name: str) -> str:
    """ "train", "val" or "test" for the name of such a folder or of a file without suffix, else ""."""
    words = {word for word in re.findall("[a-z]+", name.casefold()) if word not in _BESIDE}
    return _PARTS.get(words.pop(), "") if len(words) == 1 else ""


def part_of(path: Path, root: Path) -> str:
    """The part that a folder between ``root`` and ``path`` says, else ""."""
    folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else path.parts[-2:-1]
    return next(filter(None, map(part_of_name, folders)), "")


def pick_part(
    items: Sequence[Item], subset: str, parts_of: Callable[[Item], str | Collection[str]], source: str
) -> tuple[list[Item], list[Remark]]:
    """Keep the items of ``subset``, "train" or "val"; all of them for "", or if no item has a part.

    A set without a part to validate on is validated on its test part, with a remark; else on the items without a part.

    Args:
        parts_of: the part of an item, "" if it has none; or its parts.
        source: the set, for messages.

    Raises:
        SetupError: there are other parts, and nothing else.
    """
    parts = [{found} if isinstance(found := parts_of(item), str) else set(found) for item in items]
    known = set().union(*parts) - {""}
    if not subset or not known:
        return list(items), []
    kept = [item for item, own in zip(items, parts, strict=True) if subset in own]
    if kept:
        return kept, []
    without = [item for item, own in zip(items, parts, strict=True) if not own - {""}]
    if subset == "val" and "test" in known and (len(known) > 1 or without):
        kept = [item for item, own in zip(items, parts, strict=True) if "test" in own]
        return kept, [Remark("no part is for validation: the test part is taken", source)]
    if without:
        return without, []
    if len(known) == 1:  # a folder of this name alone tells nothing apart
        return list(items), [Remark(f"all of it is for {known.pop()} by its name: all of it is taken", source)]
    verb = "to train on" if subset == "train" else "to validate on"
    raise SetupError(
        f"{source} has parts named {' and '.join(sorted(known))}, and none {verb}: name the folder itself."
    )


def pick_files(folder: Path, parts: Mapping[Path, str], subset: str, kind: str) -> tuple[list[Path], list[Remark]]:
    """Pick the file of a part, or for "" one file of each part, in formats with all boxes of a part in one file.

    Args:
        folder: of the set.
        parts: file -> its part, "" if it has none.
        subset: as for ``pick_part``.
        kind: of the file, for messages.

    Raises:
        SetupError: there is none, or several have the same part.
    """
    if not parts:
        raise SetupError(f"{folder} must have one {kind}, got none: name the file.")
    chosen, remarks = pick_part(list(parts), subset, parts.__getitem__, str(folder))
    named = {parts[file] for file in chosen} - {""}
    if len(chosen) > 1 and (subset or len(named) < len(chosen)):
        raise several_files(folder, chosen, kind)
    return chosen, remarks


def several_files(folder: Path, files: Sequence[Path], kind: str) -> SetupError:
    """The error of files that do not make one set."""
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = [file.relative_to(folder).as_posix() for file in files]
    return SetupError(
        f"{folder} must have one {kind}, got {', '.join(names[:5])}: name one in DATASETS.TRAIN_PATH, another in "
        "VAL_PATH."
    )
