"""Read NumPy arrays from a pickle without NumPy's own ``dtype.__setstate__``.

NumPy trusts the dtype that a pickle describes: a forged one makes it treat raw bytes as object pointers. Here a dtype
is only a name and a byte order, and the shape of an array must match its number of bytes before NumPy gets them.
"""

import math
import re
from collections import OrderedDict
from typing import Any

import numpy as np

__all__ = ["STATEFUL", "pickle_globals"]

# Booleans, numbers and text of fixed length, but no objects (O) and no records (V).
_DTYPE = re.compile(r"[biufcSU]\d+")
_MAX_AXES = 32


class _Dtype:
    """A dtype, which a pickle builds in two steps: from its name, then from its byte order."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, align: Any, copy: Any):
        if not isinstance(name, str):
            raise ValueError("a dtype that is not a name")
        if not _DTYPE.fullmatch(name):
            raise ValueError(f"an array of {name}")
        self.name, self.order = name, "|"

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|"):
            raise ValueError("a dtype that is not a name")
        self.order = state[1]


class _Array(np.ndarray):
    """An array, which a pickle builds in two steps: empty, then from its state."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        super().__setstate__((1, shape, *self.check(data, dtype, shape, is_fortran)))


# Types whose state a pickle may set.
STATEFUL = (_Dtype, _Array)


def pickle_globals(file_size: int) -> dict[str, Any]:
    """Map each dotted name that a pickle may import to a safe replacement, for reading one file of this size once.

    A pickle can copy one value many times and so turn 1 MB into gigabytes. So the copied bytes are counted, and a
    file that copies more than it can need is refused.
    """
    left = 2 * file_size  # each value is written once, and protocol 2 copies it twice: text to bytes, bytes to an array

    def copied(data: Any) -> bytes:
        nonlocal left
        if not isinstance(data, (str, bytes, bytearray)):  # bytes(n) would allocate n bytes
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
        # "K" means C order, followed by a permutation of the axes.
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
        "numpy.ndarray": "ndarray",  # a mere marker, which a pickle passes to reconstruct
        "numpy.dtype": _Dtype,
        "_codecs.encode": encode,  # protocol 2 writes bytes as text with an encoding
        "builtins.bytes": lambda: b"",  # and empty bytes as this call
        "__builtin__.bytes": lambda: b"",
        "collections.OrderedDict": lambda: OrderedDict(),
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        found[f"{core}.multiarray._reconstruct"] = reconstruct
        found[f"{core}.multiarray.scalar"] = scalar
        found[f"{core}.numeric._frombuffer"] = from_buffer
    return found
