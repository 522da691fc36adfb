"""Standard streams that neither a closed pipe (``retina ... | head -1``) nor a character can break."""

import errno
import io
import os
import sys

__all__ = ["guard_streams"]

CLOSED = (errno.EPIPE, errno.EINVAL)  # EINVAL is Windows' word for a closed pipe


class _Guarded(io.FileIO):
    """A file descriptor for writing; once it fails, what follows goes nowhere."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            if error.errno in CLOSED:
                return memoryview(data).nbytes
            raise  # a full disk: said once


def guard_streams() -> None:
    """Let the process go on, and end with its own status, if nobody reads its output any more.

    A command has files to write, and a training an hour to go. A character that the stream's encoding lacks is written
    as its escape. Streams that a notebook or a test put in place keep their own ways.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, >&-
            setattr(sys, name, open(os.devnull, "w"))
        elif stream is getattr(sys, f"__{name}__"):
            stream.flush()
            raw = _Guarded(stream.fileno(), "w", closefd=False)
            is_buffered = isinstance(stream.buffer, io.BufferedWriter)  # not with PYTHONUNBUFFERED
            guarded = io.TextIOWrapper(
                io.BufferedWriter(raw) if is_buffered else raw, stream.encoding, "backslashreplace",
                line_buffering=stream.line_buffering, write_through=stream.write_through,
            )  # fmt: skip
            setattr(sys, name, guarded)
