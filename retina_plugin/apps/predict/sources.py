"""From the words of a command line to the images, videos and cameras they mean."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ...errors import SetupError

__all__ = ["Source", "find_sources"]

# What is taken from a folder. A file that is named itself is tried as an image whatever its suffix.
IMAGE_SUFFIXES = {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
# What drawn pictures and videos are written as; another suffix gets the first of these behind it.
DRAWN_SUFFIXES = {"image": (".jpg", ".jpeg", ".png"), "video": (".mp4",), "camera": (".mp4",)}


@dataclass(frozen=True)
class Source:
    """Something to predict on."""

    kind: str  # "image", "video" or "camera"
    path: str  # of the file, or the index of the camera
    name: str  # the path below the folder that all inputs have in common, with "/"
    drawn_name: str  # of the picture or video with boxes; no two sources have the same


def find_sources(words: Sequence[str], *, recursive: bool = False, leave_out: Path | None = None) -> list[Source]:
    """What ``words`` mean, each file once, in the order of the words and by name within a folder.

    Args:
        words: files, folders, patterns such as "images/*.jpg", or the index of a camera.
        recursive: take the folders inside a folder too.
        leave_out: a folder whose files do not count, since they are results.

    Raises:
        SetupError: a word means nothing.
    """
    found: dict[str, str] = {}  # path -> kind
    for word in words:
        expanded = ((os.path.normpath(path), kind) for path, kind in _expand(word, recursive))
        here = {path: kind for path, kind in expanded if not _is_below(path, leave_out)}
        if not here:
            raise SetupError(_describe_nothing(word, recursive))
        found.update({path: kind for path, kind in here.items() if path not in found})
    root = _common_folder([path for path, kind in found.items() if kind != "camera"])
    sources, taken = [], set()
    for path, kind in found.items():
        name = f"camera{path}" if kind == "camera" else PurePath(os.path.relpath(path, root)).as_posix()
        sources.append(Source(kind, path, name, _free_name(name, kind, taken)))
    return sources


def _expand(word: str, recursive: bool) -> Iterator[tuple[str, str]]:
    path = os.path.expanduser(word)
    if os.path.isdir(path):
        entries = Path(path).rglob("*") if recursive else Path(path).iterdir()
        for entry in sorted(entries):
            hidden = any(part.startswith(".") for part in entry.relative_to(path).parts)  # "._a.jpg" of macOS too
            if not hidden and entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                yield str(entry), _kind(entry.suffix)
    elif os.path.exists(path):
        yield path, _kind(os.path.splitext(path)[1])
    elif word.isdecimal():
        yield word, "camera"
    else:
        for match in sorted(glob.glob(path, recursive=True)):
            if os.path.isfile(match):
                yield match, _kind(os.path.splitext(match)[1])


def _kind(suffix: str) -> str:
    return "video" if suffix.lower() in VIDEO_SUFFIXES else "image"


def _is_below(path: str, folder: Path | None) -> bool:
    return folder is not None and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _describe_nothing(word: str, recursive: bool) -> str:
    if os.path.isdir(os.path.expanduser(word)):
        deeper = "" if recursive else "; --recursive looks into the folders inside it"
        return f"The folder {word} has no image or video that is not a result of this command{deeper}."
    if any(character in word for character in "*?["):
        return f"No file matches {word}: check the pattern."
    if os.path.exists(os.path.expanduser(word)):
        return f"{word} is a result of this command: move it, or give --output another folder."
    return f"{word} does not exist: give an image, a video, a folder, a pattern in quotes or the index of a camera."


def _common_folder(paths: list[str]) -> str:
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    except ValueError:  # none, or on two drives
        return os.getcwd()


def _free_name(name: str, kind: str, taken: set[str]) -> str:
    """``name`` with a suffix that can be written, and a number if another source has it; case does not tell apart."""
    suffix = PurePath(name).suffix
    if suffix.lower() not in DRAWN_SUFFIXES[kind]:
        name, suffix = name + DRAWN_SUFFIXES[kind][0], DRAWN_SUFFIXES[kind][0]
    free, number = name, 2
    while free.lower() in taken:
        free, number = f"{name[: -len(suffix)]}_{number}{suffix}", number + 1
    taken.add(free.lower())
    return free
