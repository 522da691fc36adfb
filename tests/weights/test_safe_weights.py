"""Files of weights: what may be in them, and that nothing else in them is run."""

import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import save_file
from weight_files import load_bytes, write_pickle, write_torch

from retina_cli.main import main
from retina_plugin import SetupError
from retina_plugin.weights.checkpointer import RetinaCheckpointer, build_checkpointer
from retina_plugin.weights.read import check_download, read_weights


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


def write_pickle_2(path: Path, content) -> str:
    return write_pickle(path, content, 2)  # the one that PyTorch reads


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
    with pytest.raises(SetupError, match=rf"weights{suffix} asks for {asked}, .*\n.*MODEL.LOAD trust"):
        read_weights(path)
    assert not marker.exists()
    if suffix != ".pyth" and write is not write_pickle_2:  # the others are whole files
        read_weights(path, trust=True)  # the file does what it is said to do, where it is let
        assert marker.exists()


def test_refusal_through_the_checkpointer_and_its_key(tiny_cfg, tmp_path):
    marker = tmp_path / "marker"
    model = build_model(tiny_cfg)
    path = write_torch(tmp_path / "a.pth", {"model": model.state_dict(), "extra": Touch(marker)})
    checkpointer = build_checkpointer(tiny_cfg, model, classes=None)
    for _ in range(2):  # Detectron2's checkpointer cannot be used again after a file that it could not read
        with pytest.raises(SetupError, match="asks for"):
            checkpointer.load(path)
    assert not marker.exists()
    tiny_cfg.MODEL.LOAD = "trust"
    build_checkpointer(tiny_cfg, model, classes=None).load(path)
    assert marker.exists()


def test_convert_weights_runs_nothing_either(tmp_path, capsys):
    path = write_torch(tmp_path / "a.pth", {"model": Touch(tmp_path / "marker")})
    assert main(["convert-weights", path, str(tmp_path / "b.pth")]) == 2
    assert "asks for" in capsys.readouterr().err and not (tmp_path / "marker").exists()


def test_state_dict_alone_is_a_model(tmp_path):
    assert read_weights(write_torch(tmp_path / "a.pth", {"a": 1.5})) == {"model": {"a": 1.5}}


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
    assert load_bytes(pickle.dumps(content)) == {"model": content, "__author__": "Caffe2", "matching_heuristics": True}


def test_file_that_torch_cannot_read_is_not_proposed_to_be_run(tmp_path):
    with pytest.raises(pickle.UnpicklingError) as caught:
        read_weights(write_pickle(tmp_path / "a.pth", {"a": 1}))
    assert str(caught.value) and "weights_only" not in str(caught.value)


WEIGHTS = b"weights"
DIGITS = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.mark.parametrize("address", [
    f"https://host/resnet-{DIGITS[:8]}.pth", f"https://host/resnet-{DIGITS}.safetensors",
    "https://host/model_final_bfca0b.pkl", "https://host/last-decade.pth", "resnet-deadbeef.pth",
], ids=["right", "all digits", "Detectron2's", "a word of hexadecimal digits", "a file of one's own"])  # fmt: skip
def test_download_that_fits_its_name_or_has_no_hash_in_it_passes(tmp_path, address):
    check_download(address, tmp_path / "a", WEIGHTS)


@pytest.mark.parametrize("suffix", ["pth", "pt", "pkl", "safetensors"])
@pytest.mark.parametrize("digits", ["deadbeef", DIGITS[8:16]], ids=["of no part", "not the first"])
def test_download_that_differs_from_the_hash_in_its_name_is_refused(tmp_path, digits, suffix):
    with pytest.raises(SetupError, match=f"whose SHA-256 begins with {DIGITS[:8]}, not with the {digits} of its name"):
        check_download(f"https://host/resnet-{digits}.{suffix}", tmp_path / "a", WEIGHTS)
