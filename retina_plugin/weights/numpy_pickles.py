"""NumPy arrays out of a pickle, without NumPy's own ``dtype.__setstate__``.

NumPy trusts the dtype that a pickle describes: a forged one makes it treat raw bytes as object pointers. Here a dtype
is a name and a byte order, and shape and size of an array are checked before NumPy gets its bytes.
"""

import math
import re
from collections import OrderedDict
from typing import Any

import numpy as np

__all__ = ["STATEFUL", "pickle_globals"]

# Booleans, numbers and text of fixed length; neither objects (O) nor records (V).
_DTYPE = re.compile(r"[biufcSU]\d+")
_MAX_AXES = 32


class _Dtype:
    """A dtype in two steps, as a pickle builds it: its name, then its byte order."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, align: Any, copy: Any):
        if not isinstance(name, str):
            raise ValueError("a dtype that is no name")
        if not _DTYPE.fullmatch(name):
            raise ValueError(f"an array of {name}")
        self.name, self.order = name, "|"

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|"):
            raise ValueError("a dtype that is no name")
        self.order = state[1]


class _Array(np.ndarray):
    """An array in two steps: empty, then its state."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        super().__setstate__((1, shape, *self.check(data, dtype, shape, is_fortran)))


# Types that a pickle may give a state.
STATEFUL = (_Dtype, _Array)


def pickle_globals(file_size: int) -> dict[str, Any]:
    """Map each dotted name that a pickle may ask for to what it gets, for one reading of one file of this size.

    A pickle can name one value many times, so that copies of 1 MB become gigabytes: bytes that calls copy are counted,
    and more than the file can need are refused.
    """
    left = 2 * file_size  # a pickle writes each value once; protocol 2 makes bytes of text, and then an array of these

    def copied(data: Any) -> bytes:
        nonlocal left
        if not isinstance(data, (str, bytes, bytearray)):  # bytes(n) would take n bytes of memory
            raise ValueError("an array without its bytes")
        left -= len(data)
        if left < 0:
            raise ValueError("the same values copied many times over")
        return data.encode("latin1") if isinstance(data, str) else bytes(data)

    def check(data: Any, dtype: Any, shape: tuple, is_fortran: Any = False) -> tuple[np.dtype, bool, bytes]:
        if not isinstance(dtype, _Dtype):
            raise ValueError("an array without a dtype")
        data, dtype = copied(data), np.dtype(dtype.name).newbyteorder(dtype.order)
        fits = len(shape) <= _MAX_AXES and all(0 <= side < 2**40 for side in shape)
        if not fits or math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array whose shape does not fit its {len(data)} bytes")
        return dtype, bool(is_fortran), data

    def reconstruct(kind: Any, shape: Any, typecode: Any) -> np.ndarray:
        if kind != "ndarray":
            raise ValueError("an array of another class")
        array = np.empty(0, np.uint8).view(_Array)
        array.check = check
        return array

    def from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
        dtype, _, data = check(data, dtype, shape)
        # "K" is C order, with the axes to be permuted afterwards.
        array = np.frombuffer(data, dtype).reshape(shape, order="C" if order == "K" else order)
        return (array if axes is None else array.transpose(axes)).copy("K")

    def scalar(dtype: Any, data: Any) -> Any:
        dtype, _, data = check(data, dtype, (1,))
        return np.frombuffer(data, dtype)[0]

    def encode(text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise ValueError("an encoding other than latin1")
        return copied(text)

    found = {
        "numpy.ndarray": "ndarray",  # only to be handed on to reconstruct
        "numpy.dtype": _Dtype,
        "_codecs.encode": encode,  # protocol 2 writes bytes as text and their encoding,
        "builtins.bytes": lambda: b"",  # and empty bytes as a call
        "__builtin__.bytes": lambda: b"",
        "collections.OrderedDict": lambda: OrderedDict(),
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        found[f"{core}.multiarray._reconstruct"] = reconstruct
        found[f"{core}.multiarray.scalar"] = scalar
        found[f"{core}.numeric._frombuffer"] = from_buffer
    return found
