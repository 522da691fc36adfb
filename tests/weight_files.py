"""Files of weights, written as a stranger may have."""

import builtins
import io
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


def note_reads(monkeypatch) -> list[str]:
    """Return a list that gets the name of each .pth file that Python or torch opens to read."""
    names, opened, reader = [], io.open, torch._C.PyTorchFileReader

    def note(path):
        if str(path).endswith(".pth"):
            names.append(Path(path).name)

    def note_open(path, mode="r", *args, **kwargs):
        if "r" in mode and isinstance(path, (str, Path)):
            note(path)
        return opened(path, mode, *args, **kwargs)

    class NotingReader(reader):
        def __init__(self, file):
            if isinstance(file, str):
                note(file)
            super().__init__(file)

    monkeypatch.setattr(io, "open", note_open)
    monkeypatch.setattr(builtins, "open", note_open)
    monkeypatch.setattr(torch._C, "PyTorchFileReader", NotingReader)
    return names


def load_bytes(data: bytes, suffix: str = ".pkl") -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        path.write_bytes(data)
        return read_weights(str(path))
