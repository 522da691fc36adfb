"""Files of weights: what may be in them, and that nothing else in them is run."""

import codecs
import hashlib
import os
import pickle
import struct
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import save_file

from retina_plugin import SetupError
from retina_plugin.engine import convert_weights
from retina_plugin.engine.checkpoint import RetinaCheckpointer, build_checkpointer
from retina_plugin.engine.numpy_pickles import PICKLE_GLOBALS
from retina_plugin.engine.safe_weights import check_download, read_weights


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Evaluate:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({str(self.path)!r})",)


def write_pickle(path: Path, content, protocol: int = 4) -> str:
    path.write_bytes(pickle.dumps(content, protocol))
    return str(path)


def write_pickle_2(path: Path, content) -> str:
    return write_pickle(path, content, 2)  # the one that PyTorch reads


def write_torch(path: Path, content) -> str:
    torch.save(content, path)
    return str(path)


def write_old_torch(path: Path, content) -> str:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return str(path)


HOSTILE = [
    pytest.param(write_pickle, ".pkl", Touch, r"(posix|nt|os)\.mkdir", id="pkl"),
    pytest.param(write_pickle, ".pkl", Evaluate, r"builtins\.eval", id="pkl eval"),
    pytest.param(write_pickle_2, ".pth", Touch, r"(posix|nt|os)\.mkdir", id="pickle named pth"),
    pytest.param(write_torch, ".pth", Touch, r"(posix|nt|os)\.mkdir", id="pth"),
    pytest.param(write_torch, ".pth", Evaluate, "eval", id="pth eval"),
    pytest.param(write_torch, ".pyth", Touch, r"(posix|nt|os)\.mkdir", id="pyth"),
    pytest.param(write_old_torch, ".pth", Touch, r"(posix|nt|os)\.mkdir", id="old pth"),
]


@pytest.mark.parametrize(("write", "suffix", "hostile", "asked"), HOSTILE)
def test_hostile_file_is_refused_by_name_and_not_run(tmp_path, write, suffix, hostile, asked):
    marker = tmp_path / "marker"
    path = write(tmp_path / f"weights{suffix}", {"model": {"a": 1.0}, "__author__": hostile(marker)})
    with pytest.raises(SetupError, match=rf"weights{suffix} asks for {asked}, .*\n.*MODEL.TRUST_WEIGHTS True"):
        read_weights(path)
    assert not marker.exists()
    if suffix != ".pyth" and write is not write_pickle_2:  # the others are whole files
        read_weights(path, trust=True)  # the file does what it is said to do, where it is let
        assert marker.exists()


def test_refusal_through_the_checkpointer_and_its_key(tiny_cfg, tmp_path):
    marker = tmp_path / "marker"
    model = build_model(tiny_cfg)
    path = write_torch(tmp_path / "a.pth", {"model": model.state_dict(), "extra": Touch(marker)})
    checkpointer = build_checkpointer(tiny_cfg, model)
    for _ in range(2):  # Detectron2's checkpointer cannot be used again after a file that it could not read
        with pytest.raises(SetupError, match="asks for"):
            checkpointer.load(path)
    assert not marker.exists()
    tiny_cfg.MODEL.TRUST_WEIGHTS = True
    build_checkpointer(tiny_cfg, model).load(path)
    assert marker.exists()


def test_convert_weights_runs_nothing_either(tmp_path, capsys):
    path = write_torch(tmp_path / "a.pth", {"model": Touch(tmp_path / "marker")})
    assert convert_weights.main([path, str(tmp_path / "b.pth")]) == 2
    assert "asks for" in capsys.readouterr().err and not (tmp_path / "marker").exists()


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
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_out_as_numpy_wrote_them(tmp_path, name, protocol):
    content = {"model": {"a": [ARRAYS[name], (ARRAYS[name], {1})]}, "__author__": "test"}
    found = read_weights(write_pickle(tmp_path / "a.pkl", content, protocol))["model"]["a"]
    for value in (found[0], found[1][0]):
        np.testing.assert_array_equal(value, ARRAYS[name])
        assert value.dtype == ARRAYS[name].dtype and value.shape == ARRAYS[name].shape
        assert np.ndim(value) == 0 or value.flags.writeable
        assert value.flags.f_contiguous == ARRAYS[name].flags.f_contiguous
    assert found[1][1] == {1}


def test_numpy_in_a_torch_file_comes_out_too(tmp_path):
    content = {"model": OrderedDict(a=torch.ones(2)), "best": np.float64(2.5), "counts": np.arange(3)}
    found = read_weights(write_torch(tmp_path / "a.pth", content))
    assert found["best"] == 2.5 and found["counts"].tolist() == [0, 1, 2]
    assert torch.equal(found["model"]["a"], torch.ones(2))


def test_state_dict_alone_is_a_model(tmp_path):
    assert read_weights(write_torch(tmp_path / "a.pth", {"a": 1.5})) == {"model": {"a": 1.5}}


def test_python_2_arrays_come_out():
    # What Python 2 wrote for numpy.array([1.0, 2.0]): its bytes are text.
    data = struct.pack("<2d", 1.0, 2.0).decode("latin1").encode("unicode_escape").replace(b"'", b"\\'")
    text = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n(I1\n(I2\ntp7\n"
        b"cnumpy\ndtype\np8\n(S'f8'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\nNNNI-1\nI-1\nI0\ntp13\nbI00\nS'"
        + data + b"'\np14\ntp15\nb."
    )  # fmt: skip
    np.testing.assert_array_equal(_load(b"(dS'a'\n" + text[:-1] + b"s.")["model"]["a"], [1.0, 2.0])


def _load(data: bytes, suffix: str = ".pkl") -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        path.write_bytes(data)
        return read_weights(str(path))


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
    (array_of(dtype=Call(np.dtype, "O", False, True, state=(3, "|", None, None, None, 8, 8, 0))), "an array of object"),
    (array_of(dtype=dtype_of("f4,f4")), "an array of .*f4"), (array_of(dtype=dtype_of("(2,)f4")), "an array of .*2,"),
    (array_of(dtype=dtype_of("V8")), "an array of .V8"), (array_of(dtype=dtype_of("M8[s]")), "an array of datetime64"),
    (array_of(dtype=dtype_of(None)), "a dtype that is no name"), (array_of(dtype=dtype_of("f8", "S")), "is no name"),
    (array_of(dtype="f8"), "an array without a dtype"), (array_of(kind=set), "an array of another class"),
    (array_of(data=2**40), "an array without its bytes"), (array_of(data=[1, 2]), "an array without its bytes"),
    (array_of(shape=(2**40,)), "cannot reshape"), (Call(bytes, 2**40), "positional argument"),
])  # fmt: skip
@pytest.mark.parametrize("write", [write_pickle, write_torch])
def test_what_is_called_like_numpy_and_is_no_array_is_refused(tmp_path, write, value, match):
    path = write(tmp_path / f"a.{'pkl' if write is write_pickle else 'pth'}", {"model": {"a": value}})
    with pytest.raises((ValueError, TypeError), match=match):
        read_weights(path)


@pytest.mark.parametrize("arguments", [("a", "utf-8"), (b"a",)])
def test_text_is_encoded_as_a_pickle_of_bytes_has_it_alone(arguments):
    with pytest.raises(ValueError, match="an encoding other than latin1"):
        _load(pickle.dumps({"a": Call(codecs.encode, *arguments)}))


@pytest.mark.parametrize("data", [
    pickle.dumps({"a": np.array([{1}, "x"], dtype=object)}),
    pickle.dumps({"a": np.zeros(2, dtype=[("x", "f4"), ("y", "O")])}),
    pickle.dumps([1, 2]),
    pickle.dumps({"a": np.zeros(4)})[:-20],
    b"\x80\x04]" + b"]" * 10**6 + b"a" * 10**6 + b".",
    b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"a.",  # found by fuzzing
    b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"a.",
], ids=[
    "objects", "records", "a list", "cut off", "a million lists", "2^50 bytes", "2^36 bytes",
])  # fmt: skip
def test_other_pickles_are_refused_without_a_crash(tiny_cfg, tmp_path, data):
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(SetupError, match=r"a\.pkl (cannot be read as a checkpoint|asks for)"):
        RetinaCheckpointer(torch.nn.Linear(1, 1)).load(str(tmp_path / "a.pkl"))


def test_place_of_a_pickle_takes_no_memory_before_it(tmp_path):
    # C's unpickler would take 2^32 places, 32 GB, for this one.
    model = b"\x8c\x05model}\x8c\x01aK\x01ss"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04}r" + struct.pack("<I", 2**31) + model + b"\x8c\x0a__author__Ns.")
    assert read_weights(str(tmp_path / "a.pkl"))["model"] == {"a": 1}


def test_lists_of_twice_a_list_are_read_in_no_time(tmp_path):
    value = leaf = [np.ones(2)]
    for _ in range(100):
        value = [value, value, (value,)]
    found = read_weights(write_pickle(tmp_path / "a.pkl", {"model": {"a": value}, "__author__": "", "b": leaf}))
    np.testing.assert_array_equal(found["b"][0], [1, 1])
    assert found["model"]["a"][0] is found["model"]["a"][1] is found["model"]["a"][2][0]


def test_a_pickle_cannot_change_what_the_next_one_gets():
    for name, given in PICKLE_GLOBALS.items():
        module, _, attribute = name.rpartition(".")
        # The state of a BUILD: (None, {"__call__": 1}), set as attributes.
        data = f"c{module}\n{attribute}\n(N(dS'__call__'\nI1\nstb.".encode()
        with pytest.raises((AttributeError, TypeError)):
            _load(data)
        assert PICKLE_GLOBALS[name] is given


def test_safetensors_are_weights(tiny_cfg, tmp_path):
    model = build_model(tiny_cfg)
    state = {key: value + 1 for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    checkpointer = RetinaCheckpointer(model)
    checkpointer.load(str(tmp_path / "a.safetensors"))
    assert checkpointer.report.missing == ()
    assert torch.equal(model.head.cls_score.bias, state["head.cls_score.bias"])


def test_caffe2_and_pycls_names_are_matched(tmp_path):
    array = np.ones(2, np.float32)
    found = read_weights(write_pickle(tmp_path / "c.pkl", {"blobs": {"conv1_w": array, "conv1_w_momentum": array}}))
    assert list(found["model"]) == ["conv1_w"] and found["__author__"] == "Caffe2" and found["matching_heuristics"]
    state = {"model_state": {"s1.weight": torch.ones(2), "s1.num_batches_tracked": torch.ones(1)}}
    found = read_weights(write_torch(tmp_path / "p.pyth", state))
    assert list(found["model"]) == ["s1.weight"] and found["matching_heuristics"]


@pytest.mark.parametrize("content", [{"model": 1}, {"__author__": 1}], ids=["model", "author"])
def test_pickle_of_the_zoo_has_a_model_and_an_author(content):
    assert _load(pickle.dumps(content)) == {"model": content, "__author__": "Caffe2", "matching_heuristics": True}


def test_file_that_torch_cannot_read_is_not_proposed_to_be_run(tmp_path):
    with pytest.raises(pickle.UnpicklingError) as caught:
        read_weights(write_pickle(tmp_path / "a.pth", {"a": 1}))
    assert str(caught.value) and "weights_only" not in str(caught.value)


WEIGHTS = b"weights" * 300_000  # more than is read at once
DIGITS = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.mark.parametrize("address", [
    f"https://host/resnet-{DIGITS[:8]}.pth", f"https://host/resnet-{DIGITS}.safetensors",
    "https://host/model_final_bfca0b.pkl", "https://host/last-decade.pth", "resnet-deadbeef.pth",
], ids=["right", "all digits", "Detectron2's", "a word of hexadecimal digits", "a file of one's own"])  # fmt: skip
def test_download_that_fits_its_name_or_has_no_hash_in_it_passes(tmp_path, address):
    (tmp_path / "a").write_bytes(WEIGHTS)
    check_download(address, str(tmp_path / "a"))


@pytest.mark.parametrize("suffix", ["pth", "pt", "pkl", "safetensors"])
@pytest.mark.parametrize("digits", ["deadbeef", DIGITS[8:16]], ids=["of no part", "not the first"])
def test_download_that_differs_from_the_hash_in_its_name_is_refused(tmp_path, digits, suffix):
    (tmp_path / "a").write_bytes(WEIGHTS)
    with pytest.raises(SetupError, match=f"whose SHA-256 begins with {DIGITS[:8]}, not with the {digits} of its name"):
        check_download(f"https://host/resnet-{digits}.{suffix}", str(tmp_path / "a"))
