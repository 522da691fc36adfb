"""Read a checkpoint once, without running code in it (docs/security.md).

Detectron2 unpickles ``.pkl`` files, which runs any code in them. Here a file may contain tensors, arrays, numbers, text
and containers of these. A file that asks for anything else is refused, with the name of the function or class.

``torch.save`` writes a zip archive with a CRC-32 of each part, which ``torch.load`` ignores. It is checked here, for
checkpoints of plain Detectron2 too, and PyTorch gets a new archive of the parts that were checked.
"""

import contextlib
import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import torch
from detectron2.utils.file_io import PathManager

from ..errors import SetupError
from ..reading import free_memory, open_regular
from .numpy_pickles import STATEFUL, pickle_globals

__all__ = ["DamagedFile", "read_weights"]

# PyTorch's download names end in the first digits of the file's SHA-256, before the suffix (torch.hub).
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|pkl|safetensors)$")
# The form in which PyTorch's unpickler and ours name the function or class that a file asks for.
_ASKED_FOR = re.compile(r"GLOBAL ([\w.]+)")
# First bytes of a zip archive. Files of torch before 1.6 are not archives and have no checksum.
_ZIP = b"PK\x03\x04"
# What PyTorch's reader may allocate beside two copies of the file; loading uses a few MB.
_SPARE_BYTES = 2**29


class DamagedFile(ValueError):
    """The file is missing, empty, cut short or changed; the message says which."""


def read_weights(address: str, *, trust: bool = False) -> dict[str, Any]:
    """Return the content of a checkpoint in the form that ``DetectionCheckpointer`` expects: ``model`` and the rest.

    Args:
        address: path, or address that Detectron2 can fetch, of a ``.pth``, ``.pkl`` (Detectron2 or Caffe2), ``.pyth``
            (pycls) or ``.safetensors`` file; other suffixes are read as ``.pth``.
        trust: unpickle any object, which may run code (MODEL.LOAD trust).

    Raises:
        SetupError: the file asks for anything but tensors, arrays, numbers, text and containers; or the hash of a
            download differs from the one in its name.
        DamagedFile: the file is missing, no regular one or too large, or its bytes have changed since it was written.
        Exception: the file contains no weights. PyTorch and pickle raise errors of many types.
    """
    url = urlparse(address)
    path = Path(PathManager.get_local_path(url._replace(query="").geturl()))
    if not path.exists():
        raise DamagedFile("it is not there")
    try:
        with open_regular(path, free_memory(), "more than the memory that is free.") as file:
            data = file.read()
    except SetupError as error:
        raise DamagedFile(f"it {str(error).removeprefix(f'{path} ').rstrip('.')}") from error
    check_download(address, path, data)
    if not data:
        raise DamagedFile("it is empty")
    if not data[: len(_ZIP)].strip(b"\0"):
        raise DamagedFile("it begins with zeros")
    if path.suffix == ".safetensors":
        import safetensors.torch  # an optional package

        content: Any = {"model": safetensors.torch.load(data)}
    elif path.suffix == ".pkl":
        content = _unpickle(data, address, trust=trust)
    else:
        is_archive = data.startswith(_ZIP) or zipfile.is_zipfile(io.BytesIO(data))
        source, size = checked_archive(data) if is_archive else io.BytesIO(data), len(data)
        del data  # of a large file only the copy stays
        content = _load_torch(source, size, address, trust=trust)
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a state dict")
    if path.suffix == ".pyth":
        state = {k: v for k, v in content["model_state"].items() if not k.endswith("num_batches_tracked")}
        content = {"model": state, "__author__": "pycls", "matching_heuristics": True}
    elif path.suffix == ".pkl" and not ("model" in content and "__author__" in content):  # with Caffe2's layer names
        blobs = content.get("blobs", content)  # present in detection models, absent in ImageNet models
        state = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
        content = {"model": state, "__author__": "Caffe2", "matching_heuristics": True}
    elif "model" not in content:
        content = {"model": content}
    if parse_qs(url.query).get("matching_heuristics") == ["True"]:
        content["matching_heuristics"] = True
    if not isinstance(content["model"], dict) or not content["model"]:
        raise ValueError("it holds no weights")
    return content


def check_download(address: str, path: Path, data: bytes) -> None:
    """Compare the SHA-256 of a download with the digits of it in its address, if there are any (as in PyTorch's).

    Raises:
        SetupError: they differ.
    """
    found = _HASH_IN_NAME.search(address) if "://" in address else None
    digest = hashlib.sha256(data).hexdigest() if found else ""
    if found and not digest.startswith(found[1]):
        raise SetupError(
            f"{address} was downloaded as {path}, whose SHA-256 begins with {digest[: len(found[1])]}, not with "
            f"the {found[1]} of its name. Delete that file and try again, or fetch it elsewhere and give its path."
        )


def checked_archive(data: bytes) -> io.BytesIO:
    """Return an archive with the parts of a torch archive, each checked against its CRC-32.

    A crafted archive shows one content to Python's zip reader and another to PyTorch's: two directories, sizes that
    differ, parts that overlap. So PyTorch gets an archive written here, of the bytes that were checked.
    """
    checked = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(checked, "w") as copy:
            parts = archive.infolist()
            # torch.save does not compress. A small hostile archive could unpack to any size.
            if sum(part.file_size for part in parts) > len(data):
                raise DamagedFile(
                    "its parts are larger than the file, as in a packed archive, which torch.save does not write"
                )
            if len({part.filename.lower() for part in parts}) < len(parts):
                raise DamagedFile("it has two parts of one name")
            for part in parts:
                try:
                    copy.writestr(zipfile.ZipInfo(part.filename), archive.read(part))
                except zipfile.BadZipFile as error:
                    raise DamagedFile(f"the checksum of its part {part.filename} is wrong") from error
    except DamagedFile:
        raise
    except Exception as error:  # a directory of nonsense makes zipfile raise errors of many types
        raise DamagedFile("it is cut short or overwritten in part") from error
    torch._C.PyTorchFileReader(io.BytesIO(data))  # refuses fields of the directory that Python does not look at
    checked.seek(0)
    return checked


class _Unpickler(pickle._Unpickler):
    """Unpickler that allows NumPy arrays, numbers, text and the builtin containers, and nothing else.

    Derived from Python's own class: the faster one in C allocates any length or memo index that a file claims.
    """

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.allowed = pickle_globals(len(data))

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}") from None

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], STATEFUL):  # a function would accept any attribute as its state
            raise pickle.UnpicklingError(f"a state for {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    def load_bytearray8(self) -> None:
        # Read only the bytes that the file has; Python's method allocates the length that the file claims.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8}


def _unpickle(data: bytes, shown_name: str, *, trust: bool) -> Any:
    if trust:
        return pickle.loads(data, encoding="latin1")
    with _naming_what_is_asked_for(shown_name):
        return _Unpickler(data).load()


def _load_torch(source: io.BytesIO, size: int, shown_name: str, *, trust: bool) -> Any:
    if trust:
        return torch.load(source, map_location="cpu", weights_only=False)
    # PyTorch has its own OrderedDict and encode. The types of STATEFUL are registered without a module, so a file can
    # set the state of their instances, but cannot name and call the types.
    allowed = [(value, name) for name, value in pickle_globals(size).items() if name[0] not in "_c"]
    with (
        _naming_what_is_asked_for(shown_name),
        limited_memory(2 * size + _SPARE_BYTES, shown_name),
        torch.serialization.safe_globals([*allowed, *((kind, kind.__name__) for kind in STATEFUL)]),
    ):
        return torch.load(source, map_location="cpu", weights_only=True)


@contextlib.contextmanager
def limited_memory(more: int, shown_name: str) -> Iterator[None]:
    """Let the process grow by no more than ``more`` bytes within the block, where the system can do that (Linux).

    PyTorch's unpickler copies a value as often as the file asks: 1 MB can become gigabytes.
    """
    try:
        import resource  # absent on Windows

        before = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + more
        if resource.RLIM_INFINITY in before or limit < min(before):
            resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise SetupError(
                f"{shown_name} takes more memory than its size explains: it was not loaded. Take the weights from a "
                "source that you trust."
            ) from None
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def _naming_what_is_asked_for(shown_name: str) -> Iterator[None]:
    try:
        yield
    except pickle.UnpicklingError as error:
        if (asked := _ASKED_FOR.search(str(error))) is None:
            # The rest of PyTorch's message advises to unpickle the file without these checks.
            detail = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
            raise pickle.UnpicklingError(detail) from error
        raise SetupError(
            f"{shown_name} asks for {asked[1]}, which is no part of weights: nothing of it was run.\n"
            "Take the weights from a source that you trust, as tensors alone (.safetensors, or torch.save of a state "
            "dict). MODEL.LOAD trust runs what the file asks for."
        ) from None
