"""Archives that show one content to Python's zip reader and another to PyTorch's, and pickles that grow in memory."""

import codecs
import io
import os
import struct
import sys
import zipfile

import pytest
import torch
from weight_files import write_torch

from retina_plugin.errors import SetupError
from retina_plugin.weights.checkpointer import read_checkpoint
from retina_plugin.weights.files import last_named
from retina_plugin.weights.read import DamagedFile, checked_archive, limited_memory, read_weights

END = struct.Struct("<4s4H2LH")  # a zip's last record: mark, disks, entries twice, size and place of the directory
ENTRY = struct.Struct("<4s6H3L5H2L")  # of the directory, before the name


def parts_of(value: float) -> dict[str, bytes]:
    file = io.BytesIO()
    torch.save({"model": {"a": torch.full((1000,), value)}}, file)
    with zipfile.ZipFile(file) as archive:
        return {part.filename: archive.read(part) for part in archive.infolist()}


def pack(parts: dict[str, bytes], at: int = 0) -> tuple[bytes, bytes]:
    """The entries of an archive that begins at a place of a file, and its directory."""
    entries, directory = b"", b""
    for name, content in parts.items():
        facts = (20, 0, 0, 0, 33, zipfile.crc32(content), len(content), len(content), len(name), 0)
        directory += ENTRY.pack(b"PK\1\2", 20, *facts, 0, 0, 0, 0, at + len(entries)) + name.encode()
        entries += struct.pack("<4s5H3L2H", b"PK\3\4", *facts) + name.encode() + content
    return entries, directory


def end(count: int, directory: bytes, at: int) -> bytes:
    return END.pack(b"PK\5\6", 0, 0, count, count, len(directory), at, 0)


def moved(directory: bytes, by: int) -> bytes:
    """The directory with the places of its entries moved."""
    out, at = b"", 0
    while at < len(directory):
        fields = ENTRY.unpack_from(directory, at)
        size = ENTRY.size + fields[10]
        out += ENTRY.pack(*fields[:-1], fields[-1] + by) + directory[at + ENTRY.size : at + size]
        at += size
    return out


def two_directories() -> bytes:
    """Python takes the directory before the last record; PyTorch the one that the record gives the place of."""
    shown, loaded = parts_of(1), parts_of(2)
    first, first_directory = pack(loaded)
    second, second_directory = pack(shown, len(first))
    at = len(first) + len(second)
    second_directory = moved(second_directory, -len(first_directory))
    return first + second + first_directory + second_directory + end(len(shown), second_directory, at)


def test_two_directories_show_two_contents(tmp_path):
    """The fault itself: without the copy PyTorch would load what was not checked."""
    (tmp_path / "a.pth").write_bytes(two_directories())
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        assert archive.testzip() is None and archive.read("archive/data/0") == parts_of(1)["archive/data/0"]
    assert torch.load(tmp_path / "a.pth")["model"]["a"][0] == 2
    assert read_weights(str(tmp_path / "a.pth"))["model"]["a"][0] == 1


def test_checked_archive_has_the_parts_that_were_checked():
    with zipfile.ZipFile(checked_archive(two_directories())) as archive:
        assert {part.filename: archive.read(part) for part in archive.infolist()} == parts_of(1)


def changed(field: int, value: int, where: str) -> bytes:
    """An archive whose storage has another value in a field of its header ("local") or of the directory."""
    entries, directory = pack(parts_of(1))
    name = b"archive/data/0"
    if where == "local":
        form, at = struct.Struct("<4s5H3L2H"), entries.index(name) - 30
    else:
        form, at = ENTRY, directory.index(name) - ENTRY.size
    data = bytearray(entries if where == "local" else directory)
    fields = list(form.unpack_from(data, at))
    fields[field] = value
    form.pack_into(data, at, *fields)
    entries, directory = (bytes(data), directory) if where == "local" else (entries, bytes(data))
    return entries + directory + end(len(parts_of(1)), directory, len(entries))


def with_parts(*pairs: tuple[str, bytes]) -> bytes:
    entries, directory = b"", b""
    for name, content in pairs:
        more, line = pack({name: content}, len(entries))
        entries, directory = entries + more, directory + line
    return entries + directory + end(len(pairs), directory, len(entries))


def packed(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in parts_of(1).items():
            archive.writestr(part, content + bytes(10**6) * (part == name))
    return file.getvalue()


PARTS = parts_of(1)
STORAGE = "archive/data/0"
HUGE = 2**31 - 1
# Each is refused, or loaded as Python's reader sees it: never anything else.
CRAFTED = {
    "two directories": two_directories(),
    "two parts of one name": with_parts(*PARTS.items(), (STORAGE, parts_of(2)[STORAGE])),
    "names that differ in case": with_parts(("archive/DATA/0", parts_of(2)[STORAGE]), *PARTS.items()),
    "a name cut by a null byte": with_parts((f"{STORAGE}\0", parts_of(2)[STORAGE]), *PARTS.items()),
    "larger by its own header": changed(7, HUGE, "local"),
    "larger by the directory": changed(9, HUGE, "directory"),
    "larger, packed": changed(8, HUGE, "directory"),
    "an unknown method": changed(4, 99, "directory"),
    "encrypted": changed(3, 1, "directory"),
    "a part behind the end": changed(16, HUGE, "directory"),
    "a part that overlaps another": changed(16, 0, "directory"),
    "another checksum": changed(7, 5, "directory"),
    "a packed part": packed(STORAGE),
    "a packed version": packed("archive/version"),
    "something before it": b"PK\3\4 and so on" + with_parts(*PARTS.items()),
    "something behind it": with_parts(*PARTS.items()) + bytes(1000),
    "a comment with an end in it": with_parts(*PARTS.items())[:-2] + b"\x16\0" + end(0, b"", 0),
    "cut off": with_parts(*PARTS.items())[:-30],
    "no part": b"PK\3\4" + end(0, b"", 4),
}  # fmt: skip


@pytest.mark.parametrize("data", CRAFTED.values(), ids=list(CRAFTED))
@pytest.mark.parametrize("trust", [False, True])
def test_archive_is_refused_or_loaded_as_it_was_checked(tmp_path, data, trust):
    (tmp_path / "a.pth").write_bytes(data)
    try:
        content = read_checkpoint(str(tmp_path / "a.pth"), trust=trust)
    except SetupError as error:
        assert "a.pth cannot be read as a checkpoint" in str(error)
    else:
        assert content["model"].keys() == {"a"} and content["model"]["a"].eq(1).all()


@pytest.mark.parametrize("name", ["two parts of one name", "names that differ in case", "larger by the directory",
                                  "an unknown method", "encrypted", "a part that overlaps another", "another checksum",
                                  "a packed part", "cut off"])  # fmt: skip
def test_such_an_archive_is_damaged(tmp_path, name):
    (tmp_path / "a.pth").write_bytes(CRAFTED[name])
    with pytest.raises(DamagedFile):
        read_weights(str(tmp_path / "a.pth"))


def test_every_kind_of_content_survives(tmp_path):
    content = {
        "model": {"a": torch.arange(6).reshape(2, 3).t(), "b": torch.zeros(0),
                  "c": torch.ones((), dtype=torch.bfloat16)},
        "shared": [(x := torch.arange(4.0)), x[1:]], "text": "ä" * 1000, "number": 2**70, "none": None, "set": {1, 2},
        "parameter": torch.nn.Parameter(torch.ones(2)), "bytes": b"\xff\0", "size": torch.Size([1, 2]),
    }  # fmt: skip
    read = read_weights(write_torch(tmp_path / "ä name.pth", content))
    assert torch.equal(read["model"]["a"], content["model"]["a"]) and read["model"]["c"].dtype == torch.bfloat16
    assert read["shared"][0].untyped_storage().data_ptr() == read["shared"][1].untyped_storage().data_ptr()
    for key in ("text", "number", "none", "set", "bytes", "size"):
        assert read[key] == content[key]


class Called:
    """A pickle of it calls a function that PyTorch's unpickler allows; a shared argument is written once."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_is_limited_within_the_block_alone():
    with pytest.raises(SetupError, match="a.pth takes more memory"), limited_memory(2**28, "a.pth"):
        bytearray(2**29)
    assert len(bytearray(2**29)) == 2**29
    with pytest.raises(RuntimeError, match="other"), limited_memory(2**28, "a.pth"):
        raise RuntimeError("other")


TEXT, NUMBERS = "x" * 10**6, list(range(10**5))
GROWING = {
    "text": [Called(codecs.encode, TEXT, "latin1") for _ in range(4000)],
    "sets": [Called(set, NUMBERS) for _ in range(400)],
    "zeros": Called(bytearray, 2**40),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", GROWING)
def test_pickle_that_grows_is_stopped(tmp_path, name, old):
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    torch.save({"model": {"a": GROWING[name]}}, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(SetupError, match=r"a\.pth takes more memory than its size explains"):
        read_checkpoint(str(tmp_path / "a.pth"))
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and sparse files")
@pytest.mark.parametrize("suffix", ["pth", "pkl", "safetensors"])
def test_pipe_or_giant_in_place_of_weights_is_refused_at_once(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    os.mkfifo(path)
    with pytest.raises(SetupError, match=f"a.{suffix} cannot be read as a checkpoint: it is not a regular file"):
        read_checkpoint(str(path))
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(
        SetupError, match=f"a.{suffix} cannot be .*: it has 8796093022208 bytes, .*more than the memory that is free"
    ):
        read_checkpoint(str(path))


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_pipe_in_place_of_the_name_of_the_last_checkpoint_is_none(tmp_path):
    os.mkfifo(tmp_path / "last_checkpoint")
    assert last_named(tmp_path) is None
