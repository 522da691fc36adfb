"""Expands the arguments of a command line into images, videos and cameras."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ...data.images import IMAGE_SUFFIXES
from ...errors import SetupError

__all__ = ["Source", "find_sources"]

# In a folder, files with these suffixes or with IMAGE_SUFFIXES are taken.
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
# Formats of drawn images and videos; the first is appended to a name with any other suffix.
DRAWN_SUFFIXES = {"image": (".jpg", ".jpeg", ".png"), "video": (".mp4",), "camera": (".mp4",)}


@dataclass(frozen=True)
class Source:
    """An image, a video or a camera to predict on."""

    kind: str  # "image", "video" or "camera"
    path: str  # path of the file, or index of the camera
    name: str  # path relative to the folder that all inputs share, with "/"
    drawn_name: str  # name of the image or video with boxes drawn in, unique among the sources


def find_sources(words: Sequence[str], *, recursive: bool = False, leave_out: Path | None = None) -> list[Source]:
    """Find the sources that ``words`` name, each file once, in the order of the words and by name within a folder.

    Args:
        words: files, folders, patterns such as "images/*.jpg", or the index of a camera.
        recursive: search the folders inside a folder too.
        leave_out: folder of earlier results; files in it are skipped.

    Raises:
        SetupError: a word names no source.
    """
    found: dict[str, str] = {}  # path -> kind
    for word in words:
        here = {os.path.normpath(path): kind for path, kind in _expand(word, recursive)}
        if leave_out is not None:
            results = os.path.abspath(leave_out)
            here = {p: kind for p, kind in here.items() if not Path(os.path.abspath(p)).is_relative_to(results)}
        if not here:
            raise SetupError(_describe_no_source(word, recursive))
        found.update({path: kind for path, kind in here.items() if path not in found})
    folders = [os.path.dirname(os.path.abspath(path)) for path, kind in found.items() if kind != "camera"]
    try:
        root = os.path.commonpath(folders)
    except ValueError:  # only cameras, or files on two drives
        root = os.getcwd()
    sources, taken = [], set()
    for path, kind in found.items():
        name = f"camera{path}" if kind == "camera" else PurePath(os.path.relpath(path, root)).as_posix()
        # The drawn file gets a writable suffix, and a number if its name is taken (ignoring case).
        stem, suffix = name, PurePath(name).suffix
        if suffix.lower() in DRAWN_SUFFIXES[kind]:
            stem = name[: -len(suffix)]
        else:
            suffix = DRAWN_SUFFIXES[kind][0]
        drawn, number = stem + suffix, 2
        while drawn.lower() in taken:
            drawn, number = f"{stem}_{number}{suffix}", number + 1
        taken.add(drawn.lower())
        sources.append(Source(kind, path, name, drawn))
    return sources


def _expand(word: str, recursive: bool) -> Iterator[tuple[str, str]]:
    path = os.path.expanduser(word)
    if os.path.isdir(path):
        entries = Path(path).rglob("*") if recursive else Path(path).iterdir()
        for entry in sorted(entries):
            hidden = any(part.startswith(".") for part in entry.relative_to(path).parts)  # or "._a.jpg" of macOS
            if not hidden and entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
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


def _describe_no_source(word: str, recursive: bool) -> str:
    if os.path.isdir(os.path.expanduser(word)):
        deeper = "" if recursive else "; --recursive looks into the folders inside it"
        return f"The folder {word} has no image or video that is not a result of this command{deeper}."
    if any(character in word for character in "*?["):
        return f"No file matches {word}: check the pattern."
    if os.path.exists(os.path.expanduser(word)):
        return f"{word} is a result of this command: move it, or give --output another folder."
    return f"{word} does not exist: give an image, a video, a folder, a pattern in quotes or the index of a camera."
