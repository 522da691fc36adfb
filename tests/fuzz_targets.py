"""What fuzzing tries: a strategy of cases and a law of each target. ``test_fuzz.py`` and ``faults/fuzz.py`` run them.

The law of a reader: a ``SetupError`` or a result that holds what its docstring says, whatever the file.
The law of a computation is agreement with another way to compute it.
"""

import contextlib
import copy
import json
import math
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from hypothesis import strategies as st
from own_folders import WRITERS

from retina_plugin.checks.box_checks import check_boxes
from retina_plugin.checks.dataset_content import load_content
from retina_plugin.data.formats import read_boxes
from retina_plugin.engine.config_file import load_config
from retina_plugin.engine.safe_weights import read_weights
from retina_plugin.errors import SetupError
from retina_plugin.modeling.anchor_generator import OctaveAnchorGenerator
from retina_plugin.modeling.losses import CrossEntropyLoss, FocalLoss, FocalLossStar
from retina_plugin.modeling.matcher import SafeMatcher
from retina_plugin.modeling.meta_arch import FocalRetinaNet
from retina_plugin.ops.anchor_matching import AnchorTiles


class Target(NamedTuple):
    """``cases``: of one argument each; ``make_law(folder)``: the function that a case goes into, which may raise."""

    cases: st.SearchStrategy
    make_law: Callable[[Path], Callable]


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
            assert 0 <= box.x1 < box.x2 <= image.width and 0 <= box.y1 < box.y2 <= image.height
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
                check_boxes(content)

        return law

    return Target(EDITS, make_law)


GOOD_CONFIG = """\
VERSION: 2
MODEL:
  META_ARCHITECTURE: FocalRetinaNet
  RETINANET: {NUM_CLASSES: 3, IOU_THRESHOLDS: [0.4, 0.5], FOCAL_LOSS_GAMMA: 2}
  ANCHOR_GENERATOR:
    SIZES: !!python/object/apply:eval ["[[x, x * 2**(1.0/3)] for x in [32, 64]]"]
DATASETS: {TRAIN: ("a",), OWN: [{name: a, path: b}]}
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


# 1e37: FL*'s steepness of up to 8 times it is still a number of fp32.
LOGITS = st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, 1e-30, 88.0, -88.0, 104.0, -104.0, 1e37, -1e37])
ROWS = st.lists(st.tuples(LOGITS, LOGITS, st.integers(-1, 2)), max_size=12)


def compute_losses() -> Target:
    """Losses and gradients: finite, and those of the elementwise definition in float64."""
    alphas = st.none() | st.floats(0, 1)
    losses = st.one_of(
        st.builds(FocalLoss, gamma=st.floats(0, 8), alpha=alphas),
        st.builds(FocalLossStar, gamma=st.floats(0.125, 8), beta=st.floats(-4, 4), alpha=alphas),
        st.builds(CrossEntropyLoss, alpha=alphas),
    )

    def law(case) -> None:
        loss, rows = case
        logits = torch.tensor([row[:2] for row in rows]).reshape(-1, 2).requires_grad_()
        labels = torch.tensor([row[2] for row in rows], dtype=torch.long)
        found = loss(logits, labels)
        found.backward()
        exact = logits.detach().double().requires_grad_()
        is_positive = labels[:, None] == torch.arange(2)
        x_t = torch.where(is_positive, exact, -exact)
        alpha = loss.alpha
        weight = torch.ones(x_t.shape) if alpha is None else torch.where(is_positive, alpha, 1 - alpha)
        expected = (weight * loss.value(x_t))[labels >= 0].sum()
        if not math.isfinite(expected.item()) or expected > 1e38:  # a sum of logits of 1e37
            return
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-30)
        assert torch.isfinite(logits.grad).all() and found >= 0
        assert (logits.grad[labels < 0] == 0).all()

    return Target(st.tuples(losses, ROWS), lambda folder: law)


def make_anchors() -> Target:
    """Number, centres and areas of the anchors of a feature map."""
    ratios = st.lists(st.floats(0.05, 20), min_size=1, max_size=4)
    cases = st.tuples(
        st.floats(0.1, 16), st.integers(1, 5), ratios, st.sampled_from([4, 8, 16, 32]), st.integers(1, 6),
        # Nearer to 1 than fp32 has numbers, the end of Detectron2's grid is a matter of rounding.
        st.integers(1, 6), st.floats(0, 1, exclude_max=True, width=32),
    )  # fmt: skip

    def law(case) -> None:
        base_size, scales, aspect_ratios, stride, height, width, offset = case
        generator = OctaveAnchorGenerator(
            base_size=base_size, scales_per_octave=scales, aspect_ratios=[aspect_ratios], strides=[stride],
            offset=offset,
        )  # fmt: skip
        boxes = generator([torch.zeros(1, 1, height, width)])[0].tensor.double()
        boxes = boxes.reshape(height, width, scales, len(aspect_ratios), 4)
        sides = boxes[..., 2:] - boxes[..., :2]
        expected = [stride * base_size * 2 ** (j / scales) for j in range(scales)]
        areas = torch.tensor(expected).double()[:, None].square().expand(scales, len(aspect_ratios))
        torch.testing.assert_close(sides.prod(-1)[0, 0], areas, rtol=1e-4, atol=0.0)
        ratio = torch.tensor(aspect_ratios).double().expand(scales, -1)
        torch.testing.assert_close(sides[0, 0, ..., 1] / sides[0, 0, ..., 0], ratio, rtol=1e-3, atol=0.0)
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        x = (torch.arange(width).double() + offset) * stride
        torch.testing.assert_close(centres[0, :, 0, 0, 0], x, rtol=1e-5, atol=1e-3)

    return Target(cases, lambda folder: law)


CORNERS = st.floats(-50, 300, width=32) | st.integers(-8, 40).map(lambda i: 8.0 * i)
BOXES = st.lists(st.tuples(CORNERS, CORNERS, CORNERS, CORNERS), max_size=6)


def label_anchors() -> Target:
    """Labels: Detectron2's, but that no overlap makes no positive."""
    generator = OctaveAnchorGenerator(
        base_size=4.0, scales_per_octave=2, aspect_ratios=[[0.5, 1.0, 2.0]], strides=[16], offset=0.0
    )
    anchors = generator([torch.zeros(1, 1, 7, 9)])[0].tensor
    tiles = AnchorTiles(anchors)

    def law(case) -> None:
        rows, allow, in_order = case
        boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
        if in_order:
            boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)
        ours = SafeMatcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=allow, low_quality_min_iou=0.0)
        overlaps, labels = ours.match_boxes(tiles, boxes)
        iou = pairwise_iou(Boxes(boxes), Boxes(anchors))
        assert (labels[overlaps.iou == 0] == 0).all()
        if not len(boxes) or not in_order:
            assert torch.isin(labels, torch.tensor([0, -1, 1])).all()
            return
        matches, expected = Matcher([0.4, 0.5], [0, -1, 1], allow)(iou)
        reached = iou.max(0).values > 0
        if (iou.max(1).values > 0).all():  # else Detectron2 takes every anchor for the best of a box that has none
            assert torch.equal(labels, expected)
        assert torch.equal(overlaps.box[reached], matches[reached])

    return Target(st.tuples(BOXES, st.booleans(), st.booleans()), lambda folder: law)


def decode_boxes() -> Target:
    """Candidates of a level: those of every pair of anchor and class, sorted, without the padding."""
    number = st.floats(-30, 30, width=32)
    rows = st.lists(st.tuples(number, number, *[st.floats(-9, 9, width=32)] * 4), min_size=1, max_size=12)
    cases = st.tuples(rows, st.floats(0, 1), st.integers(1, 20), st.integers(1, 64), st.integers(1, 64))

    def law(case) -> None:
        values, thresh, topk, height, width = case
        count = len(values)
        logits, deltas = torch.tensor(values)[:, :2], torch.tensor(values)[:, 2:]
        corners = torch.arange(count, dtype=torch.float32)[:, None] * 5 + torch.tensor([0.0, 3.0, 9.0, 17.0])
        anchors, transform = Boxes(corners), Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        found = FocalRetinaNet._decode_per_level_predictions(
            SimpleNamespace(box2box_transform=transform), anchors, logits, deltas, thresh, topk, (height, width)
        )
        centres = anchors.get_centers()
        inside = (centres[:, 0] < width) & (centres[:, 1] < height)
        scores = torch.where(inside[:, None], logits.sigmoid(), -1.0)
        if ((scores - thresh).abs() <= 1e-6 * thresh).any():
            return  # a sigmoid's last digit depends on its place in the tensor
        expected = scores[scores > thresh].sort(descending=True).values[:topk]
        torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=1e-38)
        boxes = transform.apply_deltas(deltas, corners)
        for box, score, k in zip(found.pred_boxes.tensor, found.scores, found.pred_classes, strict=True):
            hits = (boxes == box).all(1) & torch.isclose(scores[:, k], score, rtol=1e-6, atol=1e-38)
            assert hits.any() and torch.isfinite(box).all()

    return Target(cases, lambda folder: law)


TARGETS: dict[str, Target] = {
    **{f"format_{name}": read_format(name) for name in FILES},
    "catalog": read_catalog(),
    "config": read_config(),
    "weights": read_pickle(),
    "losses": compute_losses(),
    "anchors": make_anchors(),
    "labelling": label_anchors(),
    "decoding": decode_boxes(),
}


def run(name: str, cases: int, *, seed: int | None = None, database: object = None) -> int:
    """Try about ``cases`` of a target, return how many; one that breaks the law raises, made as small as it can be.

    Args:
        seed: of the cases; None takes the same ones every time.
    """
    import hypothesis

    target, tried = TARGETS[name], 0

    def count(case) -> None:
        nonlocal tried
        tried += 1
        law(case)

    settings = hypothesis.settings(
        max_examples=cases, deadline=None, database=database, derandomize=seed is None, print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        law = target.make_law(Path(folder))
        test = settings(hypothesis.given(target.cases)(count))
        if seed is not None:
            test = hypothesis.seed(seed)(test)
        test()
    return tried
