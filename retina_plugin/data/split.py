"""Splitting a set into a part to train on and one to validate on: the same files and seed give the same parts."""

import copy
import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Callable

from ..errors import SetupError
from .formats.box_set import AnnotatedImage, BoxSet, Remark

__all__ = ["split_set"]

GROUPS = "folder, column:NAME or regex:PATTERN"


def split_set(whole: BoxSet, fraction: float, seed: int, group: str = "") -> tuple[BoxSet, BoxSet]:
    """(train, val) of a set; ``remarks`` stay with train, which also gets those of the split.

    Groups go to val in the order of a hash of seed and name until it has ``fraction`` of the images, so that a few
    further files move few others. A class that then has no box in train gets the first group that holds it back.

    Args:
        whole: at least 2 groups.
        fraction: share of the images for val, in (0, 1); met up to the size of a group.
        seed: >= 0.
        group: what images stay together by: "" each is its own, "folder", "column:NAME" of a CSV file, or
            "regex:PATTERN" on the file name (its first group, else the whole match).

    Raises:
        SetupError: an argument out of range, or one part would be empty.
    """
    if not 0 < fraction < 1:
        raise SetupError(f"The part for validation must be in (0, 1), got {fraction:g}.")
    key_of = _group_key(group)
    groups: dict[str, list[AnnotatedImage]] = {}
    for image in whole.images:
        groups.setdefault(key_of(whole.relative_name(image), image), []).append(image)
    if len(groups) < 2:
        kind = f"1 group by {group!r}" if group else "1 image"
        raise SetupError(f"{whole.source} cannot be split: it has {kind}, and each part needs at least one.")
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    wanted = round(fraction * len(whole.images))
    val_keys, count = [order[0]], len(groups[order[0]])  # at least one group, and not all
    for key in order[1:-1]:
        # A group that overshoots by more than it lacks stays in train.
        if count + len(groups[key]) - wanted <= max(wanted - count, 0):
            val_keys.append(key)
            count += len(groups[key])
    remarks = _keep_classes_in_train(groups, val_keys)
    parts = []
    for in_val in (False, True):
        part = copy.copy(whole)
        part.images = [i for i in whole.images if (key_of(whole.relative_name(i), i) in val_keys) == in_val]
        part.given_classes = whole.class_names
        parts.append(part)
    parts[0].remarks, parts[1].remarks = [*whole.remarks, *remarks], []
    lacking = [name for name in whole.class_counts if name not in parts[1].class_counts]
    parts[0].remarks += [
        Remark(f"class {name!r} has no box in val: its AP cannot be computed", whole.source) for name in lacking
    ]
    return parts[0], parts[1]


def _keep_classes_in_train(groups: dict[str, list[AnnotatedImage]], val_keys: list[str]) -> list[Remark]:
    """Take groups out of ``val_keys`` until train has every class or val has one group left."""
    counts = {key: Counter(box.class_name for image in images for box in image.boxes) for key, images in groups.items()}
    in_train = sum((counts[key] for key in groups if key not in val_keys), Counter())
    remarks = []
    for name in sorted(set().union(*counts.values())):
        if in_train[name]:
            continue
        key = next(key for key in val_keys if counts[key][name])
        if len(val_keys) == 1:
            remarks.append(Remark(f"class {name!r} has boxes in val alone: it cannot be learned", key))
            continue
        val_keys.remove(key)
        in_train += counts[key]
        remarks.append(Remark("moved from val to train, which had no box of one of its classes", key))
    return remarks


def _group_key(group: str) -> Callable[[str, AnnotatedImage], str]:
    """A function of an image's name and the image to the key of its group."""
    kind, _, value = group.partition(":")
    if not group:
        return lambda name, image: name
    if group == "folder":
        return lambda name, image: posixpath.dirname(name)
    if kind not in ("column", "regex") or not value:
        raise SetupError(f"The group of a split must be {GROUPS}, got {group!r}.")
    try:
        pattern = re.compile(value if kind == "regex" else "")
    except re.error as error:
        raise SetupError(f"The group {group!r} is not a regular expression: {error}.") from None

    def key_of_column(name: str, image: AnnotatedImage) -> str:
        if value not in image.columns:
            raise SetupError(
                f"{name} has no value, or more than one, in a column {value!r}: "
                "a split by column needs a CSV file with that column, the same in every row of an image."
            )
        return image.columns[value]

    def key_of_name(name: str, image: AnnotatedImage) -> str:
        match = pattern.search(name)
        if match is None:
            raise SetupError(f"{name} does not match the group's regex {pattern.pattern!r}: widen it.")
        return match.group(1) or "" if pattern.groups else match.group()

    return key_of_column if kind == "column" else key_of_name
