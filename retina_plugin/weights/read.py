"""Reading a file of weights without running what is in it (docs/security.md).

Detectron2 unpickles ``.pkl`` files, which runs any code that they hold. Here a file may hold tensors, arrays, numbers,
text and the containers of these. What asks for anything else is refused by the name of what it asked for.
"""

import hashlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from ..errors import SetupError
from .numpy_pickles import PICKLE_TYPES, pickle_globals, resolve

__all__ = ["check_download", "read_weights"]

# PyTorch's download names: the first digits of the file's SHA-256 before the suffix (torch.hub).
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|pkl|safetensors)$")
# How PyTorch's unpickler and ours name what a file asks for.
_ASKED_FOR = re.compile(r"GLOBAL ([\w.]+)")


class _Unpickler(pickle._Unpickler):
    """Gives a pickle NumPy's arrays and the builtin containers, and nothing else.

    Python's own, not the faster one in C, which takes memory for whatever length or place a file claims.
    """

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.allowed = pickle_globals(len(data))

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}") from None

    def load_bytearray8(self) -> None:
        # As for bytes: what is there is read. Python's takes memory for the length that is claimed.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}


def read_weights(file_name: str, shown_name: str = "", *, trust: bool = False) -> dict[str, Any]:
    """The content of a checkpoint as ``DetectionCheckpointer`` wants it: ``model`` and what else there is.

    Args:
        file_name: a local ``.pth``, ``.pkl`` (Detectron2's and Caffe2's), ``.pyth`` (pycls) or ``.safetensors``; other
            suffixes are read as ``.pth``.
        shown_name: the name for messages, where the file is the local copy of an address.
        trust: unpickle whatever it holds (MODEL.TRUST_WEIGHTS).

    Raises:
        SetupError: it asks for anything but tensors, arrays, numbers, text and containers.
        ValueError: it holds no weights.
        Exception: whatever a damaged file raises.
    """
    checkpoint = _read(file_name, shown_name, trust=trust)
    if not isinstance(checkpoint["model"], dict) or not checkpoint["model"]:
        raise ValueError("it holds no weights")
    return checkpoint


def _read(file_name: str, shown_name: str, *, trust: bool) -> dict[str, Any]:
    suffix = Path(file_name).suffix
    if suffix == ".safetensors":
        from safetensors.torch import load_file  # here: the other formats need it not

        return {"model": load_file(file_name)}
    try:
        content = _unpickle(file_name, is_torch=suffix != ".pkl", trust=trust)
    except pickle.UnpicklingError as error:
        if (asked := _ASKED_FOR.search(str(error))) is None:
            # PyTorch's own sentence proposes to unpickle the file as it is.
            detail = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
            raise pickle.UnpicklingError(detail) from error
        raise SetupError(
            f"{shown_name or file_name} asks for {asked[1]}, which is no part of weights: nothing of it was run.\n"
            "Take the weights from a source that you trust, as tensors alone (.safetensors, or torch.save of a state "
            "dict). MODEL.TRUST_WEIGHTS True runs what the file asks for."
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a state dict")
    if suffix == ".pkl":
        return _as_zoo_checkpoint(content)
    if suffix == ".pyth":
        state = {k: v for k, v in content["model_state"].items() if not k.endswith("num_batches_tracked")}
        return {"model": state, "__author__": "pycls", "matching_heuristics": True}
    return content if "model" in content else {"model": content}


def _unpickle(file_name: str, *, is_torch: bool, trust: bool) -> Any:
    if is_torch:
        if trust:
            return torch.load(file_name, map_location="cpu", weights_only=False)
        allowed = [
            (value, name)
            for name, value in pickle_globals(Path(file_name).stat().st_size).items()
            if name.startswith("numpy") or name.endswith(".bytes")
        ]
        # A name without a dot is none that a file can ask for: it may give these a state, not call them.
        allowed += [(kind, kind.__name__) for kind in PICKLE_TYPES]
        with torch.serialization.safe_globals(allowed):
            return resolve(torch.load(file_name, map_location="cpu", weights_only=True))
    data = Path(file_name).read_bytes()
    if trust:
        return pickle.loads(data, encoding="latin1")
    return resolve(_Unpickler(data).load())


def _as_zoo_checkpoint(content: dict) -> dict[str, Any]:
    """As ``DetectionCheckpointer`` takes a ``.pkl``: Detectron2's zoo, or Caffe2's, whose names are to be matched."""
    if "model" in content and "__author__" in content:
        return content
    blobs = content.get("blobs", content)  # detection models have it, ImageNet models do not
    state = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
    return {"model": state, "__author__": "Caffe2", "matching_heuristics": True}


def check_download(address: str, file_name: str) -> None:
    """Compare a downloaded file with the digits of its SHA-256 that its address carries, as PyTorch's do.

    Detectron2's addresses carry none that is documented, so there is nothing to compare.

    Raises:
        SetupError: they differ.
    """
    found = _HASH_IN_NAME.search(address)
    if "://" not in address or found is None:
        return
    digest = _sha256(file_name)
    if not digest.startswith(found[1]):
        raise SetupError(
            f"{address} was downloaded as {file_name}, whose SHA-256 begins with {digest[: len(found[1])]}, not with "
            f"the {found[1]} of its name. Delete that file and try again, or fetch it elsewhere and give its path."
        )


def _sha256(file_name: str) -> str:
    digest = hashlib.sha256()
    with open(file_name, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
