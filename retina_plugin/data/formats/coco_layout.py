"""Where COCO JSON files and their images lie: as cocodataset.org, Roboflow, CVAT, FiftyOne and others lay them out."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .box_set import Remark
from .detect import kind_of_json
from .files import list_files
from .parts import part_of, part_of_name, pick_files

__all__ = ["KIND", "find_files", "find_image_folder"]

KIND = "COCO JSON file"  # in messages

# The first words of COCO's files that have no boxes of their own, or those of another file again.
_OTHER_TASKS = ("captions", "image_info", "panoptic", "person_keypoints", "stuff")
_MOST_FOLDERS = 200  # a guard: files beside a home folder's hundreds of others
_MOST_NAMES = 1000  # so many names, evenly spread, tell which folder holds the images


def find_files(folder: Path, subset: str) -> tuple[list[Path], list[Remark]]:
    """Return the COCO JSON file of a part of ``folder``, or for "" one of each part, and remarks.

    Args:
        subset: "train" or "val", by the name of a file or of its folders; "" for everything.

    Raises:
        SetupError: for the reasons of ``pick_files``.
    """
    files = list_files(folder / "annotations", (".json",)) or list_files(folder, (".json",))
    if len(files) > 1:
        files = [file for file in files if kind_of_json(file) == "coco"] or files
        files = [file for file in files if not file.stem.startswith(_OTHER_TASKS)] or files
    return pick_files(folder, {file: _part_of_file(file, folder) for file in files}, subset, KIND)


def _part_of_file(file: Path, folder: Path) -> str:
    """The part that a folder tells, else the name of the file, else one of its words or letters alone."""
    stem = file.stem.lower()
    of_words = {part_of_name(word) for word in re.findall("[a-z]+", stem)} - {""}
    of_letters = {part for part in ("train", "val", "test") if part in stem}
    alone = next((found.pop() for found in (of_words, of_letters) if len(found) == 1), "")
    return part_of(file, folder) or part_of_name(stem) or alone


def find_image_folder(file: Path, names: Sequence[str], folder: Path) -> Path:
    """Return the folder in which most of the images of ``file`` are.

    Args:
        names: relative to the folder that is looked for.
        folder: the folder of the set, with ``file`` in it.
    """
    step = -(-len(names) // _MOST_NAMES)
    looked_for = [name.replace("\\", "/") for name in names[::step]]
    # Absolute paths of another machine, or paths that lead out of the set, count by the name of the file.
    for wanted in (looked_for, [name.rsplit("/", 1)[-1] for name in looked_for]):
        counts: dict[Path, int] = {}
        for place, is_named in _places(file, folder):
            counts[place] = sum(os.path.isfile(place / name) for name in wanted if ".." not in name.split("/"))
            if counts[place] == len(wanted) or (is_named and counts[place] > len(wanted) / 2):
                return place
        best = max(counts, key=counts.__getitem__)  # the first of equals
        if counts[best]:
            return best
    return next((place for place in (file.parent / "images", file.parent.parent / "images") if place.is_dir()), folder)


def _places(file: Path, folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield folders that may hold the images, the likeliest first, and whether a name says that it is the file's."""
    parents = list(dict.fromkeys([file.parent, file.parent.parent, folder]))
    usual = [place for parent in parents for place in (parent / "images" / file.stem, parent / file.stem)]
    below = [place for parent in parents for place in _folders(parent)]
    below += [place for parent in below if parent.name.lower() in ("images", "data", "img", "imgs", "jpegimages")
              for place in _folders(parent)]  # fmt: skip
    part = _part_of_file(file, file.parent.parent)
    stem = file.stem.lower()

    def is_named(place: Path) -> bool:
        name = place.name.lower()
        return (len(name) > 2 and name in stem) or (bool(part) and part_of_name(name) == part)

    named = [place for place in below if is_named(place)]
    named.sort(key=lambda place: place.name.lower() not in stem)  # train2017 before train
    plain = [place for place in below if place.name.lower() == "images"]
    seen = set()
    for place in [*usual, *named, *plain, *parents, *below][:_MOST_FOLDERS]:
        if place not in seen and place.is_dir():
            seen.add(place)
            yield place, place in usual or place in named


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []
