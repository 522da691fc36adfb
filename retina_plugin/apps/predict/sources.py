"""Resolves the inputs of a command line into images, videos, streams and cameras."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from ...data.images import IMAGE_SUFFIXES, is_picture
from ...errors import SetupError, one_line

__all__ = ["Source", "find_sources"]

# Tried as a video before it is tried as an image (a .mjpeg begins like a JPEG), and named if it is neither.
VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
    ".ts", ".webm", ".wmv",
)  # fmt: skip
# Formats of drawn images and videos; the first is appended to a name with any other suffix.
DRAWN_SUFFIXES = {"image": (".jpg", ".jpeg", ".png"), "video": (".mp4",)}
# Bytes of a drawn file's name without its suffix; 255 are usual, and a number and the mark of a part come on top.
LONGEST_STEM = 200


@dataclass(frozen=True)
class Source:
    """An image file, a video file, the address of a stream, or a camera."""

    kind: str  # "image", "video", "stream" or "camera"
    path: str  # path of the file, address of the stream, or index of the camera
    name: str  # path relative to the folder that all inputs share, with "/"
    drawn_name: str  # name of the image or video with boxes drawn in, unique among the sources

    @property
    def is_live(self) -> bool:
        """True for a camera and a stream: the frames come at their own pace, until Ctrl-C."""
        return self.kind in ("camera", "stream")

    def __str__(self) -> str:
        """Return the path for a message: one line, and no password of an address."""
        if self.kind == "stream":
            parts = urlsplit(self.path)
            return one_line(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
        return one_line(self.path)


def find_sources(words: Sequence[str], *, recursive: bool = False, leave_out: Path | None = None) -> list[Source]:
    """Find the sources that ``words`` name, each once, in the order of the words and by name within a folder.

    Of a folder, a file is taken if Pillow or OpenCV reads it, and also if its suffix is an image's or a video's, so
    that a damaged one is named.

    Args:
        words: files, folders, patterns such as "images/*.jpg", addresses such as "rtsp://...", or the index of a
            camera.
        recursive: search the folders inside a folder too.
        leave_out: folder of earlier results; files in it are skipped.

    Raises:
        SetupError: a word names no source, or a folder cannot be read.
    """
    found: dict[str, str] = {}  # path -> kind
    for word in words:
        here = {path if kind == "stream" else os.path.normpath(path): kind for path, kind in _expand(word, recursive)}
        if leave_out is not None:
            results = os.path.abspath(leave_out)
            here = {p: kind for p, kind in here.items() if not Path(os.path.abspath(p)).is_relative_to(results)}
        if not here:
            raise SetupError(_describe_no_source(word, recursive))
        found.update({path: kind for path, kind in here.items() if path not in found})
    folders = [os.path.dirname(os.path.abspath(path)) for path, kind in found.items() if kind in DRAWN_SUFFIXES]
    try:
        root = os.path.commonpath(folders)
    except ValueError:  # no file at all, or files on two drives
        root = os.getcwd()
    sources, taken = [], set()
    for path, kind in found.items():
        if kind == "camera":
            name = f"camera{path}"
        elif kind == "stream":
            address = urlsplit(path)
            name = "".join(c if c.isalnum() or c in "-." else "_" for c in f"{address.hostname or ''}{address.path}")
            name = name.strip("._") or "stream"
        else:
            name = PurePath(os.path.relpath(path, root)).as_posix()
        sources.append(Source(kind, path, name, _name_drawn(name, kind, taken)))
    return sources


def _name_drawn(name: str, kind: str, taken: set[str]) -> str:
    """Give the drawn file a writable suffix, a name that is not too long, and a number if its name is taken.

    Args:
        taken: names in use, in lower case, with those of their folders; the new one is added.
    """
    suffixes = DRAWN_SUFFIXES["image" if kind == "image" else "video"]
    folder, _, stem = name.rpartition("/")
    suffix = PurePath(stem).suffix
    if suffix.lower() in suffixes:
        stem = stem[: -len(suffix)]
    else:
        suffix = suffixes[0]
    if len(os.fsencode(stem)) > LONGEST_STEM:
        stem = os.fsencode(stem)[:LONGEST_STEM].decode("utf-8", "ignore")
    stem = f"{folder}/{stem}" if folder else stem
    drawn, number = stem + suffix, 2
    while drawn.lower() in taken:
        drawn, number = f"{stem}_{number}{suffix}", number + 1
    taken.update(str(path).lower() for path in (drawn, *PurePath(drawn).parents))
    return drawn


def _expand(word: str, recursive: bool) -> Iterator[tuple[str, str]]:
    if "://" in word:
        yield word, "stream"
        return
    path = os.path.expanduser(word)
    if os.path.isdir(path):
        for entry in _list_folder(path, recursive):
            kind = _kind(entry)
            if kind or os.path.isdir(entry) or entry.lower().endswith(IMAGE_SUFFIXES + VIDEO_SUFFIXES):
                yield entry, kind or _kind_by_name(entry)
    elif os.path.exists(path):
        yield path, _kind(path) or _kind_by_name(path)
    elif word.isdecimal():
        yield word, "camera"
    else:
        for match in sorted(glob.glob(path, recursive=True)):
            if not os.path.isdir(match):
                yield match, _kind(match) or _kind_by_name(match)


def _list_folder(folder: str, recursive: bool) -> Iterator[str]:
    """Yield the visible files of a folder by name; also its folders that cannot be read or are named like an image."""
    entries, unreadable = [], []
    for parent, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not recursive:
            files += [name for name in folders if name.lower().endswith(IMAGE_SUFFIXES + VIDEO_SUFFIXES)]
            folders.clear()
        # Hidden ones are left out, such as the "._a.jpg" of macOS.
        entries += [os.path.join(parent, name) for name in files if not name.startswith(".")]
    for error in unreadable:
        if error.filename == folder:
            raise SetupError(f"The folder {one_line(folder)} cannot be read: {error.strerror}.")
        entries.append(error.filename)
    yield from sorted(entries, key=Path)


def _kind_by_name(path: str) -> str:
    return "video" if path.lower().endswith(VIDEO_SUFFIXES) else "image"


def _kind(path: str) -> str:
    """Return "image" or "video" by the content of a file; "" if neither Pillow nor OpenCV can open it."""
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        return ""
    tries = {"image": is_picture, "video": _is_video}
    for kind in sorted(tries, reverse=path.lower().endswith(VIDEO_SUFFIXES)):
        if tries[kind](path):
            return kind
    return ""


def _is_video(path: str) -> bool:
    try:
        from .capture import is_video  # here: images without drawing need no OpenCV
    except ImportError:
        return False
    return is_video(path)


def _describe_no_source(word: str, recursive: bool) -> str:
    path, shown = os.path.expanduser(word), one_line(word)
    if os.path.isdir(path):
        deeper = "" if recursive else "; --recursive looks into the folders inside it"
        return f"The folder {shown} has no image or video that is not a result of this command{deeper}."
    if any(character in word for character in "*?["):
        return f"No file matches {shown}: check the pattern."
    if os.path.exists(path):
        return f"{shown} is a result of this command: move it, or give --output another folder."
    return (
        f"{shown or repr(word)} does not exist: give an image, a video, a folder, a pattern in quotes, the address of "
        "a stream or the index of a camera."
    )
