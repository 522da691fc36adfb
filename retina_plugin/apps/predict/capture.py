"""Opens files, streams and cameras with OpenCV, and tells whether a file is a video."""

import os

import cv2

__all__ = ["has_utf8_name", "is_video", "open_capture"]

HEAD = 1024  # bytes that show whether a file is text


def is_video(path: str) -> bool:
    """Tell whether OpenCV opens a regular file as a video; text is none, though FFmpeg would draw it."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    capture = None if _is_text(head) or not has_utf8_name(path) else open_capture(path)
    if capture is not None:
        capture.release()
    return capture is not None


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not a character that is cut in two
            return False
    return b"\0" not in head


def has_utf8_name(path: str) -> bool:
    """OpenCV ends the process at a name that has another encoding."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def open_capture(where: int | str) -> cv2.VideoCapture | None:
    """Open a file, an address or a camera's index; None if OpenCV cannot. The caller releases it."""
    # Silence what OpenCV and FFmpeg print if opening fails: a SetupError says it.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(where)
        # OpenCV takes "a_01.hdr" for the first image of a sequence.
        is_open = capture.isOpened() and capture.getBackendName() != "CV_IMAGES"
    except cv2.error:
        is_open = False
    finally:
        cv2.utils.logging.setLogLevel(level)
    return capture if is_open else None
