"""Every command of ``retina`` with bad values and bad files, found by looking into its parser.

``bad_inputs`` yields the cases, ``attempt`` runs one in this process, and ``find_fault`` says what is wrong with its
end: a traceback, success where there is nothing to do, or a message that is long or does not show the bad value.
"""

import argparse
import contextlib
import io
import json
import os
import pickle
import re
import signal
import traceback
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from bad_values import CONTENTS, FLOATS, INTS, KEYS, MORE_TEXTS, NO_KEYS, OUTPUTS, PATHS, TEXTS, UNKNOWN, WORDS, YAMLS
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from own_folders import write_coco
from PIL import Image

from retina_cli.main import build_parser, main
from retina_cli.values import Integer, number, path
from retina_plugin.data.sample import files
from retina_plugin.errors import one_line
from retina_plugin.training.trainer import RetinaTrainer

SECONDS = 30  # a case that takes longer hangs
MOST_LINES, MOST_CHARACTERS = 5, 1500  # of a message
SHOWN = 30  # characters of a value that a message has to show

# In messages about a good word that a bad one contradicts, or about the content of a bad file.
ELSEWHERE = (
    "not among",
    "give either WEIGHTS",
    "cannot be read as weights",
    "cannot be built",
    "has no study.json",
    "cannot be run as an exported detector",
)
# Commands that do not train need not look at all keys of one.
NO_TRAINING = ("analyze", "predict", "export", "measure-export", "evaluate", "study")
OF_TRAINING = (
    "SEED",
    "INPUT.MIN_SIZE_TRAIN",
    "DATASETS",
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
    "MODEL.RETINANET.CLS_LOSS_NAME",
    "MODEL.RETINANET.NUM_CLASSES",
    "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.DEVICE",
)


@dataclass(frozen=True)
class Base:
    """Good words of a command, to which one bad one is added; @ is a new place to write."""

    command: tuple[str, ...]
    positional: dict[str, tuple[str, ...]]  # name in the parser -> words
    options: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    # Suffix of the files that an argument names; of those missing here, ".json".
    suffixes: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("output",)  # arguments that name a place to write
    free: tuple[str, ...] = ("title", "protocol", "dist_url")  # arguments that take any text


MY = ("--config-file", "my.yaml")
TRUTH = ("--ground-truth", "set/boxes.json")
WEIGHTS = {"weights": ".pth"}
BASES = (
    Base(("quickstart",), {"opts": ()}, ("--output", "@"), outputs=("output", "data")),
    Base(("sample",), {"root": ("@",)}, ("--num-train", "1", "--num-val", "1"), outputs=("root",)),
    Base(
        ("convert",),
        {"input": ("set/boxes.json",)},
        ("--output", "@.json"),
        suffixes={"classes": ".txt"},
        free=("group",),
    ),
    Base(
        ("convert",),
        {"input": ("set/boxes.json",)},
        ("--output", "@.json", "--split", "0.4"),
        suffixes={"input": ".csv", "classes": ".yaml"},
    ),
    Base(
        ("doctor",),
        {"opts": ()},
        (*MY, "--no-images", "--no-fit", "--cache", "@", "--jobs", "1"),
        outputs=("json", "html"),
    ),
    Base(("configs",), {"names": ("quickstart",)}, ("--copy", "@"), outputs=("copy",)),
    Base(("train",), {"opts": ()}, MY, ("OUTPUT_DIR", "@")),
    Base(("train",), {"opts": ()}, (*MY, "--eval-only"), ("OUTPUT_DIR", "@", "MODEL.WEIGHTS", "run/model_final.pth")),
    Base(("study", "list"), {"names": ("one",)}, ("--studies", "studies")),
    Base(("study", "run"), {"names": ("one",)}, (*MY, "--studies", "studies", "--output", "@", "--dry-run")),
    Base(("study", "report"), {}, ("--input", "bad/folder", "--output", "@")),
    Base(("convert-weights",), {"source": ("bad/text.pth",), "output": ("@.pth",)}, suffixes={"source": ".pth"}),
    Base(("analyze", "losses"), {}, ("--output", "@")),
    Base(
        ("analyze", "loss-cdf"),
        {"opts": ()},
        (*MY, "--weights", "run/model_final.pth", "--output", "@"),
        suffixes=WEIGHTS,
    ),
    Base(("analyze", "imbalance"), {"opts": ()}, (*MY, "--output", "@")),
    Base(("analyze", "anchors"), {"opts": ()}, (*MY, "--output", "@", "--no-fit", "--images", "0")),
    Base(("analyze", "assignment"), {"opts": ()}, (*MY, "--output", "@", "--index", "0")),
    Base(("evaluate",), {"weights": ("run/model_final.pth",), "opts": ()}, ("--output", "@"), suffixes=WEIGHTS),
    Base(("evaluate",), {}, ("--predictions", "found.json", *TRUTH, "--images", "set/images", "--output", "@")),
    Base(
        ("compare",), {"first": ("found.json",), "second": ("found.json",)}, (*TRUTH, "--output", "@", "--samples", "9")
    ),
    Base(
        ("compare",),
        {"first": ("run/model_final.pth",), "second": ("found.json",)},
        (*TRUTH, "--images", "set/images", "--output", "@"),
        suffixes={"first": ".pth", "second": ".pkl"},
    ),
    Base(
        ("predict",),
        {"weights": ("run/model_final.pth",), "inputs": ("set/images/a.png",)},
        ("--output", "@", "--no-draw"),
        suffixes={**WEIGHTS, "inputs": ".png"},
    ),
    Base(
        ("predict",),
        {"weights": ("run/model_final.pth",), "inputs": ("set/images/a.png",)},
        ("--output", "@"),
        suffixes={"weights": ".safetensors", "inputs": ".mp4"},
    ),
    Base(
        ("export",),
        {"weights": ("run/model_final.pth",), "opts": ()},
        ("--output", "@.safetensors"),
        suffixes={**WEIGHTS, "output": ".safetensors"},
    ),
    Base(
        ("measure-export",),
        {"weights": ("run/model_final.pth",), "files": ("bad/text.onnx",)},
        ("--output", "@.json"),
        suffixes={**WEIGHTS, "files": ".onnx"},
    ),
)


@dataclass(frozen=True)
class BadInput:
    """One call of the program; ``@`` in its words stands for a new path."""

    words: tuple[str, ...]
    what: str  # the argument, "--score" or "weights"
    value: str
    must_fail: bool  # there is no right way to go on
    shown: tuple[str, ...] = ()  # a message may name one of these in place of the value


def write_bench(folder: Path, cfg: CfgNode) -> None:
    """Fill ``folder``, the working directory of all cases: a good set, run and config, and the folder ``bad``.

    Args:
        cfg: a small detector; it is changed.
    """
    write_coco(folder / "set")
    cfg.MODEL.RETINANET.NUM_CLASSES = 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.INPUT.MAX_SIZE_TRAIN = cfg.INPUT.MAX_SIZE_TEST = 128
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS = 1, 2, 0, ()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATASETS.TRAIN_JSON = cfg.DATASETS.VAL_JSON = "set/boxes.json"
    cfg.DATASETS.TRAIN_IMAGES = cfg.DATASETS.VAL_IMAGES = "set/images"
    (folder / "run").mkdir()
    for file in (folder / "my.yaml", folder / "run/config.yaml"):
        file.write_text(cfg.dump())
    torch.save({"model": RetinaTrainer.build_model(cfg).state_dict()}, folder / "run/model_final.pth")
    boxes = json.loads((folder / "set/boxes.json").read_text())["annotations"]
    (folder / "found.json").write_text(json.dumps([{**box, "score": 0.9} for box in boxes]))
    (folder / "studies/one").mkdir(parents=True)
    (folder / "studies/one/row.yaml").write_text("SEED: 3\n")
    bad = folder / "bad"
    (bad / "folder").mkdir(parents=True)
    for suffix in (".json", ".pth", ".pkl", ".safetensors", ".png", ".mp4", ".onnx", ".csv", ".txt", ".yaml"):
        for name, content in CONTENTS.items():
            (bad / f"{name}{suffix}").write_bytes(content)
        with zipfile.ZipFile(bad / f"zip{suffix}", "w") as archive:
            archive.writestr("a.txt", "x")
        (bad / f"pickle{suffix}").write_bytes(pickle.dumps(os.getpid))
        torch.save([1, 2], bad / f"torch_list{suffix}")
        torch.save({"model": 3}, bad / f"torch_number{suffix}")
        torch.save({"model": {"a": torch.zeros(2)}}, bad / f"other_model{suffix}")
        torch.save({"model": {3: torch.zeros(2), "b": None}}, bad / f"odd_keys{suffix}")
        Image.new("RGB", (9000, 3)).save(bad / f"strip{suffix}", "PNG")
    for name, text in YAMLS.items():
        inherits = "" if name in NO_KEYS or name.startswith("base") else "_BASE_: ../my.yaml\n"
        (bad / f"{name}.yaml").write_text(inherits + text)
    (bad / "loop").symlink_to("loop")
    (bad / "dangling").symlink_to("nothing")
    (bad / "\udcff").write_bytes(b"x")
    (bad / "a\nb").write_bytes(b"x")
    os.mkfifo(bad / "pipe")


def spare_the_quickstart(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let ``retina quickstart`` make two images and end before its training."""
    make = files.make_sample_dataset
    few = {"num_train": 1, "num_val": 1}
    monkeypatch.setattr(files, "make_sample_dataset", lambda root, **settings: make(root, **{**few, **settings}))
    monkeypatch.setattr("retina_cli.quickstart.main", lambda words: 7)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder / "datasets"))


BAD_FILES = (*CONTENTS, "zip", "pickle", "torch_list", "torch_number", "other_model", "odd_keys", "strip")


def bad_inputs() -> Iterator[BadInput]:
    """Yield each base with each bad value of each argument that the command's parser has."""
    for base in BASES:
        parser = build_parser(base.command[0])
        for word in base.command[1:]:
            subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
            parser = subparsers.choices[word]
        options = [option for action in parser._actions for option in action.option_strings if option[:2] == "--"]
        for word in (*UNKNOWN, *(f"{option}x" for option in options)):
            yield BadInput(join(base, extra=(word,)), word, word, True, ("arguments", "key", "does not exist"))
        for action in parser._actions:
            if action.option_strings and action.nargs is None:
                option = action.option_strings[-1]
                yield BadInput((*join(base, keys=()), option), option, option, True)
            name = (action.option_strings or [action.dest])[-1]
            if action.nargs == 0:
                continue
            if action.dest == "opts":
                for pair in KEYS:
                    # Anchors need the config of the anchors alone.
                    unread = ("MODEL", "INPUT", "TEST") if base.command[-1] == "anchors" else ()
                    ignored = base.command[0] in NO_TRAINING and len(pair) == 2
                    ignored = ignored and pair[0].startswith((*OF_TRAINING, *unread)) and pair != ("MODEL", "3")
                    ignored = ignored or (pair == ("", "") and "weights" not in base.positional)  # no WEIGHTS, no key
                    bad = (name, *pair) if name.startswith("--") else pair
                    yield BadInput(join(base, keys=(*base.keys, *bad)), pair[0], pair[-1], not ignored)
                continue
            for value, must_fail in bad_values(base, action):
                must_fail = must_fail and not is_ignored(base, action.dest, value)
                count = action.nargs if isinstance(action.nargs, int) else 1
                if action.option_strings:
                    given = (f"{name}={value}",) if count == 1 and action.nargs is None else (name, *([value] * count))
                    yield BadInput(join(base, extra=given), name, value, must_fail, _in_yaml(value))
                elif not value.startswith("-"):  # an option then
                    yield BadInput(join(base, replaced={action.dest: (value,)}), name, value, must_fail)


def is_ignored(base: Base, name: str, value: str) -> bool:
    """True if a command may pass over a value: a cache, keys of a training where nothing is trained, a dry run."""
    overridden = Path(value).stem in ("train_number", "output_null")  # by the good words
    unread = ("format", "sizes", "classes") if base.command[-1] == "anchors" else ()
    of_training = Path(value).stem in ("loss", "device", *unread) and base.command[0] in NO_TRAINING
    dry = base.command == ("study", "run") and name == "output"
    if base.command == ("export",) and name == "classes" and value == "a,b":  # two names for two classes
        return True
    # No detection at all is a result too, and pictures may be left out.
    empty = value in ("bad/list.json", "bad/folder") and base.command[0] in ("compare", "evaluate")
    return (
        name == "cache" or (name == "config_file" and (overridden or of_training)) or dry or empty or not value.strip()
    )


def _in_yaml(file: str) -> tuple[str, ...]:
    """Keys and values of a bad config."""
    return tuple(re.findall(r"[A-Z][A-Z_]{2,}|none|http|[0-9-]+", YAMLS.get(Path(file).stem, "")))


def join(base: Base, *, replaced=None, extra=(), keys=None) -> tuple[str, ...]:
    """Words of a call; ``--opts`` takes all that follows, so the keys are last."""
    positional = {**base.positional, **(replaced or {})}
    words = [word for name in base.positional for word in positional[name]]
    for name in positional.keys() - base.positional.keys():
        words += positional[name]
    return (*base.command, *words, *base.options, *extra, *(base.keys if keys is None else keys))


def bad_values(base: Base, action: argparse.Action) -> Iterator[tuple[str, bool]]:
    """Yield bad values of an argument; True where the command has to fail."""
    suffix = base.suffixes.get(action.dest, ".yaml" if action.dest == "config_file" else ".json")
    if action.choices:
        yield from ((value, True) for value in WORDS)
    elif isinstance(action.type, Integer):
        yield from ((value, not value.strip("9-")[:1] == "" or value in ("", "-1")) for value in INTS)
    elif action.type in (number, float):
        yield from ((value, value not in ("-1e-300",)) for value in FLOATS)
    elif action.dest in base.free:
        yield from ((value, "\0" in value) for value in TEXTS)
    elif action.dest in base.outputs:
        yield from ((value.format(suffix=suffix), True) for value in OUTPUTS)
    elif action.dest == "config_file":
        yield from (
            (f"bad/{name}.yaml", True) for name in (*YAMLS, "empty", "garbage", "nulls", "latin1", "utf16", "zip")
        )
        yield from ((value.format(suffix=suffix), True) for value in PATHS if value)
    elif action.type is path or action.metavar in ("FILE", "DIR", "WEIGHTS", "INPUT", "A", "B"):
        yield from ((f"bad/{name}{suffix}", True) for name in BAD_FILES)
        yield from ((value.format(suffix=suffix), True) for value in PATHS)
    else:
        yield from ((value, True) for value in (*TEXTS, *MORE_TEXTS))


@dataclass(frozen=True)
class End:
    """The end of a call: its status, or the traceback of what ended it."""

    status: int | str | None
    said: str  # on stderr
    traceback: str = ""


class Hang(BaseException):
    """A case takes too long; no handler of an ``Exception`` swallows it."""


def attempt(case: BadInput, out: Path, seconds: int = SECONDS) -> End:
    """Run a case in this process, in the bench as working directory."""

    def stop(*_):
        raise Hang(f"over {seconds} s")

    before = set(DatasetCatalog)
    said = io.StringIO()
    former = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status = main([word.replace("@", str(out), 1) if word[:1] == "@" else word for word in case.words])
        return End(status, said.getvalue())
    except SystemExit as stopped:  # argparse
        return End(stopped.code, said.getvalue())
    except BaseException:
        return End(None, said.getvalue(), traceback.format_exc())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        for name in set(DatasetCatalog) - before:
            DatasetCatalog.remove(name)
            if name in MetadataCatalog:
                MetadataCatalog.remove(name)


def find_fault(case: BadInput, end: End) -> str:
    """Say what is wrong with the end of a case; "" for nothing."""
    if end.traceback:
        return f"traceback: {end.traceback.strip().splitlines()[-1][:200]}"
    if "Traceback (most recent call last)" in end.said:
        return "a traceback is printed"
    if end.status == 0:
        return "succeeds" if case.must_fail else ""
    message = end.said[end.said.rfind("error: ") :] if "error: " in end.said else end.said
    if end.status == 2 and len(message.strip().splitlines()) > MOST_LINES:
        return f"a message of {len(message.splitlines())} lines"
    if len(message.replace(case.value or " ", "")) > MOST_CHARACTERS:
        return f"a message of {len(message)} characters: {message[:100]}"
    place = Path(case.value.replace("\0", ""))
    names = [case.what, case.what.removeprefix("--"), place.name or case.value, *map(str, list(place.parents)[:-1])]
    shown = [*(one_line(name)[:SHOWN] for name in names), repr(case.value)[1:SHOWN], *case.shown, *ELSEWHERE]
    flat = message.replace("\n  ", "\\n")  # a line feed in a name
    if case.value.strip() and end.status == 2 and not any(text and text in flat for text in shown):
        return f"neither the argument nor the value is named: {message.strip()[:300]}"
    return ""
