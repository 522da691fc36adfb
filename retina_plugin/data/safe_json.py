"""JSON from others: refuses a file that would exhaust the stack or the memory, before or while it is parsed."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import SetupError
from ..reading import free_memory
from .image_paths import open_named

__all__ = ["is_number", "load_json", "parse_json"]

# A guard. Bytes without a bracket: one list of numbers, or one text. COCO's longest polygon has 20 kB, the picture in a
# LabelMe file (read_text bounds it) a few MB; 10^7 points of a polygon have at least 40 MB, and take 1 GB once parsed.
MAX_RUN = 16 * 2**20
# A guard: lists in one LabelMe file, each a point of a polygon, take 100 bytes each.
MAX_LISTS = 2 * 10**6
_CHUNK = 2**22
# Bytes of memory for each byte of JSON, with the text itself, and for each bracket: measured with lists of numbers.
_PARSED, _PARSED_BRACKET = 6, 50
_LARGEST = 2**1000  # a float holds it
_IS_BRACKET = np.isin(np.arange(256), list(b"[]{}"))


def load_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        SetupError: it is missing, no regular file, or outside the folders of its set; it is nested too deeply, has a
            list, text or number that no annotation has, or needs more memory than is free.
        json.JSONDecodeError, UnicodeDecodeError: as their names say.
    """
    with open_named(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_RUN:
            _refuse_large(file, path)
            file.seek(0)
        data = file.read(max(size, MAX_RUN))  # no more than was looked at
    return parse_json(data.decode("utf-8-sig"), path)


def _refuse_large(file: BinaryIO, path: Path) -> None:
    """Refuse a long run without a bracket, and a file that would not fit into memory once it is parsed."""
    run, size, brackets = 0, 0, 0  # run: bytes since the last bracket
    while chunk := file.read(_CHUNK):
        places = np.flatnonzero(_IS_BRACKET[np.frombuffer(chunk, np.uint8)])
        ends = np.concatenate([[-1 - run], places, [len(chunk)]])
        if np.diff(ends).max() - 1 > MAX_RUN:
            raise SetupError(
                f"{path} has a list or text of more than {MAX_RUN // 2**20} MB, which no box or polygon has: "
                "take it out."
            )
        run = int(len(chunk) - 1 - ends[-2])
        size, brackets = size + len(chunk), brackets + len(places)
        if (need := _PARSED * size + _PARSED_BRACKET * brackets) > (free := free_memory()):
            raise SetupError(
                f"{path} needs more than {need / 2**30:.0f} GB of memory, {free / 2**30:.0f} GB are free: split it."
            )


def parse_json(text: str, path: Path) -> Any:
    """``json.loads``, with the errors of ``load_json``; ``path`` is for the message."""
    try:
        return json.loads(text)
    except RecursionError:
        raise SetupError(f"{path} is nested too deeply to be an annotation file.") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # Python reads no integer of more than 4300 digits
        raise SetupError(f"{path} has a number that cannot be read: {error}.") from None


def is_number(value: Any) -> bool:
    """True for a number that a float can hold; whole numbers of JSON may be larger."""
    return type(value) is float or (type(value) is int and -_LARGEST < value < _LARGEST)
