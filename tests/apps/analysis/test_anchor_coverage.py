"""The command ``anchors``: its numbers by hand and by Detectron2's anchors, its files, its refusals."""

import csv
import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou

from retina_cli.main import build_parser
from retina_plugin.apps.analysis import anchor_coverage
from retina_plugin.apps.analysis.anchor_fit import split_images
from retina_plugin.apps.analysis.anchor_layout import build_detector
from retina_plugin.config.load import load_config
from retina_plugin.errors import SetupError
from retina_plugin.prepare import prepare

pytest_plugins = ("tiny_sets", "analysis_sets")


def run_command(*argv) -> None:
    anchor_coverage.run(build_parser("analyze").parse_args(["anchors", *map(str, argv)]))


def square_boxes(side: float, images: int, per_image: int = 6, width: int = 200, height: int = 100) -> list[list]:
    """Squares of about ``side`` pixels at random places."""
    rng = np.random.default_rng(0)
    boxes = []
    for _ in range(images):
        sides = side * rng.uniform(0.95, 1.05, per_image)
        x, y = rng.uniform(0, width - sides), rng.uniform(0, height - sides)
        boxes.append(np.stack([x, y, sides, sides], axis=1).round(2).tolist())
    return boxes


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out what takes most of the time and is looked at in one test."""
    monkeypatch.setattr(anchor_coverage, "save_figure", lambda *arguments, **options: None)


def read_rows(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_best_iou_of_each_box_is_that_of_detectron2_s_anchors(no_pictures, make_set, anchors_config, tmp_path):
    # 100 x 200 is resized to 128 x 256: boxes by 1.28. A tall box, one at the border, one that fills the image, and an
    # image without boxes.
    boxes = [[[10, 10, 9, 80], [150.5, 60, 49.5, 40]], [], [[0, 0, 200, 100]]]
    opts = make_set(boxes)
    run_command("--config-file", anchors_config, "--output", tmp_path / "out", "--images", 0, "--no-fit", *opts)
    model, _ = build_detector(load_config(anchors_config, []), anchors_config)
    grid = [[128 // s, 256 // s] for s in (8, 16, 32, 64)] + [[1, 2]]
    anchors = Boxes.cat(model.anchor_generator([torch.zeros(1, 1, *size) for size in grid]))
    xywh = torch.tensor([box for image in boxes for box in image]) * 1.28
    xyxy = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
    expected = pairwise_iou(Boxes(xyxy), anchors).max(dim=1).values.tolist()
    rows = read_rows(tmp_path / "out" / "boxes.csv")
    assert [float(row["best_iou small"]) for row in rows] == pytest.approx(expected, abs=2e-4)
    assert [row["annotation_id"] for row in rows] == ["100", "101", "102"]
    assert [row["image_id"] for row in rows] == ["10", "10", "12"]


def test_costs_and_unreachable_boxes_by_hand(no_pictures, make_set, anchors_config, tmp_path, capsys):
    opts = make_set([[[50, 20, 50, 50], [30, 30, 3, 3]], [[2, 2, 50, 50]]])
    run_command("--config-file", anchors_config, "--output", tmp_path / "out", "--images", 0, "--no-fit", *opts)
    numbers = json.loads((tmp_path / "out" / "coverage.json").read_text())["configs"]["small"]
    # 128 x 256: 16 * 32 + 8 * 16 + 4 * 8 + 2 * 4 + 1 * 2 points of 9 anchors, 1 class, 9 * 256 multiply-adds each.
    assert numbers["anchors_per_image"] == 682 * 9
    assert numbers["class_layer_multiply_adds_per_image"] == 682 * 9 * 9 * 256
    # The box of 3 x 3 is 3.84 wide and within an anchor of 32 x 32, area by area (3.84 / 32)^2 = 0.0144.
    (row,) = read_rows(tmp_path / "out" / "unreachable.csv")
    assert (row["annotation_id"], row["config"], float(row["best_iou"])) == ("101", "small", 0.0144)
    assert numbers["groups"]["small"] == {
        "boxes": 1, "mean_best_iou": pytest.approx(0.0144), "coverage_0.4": 0, "coverage_0.5": 0, "coverage_0.7": 0,
    }  # fmt: skip
    assert numbers["groups"]["large"]["boxes"] == 0 and numbers["groups"]["large"]["mean_best_iou"] is None
    # Three boxes have three best shapes at most.
    assert 42 <= len(numbers["unused_shapes"]) <= 44
    said = capsys.readouterr().out
    assert "best IoU 0.01: 0.png (image id 10), annotation id 101, 3 x 3 px at (30, 30)" in said


def test_fitted_anchors_load_and_reach_the_gain_that_is_stated(make_set, anchors_config, tmp_path):
    opts = make_set(square_boxes(14, images=12))
    out = tmp_path / "out"
    run_command("--config-file", anchors_config, "--output", out, "--images", 1, "--max-anchors", 3, *opts)
    numbers = json.loads((out / "coverage.json").read_text())
    held_out = numbers["proposal"]["held_out"]["octaves"]
    # Squares of 18 px under anchors of 32 px and more: IoU at most (18 / 32)^2 = 0.32 before.
    assert held_out["default"] < 0.35 < 0.5 < held_out["fitted"]
    assert numbers["proposal"]["decision"].startswith("fitted anchors")
    assert numbers["configs"]["fitted"]["anchors_per_point"] <= 3
    fitted = tmp_path / "fitted_config.yaml"
    fitted.write_text(f'_BASE_: "{anchors_config}"\n' + (out / "fitted.yaml").read_text())
    run_command("--config-file", fitted, "--output", tmp_path / "again", "--images", 0, "--no-fit", *opts)
    again = json.loads((tmp_path / "again" / "coverage.json").read_text())["configs"]["fitted_config"]
    assert again["groups"] == numbers["configs"]["fitted"]["groups"]
    for name in ("coverage.png", "coverage.svg", "coverage.csv", "anchors_on_images.png"):
        assert (out / name).stat().st_size > 500


@pytest.mark.parametrize("lost", [1, 3])
def test_a_fit_that_reaches_fewer_boxes_says_so_or_is_not_proposed(
    no_pictures, make_set, anchors_config, lost, tmp_path
):
    boxes = square_boxes(20, images=12, per_image=40)  # 26 px after the resize
    judged_on = np.flatnonzero(~split_images(np.arange(12), seed=0))
    for image in judged_on[:lost]:
        # 96 x 24 px after the resize: IoU 0.54 with the anchor of 76 x 38, at most 0.32 with a square.
        boxes[image][0] = [10, 10, 75, 18.75]
    opts = ["--images", 0, "--max-anchors", 1, *make_set(boxes)]
    run_command("--config-file", anchors_config, "--output", tmp_path, *opts)
    decision = json.loads((tmp_path / "coverage.json").read_text())["proposal"]["decision"]
    shares = {1: "but 0.42% of the boxes not reached instead of", 3: "but 1.25% of the boxes not reached instead of"}
    assert shares[lost] in decision
    said = "fitted anchors, a better fit that reaches fewer boxes: " if lost == 1 else "keep the anchors of small"
    assert decision.startswith(said)


def test_default_is_kept_where_it_fits(no_pictures, make_set, anchors_config, tmp_path, capsys):
    opts = make_set(square_boxes(25, images=12))  # 32 px after resizing, the smallest anchor
    run_command("--config-file", anchors_config, "--output", tmp_path, "--images", 0, "--margin", 0.3, *opts)
    assert "# keep the anchors of small" in capsys.readouterr().out
    kept = load_config(str(tmp_path / "fitted.yaml"), []).MODEL.ANCHOR_GENERATOR
    assert (kept.NAME, kept.BASE_SIZE, kept.SCALES_PER_OCTAVE) == ("OctaveAnchorGenerator", 4.0, 3)


def test_one_image_leaves_nothing_to_judge_on(no_pictures, make_set, anchors_config, tmp_path, capsys):
    opts = make_set(square_boxes(14, images=1))
    run_command("--config-file", anchors_config, "--output", tmp_path, "--images", 0, *opts)
    assert "all boxes are in one image" in capsys.readouterr().out


def test_configs_of_one_name_are_told_apart(no_pictures, make_set, anchors_config, tmp_path):
    opts = make_set([[[50, 20, 50, 50]]])
    arguments = ["--config-file", anchors_config] * 2
    run_command(*arguments, "--output", tmp_path, "--images", 0, "--no-fit", *opts)
    assert len({row["config"] for row in read_rows(tmp_path / "coverage.csv")}) == 2


@pytest.mark.parametrize(
    "boxes, arguments, opts, match",
    [
        ([[], []], [], [], "no box to measure in 2 images"),
        ([[[300, 20, 5, 5]]], [], [], "no box to measure in 1 images"),
        ([[[5, 5, 20, 20]]], ["--max-anchors", "0"], [], "--max-anchors must be >= 1, got 0"),
        ([[[5, 5, 20, 20]]], ["--images", "-1"], [], "--images must be >= 0"),
        ([[[5, 5, 20, 20]]], ["--margin", "2"], [], r"--margin must be in \[0, 1\)"),
        ([[[5, 5, 20, 20]]], [], ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "must be a RetinaNet"),
        ([[[5, 5, 20, 20]]], [], ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[]]"], "got none on a level"),
        ([[[5, 5, 20, 20]]], [], ["MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"], "must give upright boxes"),
        ([[[5, 5, 20, 20]]], [], ["MODEL.ANCHOR_GENERATOR.NAME", "Mine"], "Mine"),
    ],
)
def test_mistakes_are_refused_in_a_sentence(make_set, anchors_config, tmp_path, boxes, arguments, opts, match):
    with pytest.raises(SetupError, match=match):
        run_command("--config-file", anchors_config, "--output", tmp_path, *arguments, *make_set(boxes), *opts)


def test_no_data_set_and_missing_images_are_refused(make_set, anchors_config, tmp_path):
    arguments = ("--config-file", anchors_config, "--output", tmp_path / "out")
    with pytest.raises(SetupError, match="names 'nowhere', which is not registered"):
        run_command(*arguments, "DATASETS.TRAIN", "nowhere")
    with pytest.raises(SetupError, match="DATASETS.TRAIN is empty"):
        run_command(*arguments, "DATASETS.TRAIN", "()")
    opts = make_set([[[5, 5, 20, 20]]])
    (tmp_path / "0.png").unlink()
    with pytest.raises(SetupError, match="0.png cannot be read"):
        run_command(*arguments, *opts)
    assert not (tmp_path / "out" / "coverage.json").exists()


def test_padding_and_strides_are_the_network_s(anchors_config):
    cfg = prepare(anchors_config, ["MODEL.META_ARCHITECTURE", "RetinaNet"], use="look").cfg
    model, layout = build_detector(cfg, anchors_config)
    assert (layout.strides, layout.size_divisibility, layout.per_point) == ((8, 16, 32, 64, 128), 32, 9)
    assert layout.level_names == ("p3", "p4", "p5", "p6", "p7") and layout.channels == 256
    assert next(model.backbone.parameters()).is_meta  # no memory for weights
    assert np.isclose(layout.shapes()[1][1], 32)  # P3's square of ratio 1
