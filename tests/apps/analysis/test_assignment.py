"""The command ``assignment``: labels equal to those of training, counts by hand, files and refusals."""

import csv
import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from retina_cli.main import build_parser
from retina_plugin.apps.analysis import assignment
from retina_plugin.apps.analysis.anchor_layout import build_detector
from retina_plugin.config.load import load_config
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_sets", "analysis_sets")
SIZE = torch.tensor([96, 128])


def run_command(*argv) -> None:
    assignment.run(build_parser("analyze").parse_args(["assignment", *map(str, argv)]))


@pytest.fixture
def detector(anchors_config):
    return build_detector(load_config(anchors_config, []), anchors_config)


def test_labels_are_those_of_training(detector):
    model, layout = detector
    boxes = torch.tensor([[10.0, 10, 50, 60], [30, 20, 110, 80], [12, 12, 46, 58], [100, 80, 104, 84]])
    found = assignment.assign_anchors(model, layout, boxes.double(), SIZE)
    # Each box as a class of its own makes label_anchors say which box an anchor has.
    truth = Instances((96, 128))
    truth.gt_boxes, truth.gt_classes = Boxes(boxes), torch.arange(4)
    model.num_classes = 4
    grid = [[96 // s, 128 // s] for s in (8, 16, 32)] + [[2, 2], [1, 1]]
    (labels,), _ = model.label_anchors(model.anchor_generator([torch.zeros(1, 1, *size) for size in grid]), [truth])
    assert (labels < 4).any() and (labels == -1).any()
    assert torch.equal(found.labels == 1, (labels >= 0) & (labels < 4))
    assert torch.equal(found.labels == -1, labels == -1)
    assert torch.equal(found.matched[found.labels == 1], labels[(labels >= 0) & (labels < 4)])
    counts = found.counts(1, 5)
    assert counts.sum(dim=1).tolist() == [(labels == m).sum().item() for m in range(4)]
    assert counts[3].sum() == 0  # 4 px: IoU below LOW_QUALITY_MIN_IOU


def test_a_box_on_an_anchor_by_hand(detector):
    # The anchor of 32 x 32 at P3's point (64, 48): offset 0, so that points are multiples of 8.
    model, layout = detector
    found = assignment.assign_anchors(model, layout, torch.tensor([[48.0, 32, 80, 64]]), SIZE)
    assert found.best_iou.tolist() == [1]
    # Squares of 32 px shifted by 8 px share 24 * 32 of 2 * 1024 - 768: 0.6. By 8 px both ways 576 of 1472: 0.39, no.
    squares = (found.anchors[:, 2:] - found.anchors[:, :2] - 32).abs().amax(dim=1) < 0.01
    assert int(((found.labels == 1) & squares & (found.levels == 0)).sum()) == 5


def test_image_without_boxes_is_all_background(detector):
    found = assignment.assign_anchors(*detector, torch.zeros(0, 4), SIZE)
    assert len(found.labels) == (12 * 16 + 6 * 8 + 3 * 4 + 2 * 2 + 1) * 9
    assert (found.total(1), found.total(-1), found.total(0)) == (0, 0, len(found.labels))
    assert found.counts(1, 5).shape == (0, 5)


def test_files_and_numbers_agree(make_set, anchors_config, tmp_path, capsys):
    opts = make_set([[[20, 20, 50, 50], [90, 30, 3, 3]], [], [[100, 10, 60, 40]]])
    out = tmp_path / "out"
    run_command("--config-file", anchors_config, "--output", out, "--image-id", 10, "--file-name", "1.png",
                "--index", 2, "--index", 0, *opts)  # fmt: skip
    images = json.loads((out / "assignment.json").read_text())["images"]
    assert [image["image_id"] for image in images] == [10, 11, 12]  # each once
    first = images[0]
    assert first["resized"] == {"width": 256, "height": 128}
    assert first["positives"] == sum(box["positives"] for box in first["boxes"]) > 0
    assert first["positives"] + first["ignored"] + first["negatives"] == first["anchors"] == 682 * 9
    assert first["boxes_without_positive"] == 1 and images[1]["positives"] == 0
    with open(out / "assignment.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["annotation_id"] for row in rows] == ["100", "101", "102"]
    assert sum(int(rows[0][level]) for level in ("p3", "p4", "p5", "p6", "p7")) == int(rows[0]["positives"])
    for stem in ("0", "1", "2"):
        assert all((out / f"assignment_{stem}{suffix}").stat().st_size > 1000 for suffix in (".png", ".svg"))
    assert "1 without a positive anchor" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, match",
    [
        (["--image-id", "99"], "--image-id 99 is not an image of custom_train: its 1 ids begin with 10"),
        (["--file-name", "x.png"], "--file-name x.png is not an image of custom_train: its names begin with 0.png"),
        (["--index", "1"], "--index must be from 0 to 0 for custom_train, got 1"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "must be a RetinaNet"),
    ],
)
def test_mistakes_are_refused_in_a_sentence(make_set, anchors_config, tmp_path, arguments, match):
    opts = make_set([[[5, 5, 20, 20]]])
    flags, more = (arguments, []) if arguments[0].startswith("--") else ([], arguments)
    with pytest.raises(SetupError, match=match):
        run_command("--config-file", anchors_config, "--output", tmp_path, *flags, *opts, *more)


def test_neighbours_have_different_colors():
    boxes = np.array([[10 * i, 0, 10 * i + 9, 9] for i in range(9)], dtype=float)
    colors = assignment.box_colors(boxes)
    assert len(set(colors[:6])) == 6 and all(a != b for a, b in zip(colors, colors[1:], strict=False))
    assert assignment.box_colors(np.zeros((0, 4))) == []
