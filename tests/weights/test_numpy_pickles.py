"""Arrays out of a pickle: as NumPy wrote them, and nothing else than arrays and containers."""

import codecs
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
import torch
from weight_files import load_bytes, write_pickle, write_torch

from retina_plugin.weights.numpy_pickles import pickle_globals
from retina_plugin.weights.read import read_weights

ARRAYS = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 4), np.int64),
    "no axis": np.array(3, np.uint8),
    "truth": np.array([True, False]),
    "text": np.array(["ab", "c"]),
    "scalar": np.float64(2.5),
    "half": np.float16(1.5),
    "complex": np.array([1 + 2j], np.complex64),
    "axes in another order": np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_out_as_numpy_wrote_them(tmp_path, name, protocol):
    content = {"model": {"a": [ARRAYS[name], (ARRAYS[name],)]}, "__author__": "test"}
    found = read_weights(write_pickle(tmp_path / "a.pkl", content, protocol))["model"]["a"]
    for value in (found[0], found[1][0]):
        np.testing.assert_array_equal(value, ARRAYS[name])
        assert value.dtype == pickle.loads(pickle.dumps(ARRAYS[name], protocol)).dtype  # NumPy swaps bytes itself
        assert value.shape == ARRAYS[name].shape
        assert np.ndim(value) == 0 or value.flags.writeable
        assert value.flags.f_contiguous == ARRAYS[name].flags.f_contiguous


def test_numpy_in_a_torch_file_comes_out_too(tmp_path):
    content = {
        "model": OrderedDict(a=torch.ones(2)),
        "best": np.float64(2.5),
        "counts": np.arange(3),
        "size": torch.Size([1]),
    }
    found = read_weights(write_torch(tmp_path / "a.pth", content))
    assert found["best"] == 2.5 and found["counts"].tolist() == [0, 1, 2]
    assert torch.equal(found["model"]["a"], torch.ones(2)) and type(found["size"]) is torch.Size


def test_python_2_arrays_come_out():
    # What Python 2 wrote for numpy.array([1.0, 2.0]): its bytes are text.
    data = struct.pack("<2d", 1.0, 2.0).decode("latin1").encode("unicode_escape").replace(b"'", b"\\'")
    text = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n(I1\n(I2\ntp7\n"
        b"cnumpy\ndtype\np8\n(S'f8'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\nNNNI-1\nI-1\nI0\ntp13\nbI00\nS'"
        + data + b"'\np14\ntp15\nb."
    )  # fmt: skip
    np.testing.assert_array_equal(load_bytes(b"(dS'a'\n" + text[:-1] + b"s.")["model"]["a"], [1.0, 2.0])


DOUBLE = np.dtype("f8")


class Call:
    """What a pickle asks for: a call, and a state for its result."""

    def __init__(self, called, *args, state=None):
        self.reduced = (called, args, state)

    def __reduce__(self):
        return self.reduced


def array_of(*, kind=np.ndarray, shape=(2,), dtype=DOUBLE, data=b"\x41" * 16) -> Call:
    return Call(np.zeros(1).__reduce__()[0], kind, (0,), b"b", state=(1, shape, dtype, False, data))


def dtype_of(text, order="<") -> Call:
    return Call(np.dtype, text, False, True, state=(3, order, None, None, None, -1, -1, 0))


@pytest.mark.parametrize(("value", "match"), [
    # NumPy would take the bytes for pointers: an array of objects that calls itself one of plain bytes.
    (array_of(dtype=Call(np.dtype, "O", False, True, state=(3, "|", None, None, None, 8, 8, 0))), "an array of O"),
    (array_of(dtype=dtype_of("f4,f4")), "an array of .*f4"), (array_of(dtype=dtype_of("(2,)f4")), "an array of .*2,"),
    (array_of(dtype=dtype_of("V8")), "an array of V8"), (array_of(dtype=dtype_of("M8[s]")), "an array of M8"),
    (array_of(dtype=dtype_of("m8[s]")), "an array of m8"), (array_of(dtype=dtype_of(b"f8")), "is not a name"),
    (Call(np.float64(1).__reduce__()[0], DOUBLE, b"\x41" * 16), "shape does not fit its 16 bytes"),
    (array_of(dtype=dtype_of(None)), "a dtype that is not a name"),
    (array_of(dtype=dtype_of("f8", "S")), "is not a name"),
    (array_of(dtype="f8"), "an array without a dtype"), (array_of(kind=OrderedDict), "an array of another class"),
    (array_of(data=2**40), "an array without its bytes"), (array_of(data=[1, 2]), "an array without its bytes"),
    (array_of(shape=(2**40,)), "shape does not fit"), (Call(bytes, 2**40), "positional argument"),
    (array_of(shape=(-1, -2)), "shape does not fit"), (array_of(shape=(1,) * 33 + (2,)), "shape does not fit"),
    (array_of(shape=(2.0,)), "integer"), (array_of(shape=2), "has no len"),
])  # fmt: skip
@pytest.mark.parametrize("write", [write_pickle, write_torch])
def test_what_is_called_like_numpy_and_is_no_array_is_refused(tmp_path, write, value, match):
    path = write(tmp_path / f"a.{'pkl' if write is write_pickle else 'pth'}", {"model": {"a": value}})
    with pytest.raises((ValueError, TypeError), match=match):
        read_weights(path)


@pytest.mark.parametrize("arguments", [("a", "utf-8"), (b"a", "latin1")])
def test_text_is_encoded_as_a_pickle_of_bytes_has_it_alone(arguments):
    with pytest.raises(ValueError, match="an encoding other than latin1"):
        load_bytes(pickle.dumps({"a": Call(codecs.encode, *arguments)}))


def test_place_of_a_pickle_takes_no_memory_before_it(tmp_path):
    # C's unpickler would take 2^32 places, 32 GB, for this one.
    model = b"\x8c\x05model}\x8c\x01aK\x01ss"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04}r" + struct.pack("<I", 2**31) + model + b"\x8c\x0a__author__Ns.")
    assert read_weights(str(tmp_path / "a.pkl"))["model"] == {"a": 1}


@pytest.mark.parametrize("shared", [np.ones(2), (np.ones(2),)], ids=["array", "tuple"])
def test_shared_value_stays_one(tmp_path, shared):
    found = read_weights(write_pickle(tmp_path / "a.pkl", {"model": {"a": [shared, shared]}, "__author__": ""}))
    assert found["model"]["a"][0] is found["model"]["a"][1]


def test_ordered_state_dict_in_a_pickle_comes_out(tmp_path):
    content = {"model": OrderedDict(b=1, a=np.float64(2.5)), "__author__": ""}
    assert read_weights(write_pickle(tmp_path / "a.pkl", content)) == content


def test_a_pickle_cannot_change_what_it_gets():
    for name in pickle_globals(0):
        module, _, attribute = name.rpartition(".")
        # The state of a BUILD: (None, {"__call__": 1}), set as attributes.
        data = f"c{module}\n{attribute}\n(N(dS'__call__'\nI1\nstb.".encode()
        with pytest.raises(pickle.UnpicklingError, match="a state for "):
            load_bytes(data)


TEXT = "\xff" * 10_000
COPIES = {  # what a pickle can have copied
    "array": lambda data: array_of(shape=(len(data),), dtype=np.dtype("u1"), data=data),
    "scalar": lambda data: Call(np.float64(1).__reduce__()[0], np.dtype(f"S{len(data)}"), data),
    "encode": lambda data: Call(codecs.encode, TEXT, "latin1"),
}


def test_an_ordered_dict_is_filled_by_the_pickle_and_not_by_its_call():
    with pytest.raises(TypeError, match="positional argument"):
        load_bytes(pickle.dumps({"a": Call(OrderedDict, [(1, 2)])}))


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_the_same_values_are_not_copied_many_times_over(copy):
    data = TEXT.encode("latin1")
    once = [copy(data)]
    assert len(load_bytes(pickle.dumps({"a": once, "b": data, "d": TEXT}))["model"]["a"]) == 1
    with pytest.raises(ValueError, match="^the same values copied many times over$"):
        load_bytes(pickle.dumps({"a": [copy(data) for _ in range(100)], "b": data, "d": TEXT}))


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_which_a_pickle_consists_are_no_copies(protocol):
    content = {str(i): np.full(1000, 0xF0 + i, np.uint8) for i in range(8)}  # 1 byte each, 2 as the text of protocol 2
    for key, value in load_bytes(pickle.dumps(content, protocol))["model"].items():
        np.testing.assert_array_equal(value, content[key])
    content = {str(i): np.full(1000, i, np.uint8) for i in range(8)}
    assert len(load_bytes(pickle.dumps(content, protocol))["model"]) == 8
