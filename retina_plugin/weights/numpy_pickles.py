"""NumPy arrays and scalars out of a pickle, without NumPy's own ``__setstate__``.

NumPy believes what a pickle says of a dtype. One that says that objects are plain bytes makes pointers of the bytes.
Here a dtype is its name and byte order, an array is ``np.frombuffer``, and what holds objects is refused.

A pickle can have one value copied many times over, whereby 1 MB would become gigabytes: what its calls copy is counted.
"""

from collections import OrderedDict
from typing import Any

import numpy as np

__all__ = ["PICKLE_TYPES", "pickle_globals", "resolve"]

_KINDS = "biufcSU"  # of dtypes: numbers, truth values, text of fixed length; not O (objects), not V (records)
_ARRAY_CLASS = "ndarray"  # stands for numpy.ndarray, which is only ever handed on to _reconstruct


class _Allowance:
    """How many bytes, or values of a container, the calls of a pickle may still copy."""

    __slots__ = ("left",)

    def __init__(self, left: int):
        self.left = left

    def spend(self, number: int) -> None:
        self.left -= number
        if self.left < 0:
            raise ValueError("the same values copied many times over")


class _Dtype:
    """A dtype in the making: its name, and then its byte order."""

    __slots__ = ("order", "text")

    def __init__(self, text: Any):
        self.text, self.order = text, "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def resolve(self) -> np.dtype:
        if not isinstance(self.text, str) or self.order not in ("<", ">", "|"):
            raise ValueError("a dtype that is no name")
        dtype = np.dtype(self.text)
        if dtype.kind not in _KINDS:
            raise ValueError(f"an array of {dtype}")
        return dtype.newbyteorder(self.order)


class _Array:
    """An array in the making."""

    __slots__ = ("allowance", "axes", "data", "dtype", "order", "shape")

    def __init__(
        self, allowance: _Allowance, data: Any = b"", dtype: Any = None, shape: Any = (0,), order: Any = "C",
        axes: Any = None,
    ):  # fmt: skip
        self.allowance, self.data, self.dtype, self.shape = allowance, data, dtype, shape
        self.order, self.axes = order, axes

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, is_fortran, self.data = state
        self.order = "F" if is_fortran else "C"

    def resolve(self) -> np.ndarray:
        # Python 2 wrote the bytes as text, which the "latin1" of the unpickler keeps one to one.
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        if not isinstance(data, (bytes, bytearray)):  # bytes(n) would take n bytes of memory
            raise ValueError("an array without its bytes")
        self.allowance.spend(len(data))
        dtype = _as_dtype(self.dtype)
        array = np.frombuffer(data, dtype).reshape(self.shape, order=self.order)
        return (array if self.axes is None else array.transpose(self.axes)).copy("K")


def _as_dtype(value: Any) -> np.dtype:
    if not isinstance(value, _Dtype):
        raise ValueError("an array without a dtype")
    return value.resolve()


class _Call:
    """What a pickle may call. Without a ``__dict__``: a pickle can set attributes of what it is given."""

    __slots__ = ("allowance",)

    def __init__(self, allowance: _Allowance):
        self.allowance = allowance


class _MakeDtype(_Call):
    __slots__ = ()

    def __call__(self, text: Any, align: Any, copy: Any) -> _Dtype:
        return _Dtype(text)


class _Reconstruct(_Call):
    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, typecode: Any) -> _Array:
        if kind != _ARRAY_CLASS:
            raise ValueError("an array of another class")
        return _Array(self.allowance)


class _FromBuffer(_Call):
    __slots__ = ()

    def __call__(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
        # "K" is C's order of axes that are then put in another one.
        return _Array(self.allowance, data, dtype, shape, "C" if order == "K" else order, axes)


class _Scalar(_Call):
    __slots__ = ()

    def __call__(self, dtype: Any, data: Any) -> Any:
        return _Array(self.allowance, data, dtype, (1,)).resolve()[0]


class _Encode(_Call):
    """Protocol 2 writes bytes as text and their encoding."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise ValueError("an encoding other than latin1")
        self.allowance.spend(len(text))
        return text.encode("latin1")


class _EmptyBytes(_Call):
    """The same protocol writes empty bytes as a call of ``bytes``."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _Container(_Call):
    __slots__ = ("kind",)

    def __init__(self, allowance: _Allowance, kind: type):
        super().__init__(allowance)
        self.kind = kind

    def __call__(self, values: Any = ()) -> Any:
        self.allowance.spend(len(values))
        return self.kind(values)


def pickle_globals(file_size: int) -> dict[str, Any]:
    """Dotted name -> what a pickle of so many bytes gets for it, for one reading of one file."""
    # A pickle writes each value once; protocol 2 makes bytes of text, and then an array of the bytes.
    allowance = _Allowance(2 * file_size)
    found: dict[str, Any] = {
        "numpy.ndarray": _ARRAY_CLASS,
        "numpy.dtype": _MakeDtype(allowance),
        "_codecs.encode": _Encode(allowance),
        "collections.OrderedDict": _Container(allowance, OrderedDict),
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        found[f"{core}.multiarray._reconstruct"] = _Reconstruct(allowance)
        found[f"{core}.multiarray.scalar"] = _Scalar(allowance)
        found[f"{core}.numeric._frombuffer"] = _FromBuffer(allowance)
    for module in ("builtins", "__builtin__"):  # Python 3 and 2
        found[f"{module}.set"] = _Container(allowance, set)
        found[f"{module}.frozenset"] = _Container(allowance, frozenset)
        found[f"{module}.bytes"] = _EmptyBytes(allowance)
    return found


# Types that a pickle may give a state.
PICKLE_TYPES = (_Dtype, _Array)


def resolve(value: Any) -> Any:
    """``value``, of dicts, lists and tuples, with every array in the making made.

    Raises:
        ValueError: an array holds objects or is not whole.
        RecursionError: it is nested more deeply than any checkpoint.
    """
    return _resolve(value, {})


def _resolve(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    # done: id -> what it was (which keeps the id its own) and what it is. A list of twice a list of twice a list ... is
    # small, and endless to go through without it.
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, (dict, list)):
        done[id(value)] = (value, value)
        for key in value if isinstance(value, dict) else range(len(value)):
            value[key] = _resolve(value[key], done)
    elif type(value) is tuple:
        done[id(value)] = (value, tuple(_resolve(item, done) for item in value))
    elif isinstance(value, PICKLE_TYPES):
        done[id(value)] = (value, value.resolve())
    else:
        return value
    return done[id(value)][1]
