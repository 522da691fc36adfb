"""Reads frames of videos and cameras with OpenCV, and writes an MP4 file whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ...errors import SetupError, one_line
from .capture import has_utf8_name, open_capture
from .sources import Source

__all__ = ["VideoWriter", "count_frames", "frame_rate", "open_video", "read_frames"]

# Frames a second, for a camera that does not report its frame rate.
DEFAULT_RATE = 30.0
LAST_CAMERA = 2**15 - 1  # far beyond any; a larger number is no index for OpenCV
# MPEG-4, which every build of OpenCV can encode; many lack H.264 because of its licence.
CODEC = "mp4v"


def open_video(source: Source) -> cv2.VideoCapture:
    """Open a video file, a stream or a camera. The caller releases it.

    Raises:
        SetupError: it cannot be opened.
    """
    if source.kind == "camera":
        capture = open_capture(int(source.path)) if int(source.path) <= LAST_CAMERA else None
        fault = "it is not there, in use or not permitted. Give another index, or a video file."
    elif not has_utf8_name(source.path):
        capture, fault = None, "its name is not UTF-8, which OpenCV needs: rename it."
    else:
        capture = open_capture(source.path)
        fault = "it is damaged, or OpenCV has no decoder for it."
        if source.kind == "stream":
            fault = "nothing answers there, it is not a video, or it needs a user and password in the address."
    if capture is None:
        raise SetupError(f"{source.kind.capitalize()} {source} cannot be opened: {fault}")
    return capture


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Return the frames a second."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if np.isfinite(rate) and rate > 0 else DEFAULT_RATE


def count_frames(capture: cv2.VideoCapture) -> int | None:
    """Return the number of frames by the file's header; None for a camera and if the header has none."""
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None


def read_frames(capture: cv2.VideoCapture, limit: int | None) -> Iterator[np.ndarray]:
    """Yield frames, (H, W, 3) uint8 BGR, at most ``limit`` of them (None: all)."""
    read = 0
    while limit is None or read < limit:
        try:
            success, frame = capture.read()
        except cv2.error:  # damage that FFmpeg does not report as the end
            return
        if not success:
            return
        read += 1
        yield frame


class VideoWriter:
    """Writes frames of one size to ``path``, an MP4 file; without a frame no file is made.

    The file appears when the context is left: with all frames, after Ctrl-C with those so far, and after any other
    error not at all.
    """

    def __init__(self, path: Path, rate: float):
        """
        Args:
            rate: frames a second, > 0.
        """
        self._path, self._rate = path, rate
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, (H, W, 3) uint8 BGR; an odd last row or column is cut off, since MPEG-4 needs even sizes."""
        frame = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            size = (frame.shape[1], frame.shape[0])
            if not all(size) or not has_utf8_name(str(self._part)):
                why = "it needs two rows and columns" if not all(size) else "its name is not UTF-8, which OpenCV needs"
                raise SetupError(f"Video {one_line(self._path)} cannot be written: {why}; give --no-draw.")
            self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*CODEC), self._rate, size)
            if not self._writer.isOpened():
                self._writer = None
                raise SetupError(
                    f"Video {one_line(self._path)} cannot be written: OpenCV has no MPEG-4 encoder for {size[0]} x "
                    f"{size[1]} pixels; give --no-draw."
                )
        self._writer.write(frame)

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            os.replace(self._part, self._path)
        else:
            self._part.unlink(missing_ok=True)
