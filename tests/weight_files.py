"""Files of weights, written as a stranger may have."""

import pickle
import tempfile
from pathlib import Path

import torch

from retina_plugin.weights.read import read_weights


def write_pickle(path: Path, content, protocol: int = 4) -> str:
    path.write_bytes(pickle.dumps(content, protocol))
    return str(path)


def write_torch(path: Path, content) -> str:
    torch.save(content, path)
    return str(path)


def load_bytes(data: bytes, suffix: str = ".pkl") -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        path.write_bytes(data)
        return read_weights(str(path))
