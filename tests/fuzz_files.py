"""Fuzzing targets that read files: changed parts of good ones.

The law of a reader: a ``SetupError`` or a result that holds what its docstring says, whatever the file.
"""

import contextlib
import copy
import json
import math
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from fuzzing import Target
from hypothesis import strategies as st
from own_folders import WRITERS
from study_records import StudyMaker

from retina_plugin.apps.study.learning_curves import mean_curve
from retina_plugin.apps.study.report import protocol_facts, row_json, write_report
from retina_plugin.apps.study.results import read_study_folder, store_run
from retina_plugin.apps.study.summary import summarize
from retina_plugin.apps.study.tables import csv_text, reported_table, seed_table, stopped_table, study_table
from retina_plugin.apps.study.verdict import conclusions, pairs_sentence, run_warnings, verdict
from retina_plugin.config.load import load_config
from retina_plugin.config.safe_yaml import parse_yaml
from retina_plugin.data.checks import check_boxes
from retina_plugin.data.dataset_content import load_content
from retina_plugin.data.formats import read_boxes
from retina_plugin.data.image_paths import bounded_by, check_named, open_named
from retina_plugin.errors import SetupError
from retina_plugin.weights.read import read_weights

# Values that files have where they should not.
VALUES = st.one_of(
    st.sampled_from([
        None, True, "", "../../../etc/passwd", "\x00", "cat", [], {}, [[]], 0, -1, 1, 2**63, 10**400, 0.5, -0.0,
        1e308, math.inf, -math.inf, math.nan, "1e5", "0x10", "\udc80", "\x1b[2J", "a" * 5000, [1, 2, 3, 4],
    ]),
    st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(-9, 99), max_size=6),
)  # fmt: skip
# (place in the file or tree as a part of it, what to do there, with what)
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 5), VALUES), min_size=1, max_size=4)
TOKENS = (
    b"", b"\x00", b"\xff", b"<", b">", b"&", b'"', b"'", b"[", b"{", b"}", b":", b",", b"-", b"nan", b"inf", b"1e999",
    b"-1", b"9" * 30, b"\n", b"\t", b"\r", b"!!python/name:os.system ''", b"*a", b"&a ", b"<!DOCTYPE a>", b"<![CDATA[",
    b"\xef\xbb\xbf", b"\xe2\x80\xae", b"../", b"/", b"\\", b"%TAG ! tag:yaml.org,2002:\n",
)  # fmt: skip


def mutate_bytes(data: bytes, edits: list) -> bytes:
    """``data`` with parts cut out, repeated or replaced."""
    for place, kind, value in edits:
        at = int(place * (len(data) + 1))
        length = 1 + len(repr(value)) % 7 if kind < 3 else 1 + len(data) // 3
        token = TOKENS[int(place * 7919) % len(TOKENS)] if kind % 2 else str(value).encode("utf-8", "surrogatepass")
        if kind in (0, 1):
            data = data[:at] + token + data[at:]
        elif kind in (2, 3):
            data = data[:at] + data[at + length :]
        elif kind == 4:
            data = data[:at] + token + data[at + len(token) :]
        else:
            data = data[:at] + data[at : at + length] * 2 + data[at + length :]
    return data


def mutate_tree(tree, edits: list):
    """A copy of a JSON tree with values replaced, removed, repeated or renamed."""
    tree = json.loads(json.dumps(tree))
    for place, kind, value in edits:
        nodes = list(_places(tree))
        if not nodes:
            return value
        parent, key = nodes[int(place * len(nodes))]
        if kind == 0 and isinstance(parent, dict):
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.append(parent[key])
        elif kind == 2 and isinstance(parent, dict):
            parent[str(value)] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(value)  # else a second edit may put a list into itself
    return tree


def _places(tree):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


# The file of each format that is changed; the others stay good.
FILES = {
    "coco": "boxes.json", "voc": "Annotations/a.xml", "yolo": "labels/a.txt", "yolo_names": "data.yaml",
    "labelme": "a.json", "csv": "boxes.csv", "csv_names": "classes.csv",
}  # fmt: skip


def read_format(name: str) -> Target:
    """A reader of ``data/formats``: one changed file among good ones."""
    kind = name.partition("_")[0]

    def make_law(folder: Path) -> Callable:
        root = WRITERS[kind](folder / name)
        file = root / FILES[name]
        good = file.read_bytes()
        tree = json.loads(good) if file.suffix == ".json" else None

        def law(case: tuple[bool, list]) -> None:
            by_tree, edits = case
            if by_tree and tree is not None:
                file.write_bytes(json.dumps(mutate_tree(tree, edits)).encode("utf-8", "surrogatepass"))
            else:
                file.write_bytes(mutate_bytes(good, edits))
            with contextlib.suppress(SetupError):
                check_box_set(read_boxes(root, kind))

        return law

    return Target(st.tuples(st.booleans(), EDITS), make_law)


def check_box_set(found) -> None:
    for image in found.images:
        assert image.path.is_file() and os.path.abspath(image.path).startswith(os.path.abspath(found.root))
        for box in image.boxes:
            if box.record is None:
                assert 0 <= box.x1 < box.x2 <= image.width and 0 <= box.y1 < box.y2 <= image.height
            elif not box.is_crowd:  # COCO passes through as it is, with boxes that training leaves out
                assert box.x1 <= box.x2 and box.y1 <= box.y2
            assert box.class_name in found.class_names
    json.dumps(found.to_coco(found.class_names), allow_nan=False)


def read_catalog() -> Target:
    """A COCO file as ``train_net.py`` checks it."""

    def make_law(folder: Path) -> Callable:
        root = WRITERS["coco"](folder / "catalog")
        tree = json.loads((root / "boxes.json").read_text())
        name = f"fuzz {folder.name}"
        register_coco_instances(name, {}, str(root / "boxes.json"), str(root / "images"))

        def law(edits: list) -> None:
            (root / "boxes.json").write_bytes(json.dumps(mutate_tree(tree, edits)).encode("utf-8", "surrogatepass"))
            vars(MetadataCatalog.get(name)).pop("thing_classes", None)
            with contextlib.suppress(SetupError):
                content = load_content(name, for_training=True, for_test=True)
                assert content.boxes.shape == (len(content.box_images), 4)
                list(check_boxes(content))

        return law

    return Target(EDITS, make_law)


GOOD_CONFIG = """\
VERSION: 2
MODEL:
  META_ARCHITECTURE: FocalRetinaNet
  RETINANET: {NUM_CLASSES: 3, IOU_THRESHOLDS: [0.4, 0.5], FOCAL_LOSS_GAMMA: 2}
  ANCHOR_GENERATOR:
    SIZES: !!python/object/apply:eval ["[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"]
DATASETS: {TRAIN: ("a",), TRAIN_PATH: [a, b]}
SOLVER: &s {STEPS: (1, 2), BASE_LR: 1e-3}
INPUT: {MIN_SIZE_TRAIN: 640}
"""


def read_config() -> Target:
    """A YAML file, and words behind it."""

    def make_law(folder: Path) -> Callable:
        file = folder / "config.yaml"

        def law(case: tuple[list, list]) -> None:
            edits, words = case
            file.write_bytes(mutate_bytes(GOOD_CONFIG.encode(), edits))
            with contextlib.suppress(SetupError):
                cfg = load_config(str(file), words)
                assert load_config(str(file), words) == cfg and not cfg.is_frozen()

        return law

    keys = st.sampled_from(
        ["MODEL.RETINANET.NUM_CLASSES", "SOLVER.STEPS", "DATASETS.TRAIN", "OUTPUT_DIR", "MODEL", "X.Y"]
    )
    words = st.lists(st.tuples(keys, VALUES.map(str)), max_size=1).map(
        lambda pairs: [w for pair in pairs for w in pair]
    )
    return Target(st.tuples(EDITS, words), make_law)


STUDY_FILES = ("study.json", "runs.jsonl", "runs/a-1a2b/seed0/run_record.json", "runs/a-1a2b/seed0/metrics.json")


def read_study(*, draw: bool = False) -> Target:
    """A study folder with one changed file, as ``retina study report`` reads it; ``draw``: with the pictures."""

    def make_law(folder: Path) -> Callable:
        maker = StudyMaker(folder)
        maker.add_study(
            "alpha", reference="b", reported=[{"label": "SSD", "AP": 31.2, "source": "2: SSD"}], plot="line"
        )
        maker.add_row("alpha", "a", [20.0, 21.0], {"AP": 31.1}, x={"alpha": 0.5})
        maker.add_row("alpha", "b", [None, 22.0], {"AP": 32.1}, x={"alpha": 0.75})
        maker.write()
        for path in ("runs/a-1a2b/seed1", "runs/b-1a2b/seed0", "runs/b-1a2b/seed1"):
            store_run(folder / path)
            shutil.rmtree(folder / path)
        (folder / "discussion.md").write_text("## alpha\nText.\n")
        goods = {name: (folder / name).read_bytes() for name in STUDY_FILES}
        spoilt: list[str] = []

        def law(case: tuple[str, bool, list]) -> None:
            name, by_tree, edits = case
            while spoilt:
                (folder / (good := spoilt.pop())).write_bytes(goods[good])
            spoilt.append(name)
            lines = goods[name].splitlines()
            if by_tree:  # of a line of several, or of the whole file
                place = int(edits[0][0] * len(lines)) if name.endswith(("jsonl", "metrics.json")) else None
                tree = json.loads(goods[name] if place is None else lines[place])
                changed = json.dumps(mutate_tree(tree, edits)).encode("utf-8", "surrogatepass")
                data = changed if place is None else b"\n".join([*lines[:place], changed, *lines[place + 1 :]])
            else:
                data = mutate_bytes(goods[name], edits)
            (folder / name).write_bytes(data)
            with contextlib.suppress(SetupError):
                found = read_study_folder(folder)
                summaries = [summarize(study) for study in found.studies]
                for summary in summaries:
                    texts = [csv_text(summary), verdict(summary), pairs_sentence(summary)]
                    tables = [
                        study_table(summary),
                        reported_table(summary),
                        stopped_table(summary),
                        seed_table(summary),
                    ]
                    json.dumps([texts, [row_json(row) for row in summary.rows]], allow_nan=False).encode()
                    assert len(tables) == 4
                facts = [protocol_facts(found), conclusions(found), run_warnings(found), found.settings]
                json.dumps(facts, allow_nan=False).encode()
                for curve in (curve for run in found.runs.values() for curve in run.curves.values()):
                    assert np.isfinite(curve).all() and np.isfinite(mean_curve([curve, curve], 3)).all()
                if draw:
                    write_report(folder, folder / "report")

        return law

    return Target(st.tuples(st.sampled_from(STUDY_FILES), st.booleans(), EDITS), make_law)


YAML_PARTS = (
    b"{", b"}", b"[", b"]", b"&a ", b"*a", b"<<: *a", b"- ", b"? ", b": ", b"|\n", b">\n", b"!!binary ", b"!!set ",
    b"!!omap ", b"!!timestamp ", b"!!int ", b"!!float ", b"0x", b"0b", b"1:2:3", b"2024-13-01", b"%YAML 9.9\n",
    b"---\n", b"...\n", b"\t", b"\xff\xfe", b".inf", b"1_000", b"~", b"'", b'"\\ud800"',
)  # fmt: skip


def read_bounded_yaml() -> Target:
    """Any YAML: a SetupError, or values within the limits; aliases do not make it slow."""
    good = (
        b"names: &a {0: dog, 1: [x, *b]}\nb: &b {<<: {k: 1}}\nc: !!binary aGk=\nd: 2024-01-01\ne: [1, 1.5, 0x1f, ~]\n"
    )
    parts = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(YAML_PARTS)), max_size=6)

    def make_law(folder: Path) -> Callable:
        def law(case: tuple[list, list]) -> None:
            edits, inserted = case
            data = mutate_bytes(good, edits)
            for place, part in inserted:
                at = int(place * (len(data) + 1))
                data = data[:at] + part + data[at:]
            with contextlib.suppress(SetupError):
                assert len(repr(parse_yaml(data.decode("utf-8", "replace"), "x")[1])) < 4_000_000

        return law

    return Target(st.tuples(EDITS, parts), make_law)


NAMES = (
    "..",
    ".",
    "",
    "a",
    "x:",
    "link",
    "out",
    "a.png",
    "//",
    "/",
    "\\",
    "..\\",
    "C:",
    "https:",
    "~",
    "\0",
    "\udc80",
    "a" * 300,
)


def read_named() -> Target:
    """Paths as annotations write them: one that is let through is a file in the folder, once links are resolved."""

    def make_law(folder: Path) -> Callable:
        root, outside = folder / "set", folder / "outside"
        for place in (root / "x:" / "a", root / "a", outside / "deep"):
            place.mkdir(parents=True)
        for place in (root / "a.png", root / "a" / "a.png", outside / "a.png", outside / "deep" / "a.png"):
            place.write_bytes(b"x")
        (root / "link").symlink_to(root / "a")
        (root / "out").symlink_to(outside / "deep")  # the owner's: what lies in it may be named
        allowed = [os.path.realpath(place) for place in (root, outside / "deep")]

        def law(parts: list[str]) -> None:
            path = os.path.join(root, "/".join(parts))
            with contextlib.suppress(SetupError), bounded_by([root], "set", allow_outside=False):
                check_named([path])
                with open_named(path) as file:
                    real = os.path.realpath(f"/proc/self/fd/{file.fileno()}")
                    assert any(real.startswith(place + os.sep) for place in allowed), (path, real)

        return law

    return Target(st.lists(st.sampled_from(NAMES), max_size=7), make_law)


def read_archive() -> Target:
    """Archives of torch.save with damage: any error, or what Python's own reader and the checksums say."""

    def make_law(folder: Path) -> Callable:
        content = {"model": {"a": torch.arange(6.0), "b": torch.ones(2, 3, dtype=torch.int8)}, "iteration": 7}
        torch.save(content, folder / "good.pth")
        good = (folder / "good.pth").read_bytes()
        directory = good.index(b"PK\1\2")

        def law(case: tuple[list, list]) -> None:
            edits, flips = case
            data = bytearray(mutate_bytes(good, edits) if edits else good)
            for place, bit in flips:  # most of them in the directory, which the readers could disagree on
                at = int(place * len(data)) if bit % 3 == 0 else directory + int(place * (len(good) - directory))
                if at < len(data):
                    data[at] ^= 1 << bit % 8
            (folder / "a.pth").write_bytes(data)
            try:
                found = read_weights(str(folder / "a.pth"))
            except MemoryError:
                raise
            except Exception:  # the checkpointer makes a sentence of it
                return
            if not edits:  # flipped bits alone: what is loaded is what was written
                assert {key: value.tolist() for key, value in found["model"].items()} == {
                    key: value.tolist() for key, value in content["model"].items()
                }

        return law

    flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 23)), max_size=4)
    return Target(st.tuples(st.one_of(st.just([]), EDITS), flips), make_law)


def read_pickle() -> Target:
    """Files of weights with damage: any error, but none that ends the process, and no call into the system."""

    def make_law(folder: Path) -> Callable:
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        content = {"model": {"a": array, "b": [np.float64(1), np.zeros((0, 4))]}, "__author__": "x", "n": {1, 2}}
        goods = [pickle.dumps(content, protocol) for protocol in range(6)]

        def law(case: tuple[int, list]) -> None:
            protocol, edits = case
            (folder / "a.pkl").write_bytes(mutate_bytes(goods[protocol], edits))
            try:
                found = read_weights(str(folder / "a.pkl"))
            except MemoryError:
                raise
            except Exception:  # the checkpointer makes a sentence of it
                return
            assert isinstance(found["model"], dict)

        return law

    return Target(st.tuples(st.integers(0, 5), EDITS), make_law)
