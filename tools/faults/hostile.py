"""Files that cost time or memory, or that run code: what each is refused with, how long it took, how much memory.

    python tools/faults/hostile.py --output results/reliability/hostile.json

Each is read in a process of its own, whose growth in memory is measured; it may take MAX_SECONDS and MAX_GROWTH_MB. A
pickle that runs would leave a file.
"""

import argparse
import codecs
import io
import json
import os
import pickle
import resource
import signal
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from own_folders import WRITERS  # noqa: E402
from records import end_with_rows, versions  # noqa: E402
from study_records import StudyMaker  # noqa: E402

from retina_plugin.apps.study.results import read_study_folder  # noqa: E402
from retina_plugin.config.keys import get_retina_cfg  # noqa: E402
from retina_plugin.config.load import load_config  # noqa: E402
from retina_plugin.data.dataset_content import load_content  # noqa: E402
from retina_plugin.data.formats import read_boxes  # noqa: E402
from retina_plugin.data.images import read_sizes  # noqa: E402
from retina_plugin.data.register import register_config_datasets  # noqa: E402
from retina_plugin.errors import SetupError  # noqa: E402
from retina_plugin.weights.checkpointer import RetinaCheckpointer  # noqa: E402

MAX_SECONDS, MAX_GROWTH_MB = 60, 1024


class Harm:
    """A pickle of it writes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


class Copied:
    """A pickle of it has a text encoded, which others of it name as well."""

    def __init__(self, text: str):
        self.text = text

    def __reduce__(self):
        return codecs.encode, (self.text, "latin1")


def read_set(kind: str, file: str, content: str | bytes) -> Callable[[Path], object]:
    """A folder of a format in which one file is hostile, as ``retina convert`` and TRAIN_PATH read it."""

    def prepare(folder: Path) -> Callable[[], object]:
        root = WRITERS[kind](folder / "set")
        (root / file).write_bytes(content.encode() if isinstance(content, str) else content)
        return lambda: read_boxes(root, kind)

    return prepare


def read_registered(content: str) -> Callable[[Path], object]:
    """A COCO file behind DATASETS.TRAIN_JSON."""

    def prepare(folder: Path) -> Callable[[], object]:
        root = WRITERS["coco"](folder / "set")
        (root / "boxes.json").write_text(content)
        cfg = get_retina_cfg()
        cfg.DATASETS.TRAIN_JSON, cfg.DATASETS.TRAIN_IMAGES = str(root / "boxes.json"), str(root / "images")

        def read() -> object:
            register_config_datasets(cfg)
            return load_content(cfg.DATASETS.TRAIN[0], for_training=True, for_test=False)

        return read

    return prepare


def read_study(file: str, content: bytes) -> Callable[[Path], object]:
    """A study folder in which one file is hostile, as ``retina study report`` reads it."""

    def prepare(folder: Path) -> Callable[[], object]:
        maker = StudyMaker(folder / "study")
        maker.folder.mkdir()
        maker.add_study("alpha")
        maker.add_row("alpha", "a", [20.0])
        (maker.write() / file).write_bytes(content)
        return lambda: read_study_folder(maker.folder)

    return prepare


def read_sparse(kind: str, file: str) -> Callable[[Path], object]:
    """A folder of a format in which one file has 2 TB, of which the disk stores nothing."""

    def prepare(folder: Path) -> Callable[[], object]:
        root = WRITERS[kind](folder / "set")
        with (root / file).open("wb") as stream:
            stream.truncate(2**41)
        return lambda: read_boxes(root, kind)

    return prepare


def read_config(text: str) -> Callable[[Path], object]:
    def prepare(folder: Path) -> Callable[[], object]:
        (folder / "config.yaml").write_text(text)
        return lambda: load_config(str(folder / "config.yaml"), [])

    return prepare


def read_image(content: bytes) -> Callable[[Path], object]:
    def prepare(folder: Path) -> Callable[[], object]:
        (folder / "a.png").write_bytes(content)
        return lambda: read_sizes([folder / "a.png"])

    return prepare


def read_weights(name: str, write: Callable[[Path, Path], object]) -> Callable[[Path], object]:
    """A file of weights, by the checkpointer; ``write`` gets its path and that of the file that a pickle would make."""

    def prepare(folder: Path) -> Callable[[], object]:
        write(folder / name, folder / "harm")
        return lambda: RetinaCheckpointer(torch.nn.Linear(2, 2), str(folder)).load(str(folder / name))

    return prepare


def png_header(width: int, height: int) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 100))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def bomb_of_pixels(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def write_zip_bomb(path: Path, _: Path) -> None:
    """A checkpoint whose storage is 10 GB of zeros, packed to 10 MB."""
    torch.save({"model": {"weight": torch.zeros(2, 2)}}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            if name.endswith("/data/0"):
                with archive.open(name, "w", force_zip64=True) as part:
                    for _ in range(10_000):
                        part.write(bytes(10**6))
            else:
                archive.writestr(name, content)


def write_safetensors(path: Path, _: Path, *, header_bytes: int) -> None:
    path.write_bytes(struct.pack("<Q", header_bytes) + b"{" + b" " * 1000)


def claim(*opcodes: bytes) -> Callable[[Path, Path], object]:
    return lambda path, _: path.write_bytes(b"\x80\x04" + b"".join(opcodes) + b".")


ENTITIES = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x0 "x">' + "".join(
    f'<!ENTITY x{i} "{f"&x{i - 1};" * 10}">' for i in range(1, 12)
) + "]><annotation>&x11;</annotation>"  # fmt: skip
ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
POLYGON = '{"images": [], "categories": [], "annotations": [{"segmentation": [[' + "1,2," * 10**7 + "1,2]]}]}"
SHAPE = '{"shapes": [{"label": "dog", "shape_type": "polygon", "points": [' + "[1,2]," * 10**7 + "[1,2]]}]}"

TAGS = "".join(
    f"A{i}: !!python/object/apply:eval ['[[x/3,x,x,x,x,x,x,x/7] for x in [1{',1' * 9}]]']\n" for i in range(1000)
)
MEGABYTE = "x" * 10**6
IN_NAMES = "x: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"x{i}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
)

# Name -> what makes a folder and returns the call that reads it.
INPUTS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "COCO file of 10^6 nested lists": read_set("coco", "boxes.json", "[" * 10**6),
    "the same of objects, behind TRAIN_JSON": read_registered('{"a":' * 10**6),
    "COCO polygon of 10^7 points": read_set("coco", "boxes.json", POLYGON),
    "the same behind TRAIN_JSON": read_registered(POLYGON),
    "LabelMe polygon of 10^7 points": read_set("labelme", "a.json", SHAPE),
    "XML with entities of entities": read_set("voc", "Annotations/a.xml", ENTITIES),
    "XML of 10^6 nested tags": read_set("voc", "Annotations/a.xml", "<a>" * 10**6),
    "CSV with one line of 200 MB": read_set("csv", "boxes.csv", "a" * 200_000_000),
    "YAML of a data set, 10^6 nested lists": read_set("yolo", "data.yaml", "names: " + "[" * 10**6),
    "YAML of a data set that lists /dev/zero": read_set("yolo", "data.yaml", "train: /dev/zero\nnames: [dog, cat]\n"),
    "YAML of a data set that lists /etc/passwd": read_set(
        "yolo", "data.yaml", "train: /etc/passwd\nnames: [dog, cat]\n"
    ),
    "YAML of a data set with aliases of aliases": read_set("yolo", "data.yaml", IN_NAMES + "names: *i\n"),
    "COCO file of 2 TB": read_sparse("coco", "boxes.json"),
    "CSV file of 2 TB": read_sparse("csv", "boxes.csv"),
    "XML of 16 MB of tags": read_set("voc", "Annotations/a.xml", f"<annotation>{'<a/>' * 4_000_000}</annotation>"),
    "config of 10^5 nested lists": read_config("A: " + "[" * 10**5),
    "config with aliases of aliases": read_config(ALIASES),
    "config that computes 9 ** 9 ** 9": read_config(
        'MODEL: {ANCHOR_GENERATOR: {SIZES: !!python/object/apply:eval ["[[9 ** 9 ** 9]]"]}}'
    ),
    "config of 1,000 tags, each of 91 values": read_config(TAGS),
    "image of 10^10 pixels by its header": read_image(png_header(100_000, 100_000)),
    "PNG of 20,000 x 20,000 in 2 MB": read_image(bomb_of_pixels(20_000)),
    "pickle that runs code, .pkl": read_weights("a.pkl", lambda p, mark: p.write_bytes(pickle.dumps(Harm(mark)))),
    "pickle that runs code, .pth": read_weights("a.pth", lambda p, mark: torch.save({"model": Harm(mark)}, p)),
    "pickle in an array of objects": read_weights(
        "a.pkl", lambda p, mark: p.write_bytes(pickle.dumps({"model": np.array([Harm(mark)], dtype=object)}))
    ),
    "pickle that claims a text of 2^50 bytes": read_weights("a.pkl", claim(b"\x8d" + struct.pack("<Q", 2**50))),
    "pickle with 2^31 places": read_weights("a.pkl", claim(b"}r" + struct.pack("<I", 2**31 - 1))),
    "pickle that copies 1 MB 10,000 times": read_weights(
        "a.pkl", lambda p, _: p.write_bytes(pickle.dumps({"model": [Copied(MEGABYTE) for _ in range(10_000)]}))
    ),
    "the same, .pth": read_weights(
        "a.pth", lambda p, _: torch.save({"model": [Copied(MEGABYTE) for _ in range(10_000)]}, p)
    ),
    "study with a record of 10^5 nested lists": read_study("runs/a-1a2b/seed0/run_record.json", b"[" * 10**5),
    "study with a plan that is no text": read_study("study.json", bytes(range(256)) * 1000),
    "checkpoint of 10 GB packed to 10 MB": read_weights("a.pth", write_zip_bomb),
    "safetensors with a header of 2^40 bytes": read_weights(
        "a.safetensors", lambda p, mark: write_safetensors(p, mark, header_bytes=2**40 + 1)
    ),
}


def status_kb(key: str) -> int:
    """Of this process: VmRSS, its memory, or VmSize, its addresses."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def measure(name: str, prepare: Callable[[Path], Callable[[], object]], folder: Path) -> dict:
    """Read an input in a child: what it said, in what time and memory."""
    folder.mkdir()
    read = prepare(folder)
    out, into = os.pipe()
    if (pid := os.fork()) == 0:
        signal.alarm(MAX_SECONDS)
        before, begun = status_kb("VmRSS") / 1024, time.monotonic()
        limit = status_kb("VmSize") * 1024 + 4 * MAX_GROWTH_MB * 2**20  # not for the measure, but for the machine
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            read()
            said = "it was read"
        except SetupError as error:
            said = str(error)
        except BaseException as error:
            said = f"no sentence but {error!r}"[:300]
        seconds = time.monotonic() - begun
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        os.write(into, json.dumps([said, seconds, grown]).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said, seconds, grown = json.loads(text) if text else (f"ended with status {status}", MAX_SECONDS, 0.0)
    refused = bool(text) and not said.startswith(("it was read", "no sentence"))
    harmless = not (folder / "harm").exists()
    return {
        "fault": f"hostile file: {name}",
        "tried": 1,
        "status": status,
        "good": refused and harmless and grown < MAX_GROWTH_MB,
        "lost": f"{seconds:.1f} s, {max(grown, 0):.0f} MB",
        "seen": said.replace(str(folder), "...")[:300],
        "command": f"tools/faults/hostile.py --only '{name}'",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS", help="inputs whose names have these words")
    parser.add_argument("--output", type=Path, help="JSON file of the rows; without it they are printed alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, taken = {}, versions()
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, prepare) in enumerate(INPUTS.items()):
            if args.only in name:
                rows[name] = {**measure(name, prepare, Path(folder, str(i))), **taken}
                print(name, "|", rows[name]["lost"], "|", rows[name]["good"], "|", rows[name]["seen"], flush=True)
    return end_with_rows(rows, args.output)


if __name__ == "__main__":
    sys.exit(main())
