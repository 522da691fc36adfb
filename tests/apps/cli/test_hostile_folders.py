"""A stranger's folder given to every command: nothing in it runs, leads outside, connects, is shown or ends raw."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from own_folders import write_coco, write_yolo
from PIL import Image
from study_records import StudyMaker

from retina_cli.main import main
from retina_plugin.apps.study.index import load_studies
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_detector", "tiny_sets")

SECRET = "root:$6$secret"


class Touch:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def yard(tmp_path, monkeypatch) -> Path:
    """A working folder with a secret and a mark-to-be in it; connecting fails the test."""

    def refuse(*args):
        raise AssertionError(f"it connects to {args[1:]}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text(f"{SECRET}\n")
    return tmp_path


def check_harmless(yard: Path, said: str, status: int, before: set[str]) -> None:
    """Nothing ran or was shown; an error is one sentence; files are only where the command writes."""
    assert not (yard / "mark").exists(), "code of the file ran"
    assert SECRET not in said
    assert status in (0, 1, 2), said
    assert "Traceback" not in said
    new = {path.relative_to(yard).parts[0] for path in yard.rglob("*")} - before
    assert new <= {"out", "predictions", "output"}, new


# -- The folder of a trained model. Each case gets the folder, whose weights have a part that runs code.


def config(text: str) -> Callable[[Path], object]:
    """A config.yaml in which further lines follow."""

    def spoil(run: Path) -> None:
        values = yaml.safe_load((run / "config.yaml").read_text())
        for dotted, value in yaml.safe_load(text.replace("YARD", str(run.parent))).items():
            *groups, last = dotted.split(".")
            node = values
            for group in groups:
                node = node[group]
            node[last] = value
        (run / "config.yaml").write_text(yaml.safe_dump(values))

    return spoil


def file(name: str, content: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(content.replace("YARD", str(run.parent)))


def all_of(*steps: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda run: [step(run) for step in steps]


def replaced_by_pipe(run: Path) -> None:
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")


def replaced_by_link(run: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "config.yaml").symlink_to(run.parent / "secret.txt")


def of_two_terabytes(run: Path) -> None:
    with (run / "config.yaml").open("wb") as stream:
        stream.truncate(2**41)


BASE = "MODEL: {LOAD: trust}\n"
MODELS = {
    "trust": config("MODEL.LOAD: trust"),
    "trust among others": config("MODEL.LOAD: partial+trust+ignore_manifest"),
    "former switch": config("MODEL.TRUST_WEIGHTS: true"),
    "base beside": all_of(config("_BASE_: base.yaml"), file("base.yaml", BASE)),
    "base elsewhere": all_of(config("_BASE_: YARD/run/sub.yaml"), file("sub.yaml", BASE)),
    "base at an address": config("_BASE_: http://127.0.0.1:9/base.yaml"),
    "base of a base": all_of(config("_BASE_: a.yaml"), file("a.yaml", "_BASE_: https://127.0.0.1:9/b.yaml\n")),
    "base that is a secret": config("_BASE_: YARD/secret.txt"),
    "tag": file("config.yaml", "MODEL: !!python/object/apply:os.mkdir [YARD/mark]\n"),
    "aliases": file("config.yaml", "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9))),
    "nothing": file("config.yaml", ""),
    "other weights": config("{MODEL.LOAD: trust, MODEL.WEIGHTS: YARD/run/model_final.pth}"),
    "output elsewhere": config("{OUTPUT_DIR: YARD/elsewhere, MODEL.LOAD: trust}"),
    "pipe": replaced_by_pipe, "link": replaced_by_link, "giant": of_two_terabytes,
}  # fmt: skip
COMMANDS = {
    "predict": ["predict", "run", "photo.png", "--output", "out"],
    "evaluate": ["evaluate", "run", "DATASETS.VAL_JSON", "set/boxes.json", "DATASETS.VAL_IMAGES", "set/images",
                 "OUTPUT_DIR", "out"],
    "compare": ["compare", "run", "run", "--ground-truth", "set/boxes.json", "--output", "out"],
    "export": ["export", "run", "--output", "out/a.onnx"],
    "convert-weights": ["convert-weights", "run/model_final.pth", "out.pth"],
}  # fmt: skip


@pytest.fixture
def hostile_run(run_folder, yard) -> Path:
    write_coco(yard / "set")
    Image.new("RGB", (64, 48)).save(yard / "photo.png")
    content = torch.load(run_folder / "model_final.pth", weights_only=True)
    torch.save({**content, "extra": Touch(yard / "mark")}, run_folder / "model_final.pth")
    return run_folder


# Every case by the quickest command, and the ones that would run code by all.
PAIRS = [(name, command) for name in MODELS for command in COMMANDS if command == "predict" or name in (
    "trust", "former switch", "base beside", "base at an address")]  # fmt: skip


@pytest.mark.parametrize(("name", "command"), PAIRS)
def test_hostile_model_runs_nothing(hostile_run, yard, capfd, name, command):
    if sys.platform == "win32" and name in ("pipe", "link", "giant"):
        pytest.skip("no pipes, links or sparse files")
    MODELS[name](hostile_run)
    before = set(os.listdir(yard))
    status = main(list(COMMANDS[command]))
    said = "".join(capfd.readouterr())
    check_harmless(yard, said, status, before)
    assert status == 2 and "error: " in said


@pytest.mark.parametrize("name", ["output elsewhere", "base at an address", "link", "giant", "trust"])
def test_hostile_config_beside_good_weights_gives_no_permission(run_folder, yard, capfd, name):
    if sys.platform == "win32" and name in ("link", "giant"):
        pytest.skip("no links or sparse files")
    Image.new("RGB", (64, 48)).save(yard / "photo.png")
    MODELS[name](run_folder)
    before = set(os.listdir(yard))
    status = main(list(COMMANDS["predict"]))
    check_harmless(yard, "".join(capfd.readouterr()), status, before)
    assert status == (0 if name in ("output elsewhere", "trust") else 2)


def test_config_beside_weights_names_no_file_of_classes(run_folder, yard, clean_catalog, capfd):
    write_coco(yard / "set")
    config("{DATASETS.CLASSES: [YARD/secret.txt], DATASETS.VAL_PATH: set, DATASETS.TRAIN_PATH: set}")(run_folder)
    before = set(os.listdir(yard))
    status = main(["evaluate", "run", "OUTPUT_DIR", "out"])
    check_harmless(yard, "".join(capfd.readouterr()), status, before)


# What a manifest may be, and what its parts may be.
MANIFESTS = [
    [], "x", 7, torch.ones(2), {"config": []}, {"config": {"MODEL.META_ARCHITECTURE": 7}}, {"classes": 7},
    {"config": {"MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.LOAD": "trust", "OUTPUT_DIR": "elsewhere"}},
    {"config": {"MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.RESNETS.DEPTH": "x" * 9, "_BASE_": "http://x"}},
    {"config": {"MODEL.META_ARCHITECTURE": "FocalRetinaNet", "MODEL.PIXEL_MEAN": torch.ones(3)}},
    {"config": {7: 7, "MODEL.META_ARCHITECTURE": "os.system"}}, {"classes": ["a", 7, None]}, {"classes": {"a": 1}},
    {"classes": ["a\nb"] * 4, "anchors": 7}, {"classes": [[]], "anchors": {"sizes": "x"}}, {"anchors": [float("nan")]},
    {"classes": ["\x1b[2J", "b", "c", "d"]}, {"anchors": {"sizes": [[1]], "aspect_ratios": [], "strides": [8]}},
    {"anchors": {"sizes": [["x"]], "aspect_ratios": [[1]], "strides": [8], "offset": 0.0}},
]  # fmt: skip


@pytest.mark.parametrize("manifest", MANIFESTS, ids=range(len(MANIFESTS)))
def test_hostile_manifest_ends_in_a_sentence_or_not_at_all(run_folder, yard, capfd, manifest):
    Image.new("RGB", (64, 48)).save(yard / "photo.png")
    content = torch.load(run_folder / "model_final.pth", weights_only=True)
    torch.save({**content, "manifest": manifest}, run_folder / "model_final.pth")
    before = set(os.listdir(yard))
    for command in ("predict", "evaluate") if manifest == MANIFESTS[0] else ("predict",):
        status = main(list(COMMANDS[command]))
        said = "".join(capfd.readouterr())
        check_harmless(yard, said, status, before)
        assert "\x1b" not in said


# -- A data set.


def data_yaml(**keys) -> Callable[[Path], object]:
    return lambda root: (root / "data.yaml").write_text(json.dumps({"names": ["dog", "cat"], **keys}))


SETS = {
    "list outside": data_yaml(train="../secret.txt", val="../secret.txt"),
    "absolute list": lambda root: data_yaml(train=str(root.parent / "secret.txt"))(root),
    "system file": data_yaml(train="/etc/shadow"),
    "device": data_yaml(train="/dev/zero"),
    "random device": data_yaml(train=["images", "/dev/random"]),
    "root of the disk": data_yaml(path="/", train="/"),
    "aliases": lambda root: (root / "data.yaml").write_text(
        "x: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8))
        + "names: *i\n"
    ),
    "tag": lambda root: (root / "data.yaml").write_text(
        f"names: !!python/object/apply:os.mkdir [{root.parent}/mark]\n"
    ),
    "label that is a secret": lambda root: (
        (root / "labels" / "a.txt").unlink(), (root / "labels" / "a.txt").symlink_to(root.parent / "secret.txt")),
    "names that are a secret": lambda root: (
        (root / "data.yaml").unlink(), (root / "classes.txt").symlink_to(root.parent / "secret.txt")),
    "label that is a pipe": lambda root: (
        (root / "labels" / "a.txt").unlink(), os.mkfifo(root / "labels" / "a.txt")),
}  # fmt: skip
SET_COMMANDS = {
    "convert": ["convert", "set", "--output", "out.json"],
    "doctor": ["doctor", "set", "--no-cache", "--no-fit", "--jobs", "1"],
    "train": ["train", "set", "OUTPUT_DIR", "out"],
    "config": ["train", "--config-file", "my.yaml"],
}


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links")
@pytest.mark.parametrize(("name", "command"), [
    (name, command) for name in SETS for command in SET_COMMANDS if command == "convert" or name in (
        "system file", "device", "tag")
])  # fmt: skip
def test_hostile_data_set_shows_and_reads_nothing_outside(yard, clean_catalog, capfd, name, command):
    SETS[name](write_yolo(yard / "set"))
    (yard / "my.yaml").write_text("_BASE_: configs/retina_R50_FPN.yaml\nDATASETS: {TRAIN_PATH: set, VAL_PATH: set}\n")
    before = set(os.listdir(yard))
    status = main(list(SET_COMMANDS[command]))
    said = "".join(capfd.readouterr())
    check_harmless(yard, said, status, before)
    assert status in (1, 2) and ("error" in said or command == "doctor")


# -- A study.


def test_hostile_study_is_reported_or_refused(yard, capfd):
    maker = StudyMaker(yard / "study")
    maker.folder.mkdir()
    maker.add_study("alpha")
    maker.add_row("alpha", "a", [20.0])
    maker.plan["studies"]["alpha"]["rows"][0]["runs"]["1"] = str(yard / "secret.txt")
    maker.plan["settings"]["base_config"] = "http://127.0.0.1:9/x.yaml"
    maker.plan["settings"]["output"] = str(yard / "elsewhere")
    maker.write()
    before = set(os.listdir(yard))
    words = ["study", "report", "--input", "study", "--output", "out"]
    status = main(words)
    said = "".join(capfd.readouterr())
    check_harmless(yard, said, status, before)
    assert status == 2 and "must map a seed to a folder of the study" in said
    del maker.plan["studies"]["alpha"]["rows"][0]["runs"]["1"]
    maker.write()
    assert main(words) == 0
    check_harmless(yard, "".join(capfd.readouterr()), 0, before)


ROW = "_BASE_: ../../base.yaml\nMODEL: {RETINANET: {FOCAL_LOSS_ALPHA: 0.5}}\n"
GOOD_BASE = "_BASE_: configs/retina_R50_FPN_600.yaml\n"
STUDIES = [
    ({"base.yaml": GOOD_BASE + "MODEL: {LOAD: trust}\n"}, "base.yaml sets MODEL.LOAD trust, which a study's files"),
    ({"s/a.yaml": ROW.replace("RETINANET", "LOAD: partial, RETINANET")}, "a.yaml sets MODEL.LOAD partial"),
    ({"s/a.yaml": ROW + "DATASETS: {ALLOW_OUTSIDE_PATHS: true}\n"}, "a.yaml sets DATASETS.ALLOW_OUTSIDE_PATHS"),
    ({"s/a.yaml": ROW.replace("../../base.yaml", "http://127.0.0.1:9/b.yaml")}, "has the address http://127"),
    ({"base.yaml": "_BASE_: https://127.0.0.1:9/b.yaml\n"}, "has the address https://127"),
    ({"s/a.yaml": "_BASE_: a.yaml\n"}, "inherits from itself"),
    ({"index.yaml": "s: {base: /etc/passwd}"}, "has the base '/etc/passwd', which must be a file in"),
    ({"index.yaml": "s: {base: ../../x.yaml}"}, "has the base '../../x.yaml'"),
    ({"index.yaml": "../s: {}"}, "a study's name must be letters"), ({"index.yaml": "s: 7"}, "must hold KEY: VALUE"),
    ({"index.yaml": "[s]"}, "must hold STUDY"), ({"index.yaml": "s: {title: [1]}"}, "'title' must be text"),
    ({"index.yaml": "s: {rows: [a]}"}, "'rows' must be an object"),
    ({"index.yaml": "s: {rows: {a: 7}}"}, "'a' must be"),
    ({"index.yaml": "s: {rows: {a: {x: {b: c}}}}"}, "'b' must be a number"),
    ({"index.yaml": "s: {reported: {a: 1}}"}, "'reported' must be list"),
    ({"index.yaml": "s: {base: 7}"}, "'base' must"), ({"index.yaml": "s: {axes: {a: 7}}"}, "'a' must be text"),
    ({"index.yaml": "s: {plot: [a]}"}, "'plot' must be text"),
    ({"index.yaml": "s: {grid: {a: [1]}}"}, "'a' must be a list of numbers, of an axis in 'axes'"),
    ({"index.yaml": "s: {axes: {a: A, b: B}, grid: {a: &l [" + "1, " * 999 + "1], b: *l}}"}, "at most 10000 rows"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "match"), STUDIES, ids=range(len(STUDIES)))
def test_hostile_folder_of_studies_gives_itself_nothing(yard, files, match):
    for name, text in {"base.yaml": GOOD_BASE, "s/a.yaml": ROW, "index.yaml": "s: {base: base.yaml}", **files}.items():
        path = yard / "there" / ("base.yaml" if name == "base.yaml" else f"studies/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(SetupError, match=match):
        load_studies(None, yard / "there" / "studies")


def test_good_folder_of_studies_is_read(yard):
    shutil.copytree(Path(__file__).parents[3] / "configs" / "ablations" / "alpha", yard / "studies" / "alpha")
    for path in (yard / "studies" / "alpha").glob("*.yaml"):
        path.write_text(path.read_text().replace("../../", "configs/"))
    assert load_studies(None, yard / "studies").keys() == {"alpha"}
