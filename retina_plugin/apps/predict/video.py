"""Reads frames of videos and cameras with OpenCV, and writes an MP4 file whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ...errors import SetupError
from .sources import Source

__all__ = ["VideoWriter", "count_frames", "frame_rate", "open_video", "read_frames"]

# Frames a second, for a camera that does not report its frame rate.
DEFAULT_RATE = 30.0
# MPEG-4, which every build of OpenCV can encode; many lack H.264 because of its licence.
CODEC = "mp4v"


def open_video(source: Source) -> cv2.VideoCapture:
    """Open a video file or a camera. The caller releases it.

    Raises:
        SetupError: the file or camera cannot be opened.
    """
    # Silence what OpenCV and FFmpeg print if opening fails: the SetupError below says it.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(int(source.path) if source.kind == "camera" else source.path)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if capture.isOpened():
        return capture
    if source.kind == "camera":
        raise SetupError(
            f"Camera {source.path} cannot be opened: it is not there, in use or not permitted. "
            "Give another index, or a video file."
        )
    raise SetupError(f"Video {source.path} cannot be opened: it is damaged, or OpenCV has no decoder for it.")


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
        success, frame = capture.read()
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
            self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*CODEC), self._rate, size)
            if not self._writer.isOpened():
                raise SetupError(f"Video {self._path} cannot be written: OpenCV has no MPEG-4 encoder; give --no-draw.")
        self._writer.write(frame)

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            os.replace(self._part, self._path)
        else:
            self._part.unlink(missing_ok=True)
