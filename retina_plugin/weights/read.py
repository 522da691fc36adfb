"""Read a file of weights, once, without running code that is in it (docs/security.md).

Detectron2 unpickles ``.pkl`` files, which runs any code that they hold. Here a file may hold tensors, arrays, numbers,
text and containers of these. A file that asks for anything else is refused by the name of what it asks for.

``torch.save`` writes a zip archive with a CRC-32 of each of its parts, which ``torch.load`` does not look at. Here they
are the checksum of a checkpoint: plain Detectron2 writes them too.
"""

import hashlib
import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import torch
from detectron2.utils.file_io import PathManager

from ..errors import SetupError
from .numpy_pickles import STATEFUL, pickle_globals

__all__ = ["DamagedFile", "check_download", "read_weights"]

# PyTorch's download names: the first digits of the file's SHA-256 before the suffix (torch.hub).
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|pkl|safetensors)$")
# PyTorch's unpickler and ours name in this form what a file asks for.
_ASKED_FOR = re.compile(r"GLOBAL ([\w.]+)")
# A zip archive begins with it; files of torch before 1.6 begin otherwise, and have no checksum.
_ZIP = b"PK\x03\x04"


class DamagedFile(ValueError):
    """A file that is not there, empty, cut short or changed; the message says which of these."""


def read_weights(address: str, *, trust: bool = False) -> dict[str, Any]:
    """Return the content of a checkpoint as ``DetectionCheckpointer`` wants it: ``model`` and the rest of the file.

    Args:
        address: a path, or an address that Detectron2 can fetch, of a ``.pth``, ``.pkl`` (Detectron2's and Caffe2's),
            ``.pyth`` (pycls) or ``.safetensors``; other suffixes are read as ``.pth``.
        trust: unpickle any object, which may run code (MODEL.LOAD trust).

    Raises:
        SetupError: the file asks for anything but tensors, arrays, numbers, text and containers; or a download has
            another hash than its name says.
        DamagedFile: it is not there, or its bytes are not those that were written.
        Exception: it holds no weights. PyTorch and pickle raise errors of many types.
    """
    url = urlparse(address)
    path = Path(PathManager.get_local_path(url._replace(query="").geturl()))
    if not path.exists():
        raise DamagedFile("it is not there")
    data = path.read_bytes()
    check_download(address, path, data)
    _check_whole(data)
    if path.suffix == ".safetensors":
        import safetensors.torch  # an optional package

        content: Any = {"model": safetensors.torch.load(data)}
    else:
        content = _unpickle(data, address, is_torch=path.suffix != ".pkl", trust=trust)
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a state dict")
    if path.suffix == ".pyth":
        state = {k: v for k, v in content["model_state"].items() if not k.endswith("num_batches_tracked")}
        content = {"model": state, "__author__": "pycls", "matching_heuristics": True}
    elif path.suffix == ".pkl" and not ("model" in content and "__author__" in content):  # Caffe2's, with its names
        blobs = content.get("blobs", content)  # detection models have it, ImageNet models do not
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
    """Compare a download with the digits of its SHA-256 that its address may carry, as PyTorch's addresses do.

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


def _check_whole(data: bytes) -> None:
    """Compare the parts of a zip archive with their checksums; another file passes unless it is empty or zeros."""
    if not data:
        raise DamagedFile("it is empty")
    if not data.startswith(_ZIP) and not zipfile.is_zipfile(io.BytesIO(data)):
        if not data[: len(_ZIP)].strip(b"\0"):
            raise DamagedFile("it begins with zeros")
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # torch.save compresses nothing; a small hostile file could unpack to any size.
            if sum(part.file_size for part in archive.infolist()) > len(data):
                raise DamagedFile(
                    "its parts are larger than the file, as in a packed archive, which torch.save does not write"
                )
            if part := archive.testzip():
                raise DamagedFile(f"the checksum of its part {part} is wrong")
    except zipfile.BadZipFile as error:
        raise DamagedFile("it is cut short or overwritten in part") from error


class _Unpickler(pickle._Unpickler):
    """Give a pickle NumPy's arrays and the builtin containers, and nothing else.

    Python's own class, not the faster one in C, which allocates any length or memo index that a file claims.
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
        if not isinstance(self.stack[-1], STATEFUL):  # functions would take any attribute
            raise pickle.UnpicklingError(f"a state for {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    def load_bytearray8(self) -> None:
        # As for bytes, read the bytes that are there: Python allocates the length that the file claims.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8}


def _unpickle(data: bytes, shown_name: str, *, is_torch: bool, trust: bool) -> Any:
    if trust:
        if is_torch:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
        return pickle.loads(data, encoding="latin1")
    try:
        if not is_torch:
            return _Unpickler(data).load()
        # PyTorch has its own OrderedDict and encode. A file cannot ask for a name without a dot: it may give instances
        # of these types a state, not call them.
        allowed = [(value, name) for name, value in pickle_globals(len(data)).items() if name[0] not in "_c"]
        with torch.serialization.safe_globals([*allowed, *((kind, kind.__name__) for kind in STATEFUL)]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if (asked := _ASKED_FOR.search(str(error))) is None:
            # PyTorch's own message proposes to unpickle the file without these checks.
            detail = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
            raise pickle.UnpicklingError(detail) from error
        raise SetupError(
            f"{shown_name} asks for {asked[1]}, which is no part of weights: nothing of it was run.\n"
            "Take the weights from a source that you trust, as tensors alone (.safetensors, or torch.save of a state "
            "dict). MODEL.LOAD trust runs what the file asks for."
        ) from None
