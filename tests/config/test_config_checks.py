"""Values of a config that are refused, and those that are only pointed out."""

import os
import re

import pytest
from detectron2.utils import comm

from retina_plugin.config.checks import check_config, find_config_faults
from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.errors import SetupError

R = "MODEL.RETINANET."
A = "MODEL.ANCHOR_GENERATOR."
NAN, INF = float("nan"), float("inf")


def set_keys(cfg, keys: dict):
    for key, value in keys.items():
        *groups, last = key.split(".")
        node = cfg
        for group in groups:
            node = node[group]
        assert last in node, key
        node[last] = value
    return cfg


@pytest.fixture
def cfg(tmp_path):
    """A RetinaNet of Detectron2's that has nothing to complain about."""
    return set_keys(
        get_retina_cfg(),
        {
            "MODEL.META_ARCHITECTURE": "RetinaNet",
            "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
            "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
            "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
            "MODEL.WEIGHTS": "model.pkl",
            "DATASETS.TEST": ("my_set",),
            "OUTPUT_DIR": str(tmp_path / "new" / "run"),
        },
    )


def test_check_config_accepts_a_plain_retinanet(cfg, tmp_path):
    assert check_config(cfg) == []
    assert list(tmp_path.iterdir()) == []  # nothing is written


@pytest.mark.parametrize(
    "keys",
    [
        {R + "FOCAL_LOSS_GAMMA": 0.0},
        {R + "FOCAL_LOSS_GAMMA": 0.5},
        {R + "FOCAL_LOSS_ALPHA": -1.0},
        {R + "FOCAL_LOSS_ALPHA": 1.0},
        {R + "NUM_CLASSES": 0},
        {R + "IN_FEATURES": ["p5", "p6"], A + "SIZES": [[32], [64]]},
        {R + "IOU_THRESHOLDS": [0.5], R + "IOU_LABELS": [0, 1]},
        {R + "IOU_THRESHOLDS": [0.5, 0.5]},
        {R + "BBOX_REG_LOSS_TYPE": "giou"},
        {R + "NORM": "SyncBN"},
        {"SOLVER.STEPS": ()},
        {"SOLVER.STEPS": (39999,)},
        {"SOLVER.BASE_LR": 1e-9},
        {"SOLVER.BASE_LR": 0.04},  # four times the linear rule for 16 images
        {"INPUT.FORMAT": "L", "MODEL.PIXEL_MEAN": [1.0], "MODEL.PIXEL_STD": [1.0]},
        {"MODEL.BACKBONE.NAME": "build_resnet_backbone", R + "IN_FEATURES": ["res4", "res5"]},
        {"TEST.EVAL_PERIOD": 5},
        {R + "SCORE_THRESH_TEST": 1.0},
        {A + "OFFSET": 0.5},
        {"DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD": 0.1},
    ],
    ids=str,
)
def test_check_config_accepts(cfg, keys):
    assert check_config(set_keys(cfg, keys)) == []


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        (R + "FOCAL_LOSS_GAMMA", -1.0, r"in \[0, inf\)"),
        (R + "FOCAL_LOSS_GAMMA", NAN, r"in \[0, inf\)"),
        (R + "FOCAL_LOSS_GAMMA", INF, r"in \[0, inf\)"),
        (R + "FOCAL_LOSS_ALPHA", 1.5, r"in \[0, 1\], or negative"),
        (R + "FOCAL_LOSS_ALPHA", NAN, r"in \[0, 1\], or negative"),
        (R + "FOCAL_STAR.GAMMA", 0.0, r"in \(0, inf\)"),
        (R + "FOCAL_STAR.BETA", INF, r"in \(-inf, inf\)"),
        (R + "OHEM.BATCH_SIZE", 0, r"in \[1, inf\)"),
        (R + "OHEM.NMS_THRESH", 0.0, r"in \(0, 1\]"),
        (R + "OHEM.NEG_POS_RATIO", -3.0, r"in \[0, inf\)"),
        (R + "OHEM.SCORE", "loss", "one of 'cls', 'total'"),
        (R + "OHEM.NMS_BOXES", "", "one of 'anchors', 'decoded'"),
        (R + "OHEM.SCOPE", "gpu", "one of 'image', 'batch'"),
        (R + "NORMALIZER.NAME", "mean", "one of 'ema', 'batch'"),
        (R + "NORMALIZER.MOMENTUM", 1.0, r"in \[0, 1\)"),
        (R + "NORMALIZER.INITIAL", 0.0, r"in \(0, inf\)"),
        (R + "LOW_QUALITY_MIN_IOU", 1.1, r"in \[0, 1\]"),
        (R + "NUM_CLASSES", -1, r"in \[0, inf\)"),
        (R + "PRIOR_PROB", 0.0, r"in \(0, 1\)"),
        (R + "PRIOR_PROB", 1.0, r"in \(0, 1\)"),
        (R + "NUM_CONVS", 0, r"in \[1, inf\)"),
        (R + "NORM", "XX", "one of '', 'BN', .*'GN'"),
        ("MODEL.FPN.NORM", "XX", "one of '', 'BN'"),
        ("MODEL.RESNETS.NORM", "Frozen", "one of .*'FrozenBN'"),
        ("MODEL.RESNETS.DEPTH", 51, "one of 18, 34, 50, 101, 152"),
        (R + "IOU_THRESHOLDS", [0.0, 0.5], r"a list of numbers in \(0, 1\]"),
        (R + "IOU_THRESHOLDS", [0.4, 1.5], r"a list of numbers in \(0, 1\]"),
        (R + "IOU_THRESHOLDS", [], r"a list of numbers in \(0, 1\]"),
        (R + "IOU_LABELS", [0, -1, 2], "a list of -1"),
        (R + "BBOX_REG_LOSS_TYPE", "iou", "one of 'smooth_l1', 'giou', 'diou', 'ciou'"),
        (R + "BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0), "4 numbers above 0"),
        (R + "BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 0.0), "4 numbers above 0"),
        (R + "SMOOTH_L1_LOSS_BETA", -0.1, r"in \[0, inf\)"),
        (R + "SCORE_THRESH_TEST", 1.1, r"in \[0, 1\]"),
        (R + "NMS_THRESH_TEST", -0.1, r"in \[0, 1\]"),
        (R + "TOPK_CANDIDATES_TEST", 0, r"in \[1, inf\)"),
        (A + "OFFSET", 1.0, r"in \[0, 1\)"),
        (A + "BASE_SIZE", 0.0, r"in \(0, inf\)"),
        (A + "SCALES_PER_OCTAVE", 0, r"in \[1, inf\)"),
        ("MODEL.PRECISION", "fp16", "one of 'fp32', 'winograd', 'bf16'"),
        ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "a list of numbers above 0"),
        ("MODEL.PIXEL_MEAN", [1.0, NAN, 1.0], "a list of finite numbers"),
        ("INPUT.FORMAT", "bgr", "'BGR', 'RGB'"),
        ("INPUT.MIN_SIZE_TRAIN", (), "a list of sizes"),
        ("INPUT.MIN_SIZE_TRAIN", (-1,), "a list of sizes"),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "random", "one of 'choice', 'range'"),
        ("INPUT.MAX_SIZE_TRAIN", 0, r"in \[1, inf\)"),
        ("INPUT.RANDOM_FLIP", "both", "one of 'none', 'horizontal', 'vertical'"),
        ("SOLVER.BASE_LR", 0.0, r"in \(0, inf\)"),
        ("SOLVER.BASE_LR", -0.1, r"in \(0, inf\)"),
        ("SOLVER.BASE_LR", NAN, r"in \(0, inf\)"),
        ("SOLVER.IMS_PER_BATCH", 0, r"in \[1, inf\)"),
        ("SOLVER.MAX_ITER", 0, r"in \[1, inf\)"),
        ("SOLVER.CHECKPOINT_PERIOD", 0, r"in \[1, inf\)"),
        ("SOLVER.MOMENTUM", 1.0, r"in \[0, 1\)"),
        ("TEST.EVAL_PERIOD", -1, r"in \[0, inf\)"),
        ("TEST.DETECTIONS_PER_IMAGE", 0, r"in \[1, inf\)"),
        ("DATALOADER.NUM_WORKERS", -1, r"in \[0, inf\)"),
        ("DATALOADER.SAMPLER_TRAIN", "Balanced", "one of 'TrainingSampler', 'RepeatFactorTrainingSampler'"),
        ("DATALOADER.REPEAT_THRESHOLD", -0.1, r"in \[0, 1\]"),
    ],
)
def test_check_config_refuses_value(cfg, key, value, rule):
    with pytest.raises(SetupError, match=rf"^{key} must be {rule}.*, got .*") as caught:
        check_config(set_keys(cfg, {key: value}))
    assert repr(value) in str(caught.value)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (
            {R + "IN_FEATURES": ["p7", "p3"]},
            r"IN_FEATURES must have strides that grow, .* got \['p7', 'p3'\]: write \['p3', 'p7'\]",
        ),
        ({R + "IN_FEATURES": ["p3", "p3"]}, "each level once"),
        ({R + "IN_FEATURES": ["p2", "p3"]}, r"must be among \['p3', 'p4', 'p5', 'p6', 'p7'\].*got \['p2'\]"),
        ({R + "IN_FEATURES": []}, r"must name at least one level of \['p3'"),
        (
            {"MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone", R + "IN_FEATURES": ["p6", "p7"]},
            r"must be among \['p3', 'p4', 'p5', 'p6'\], the levels of build_resnet_fpn_backbone, got \['p7'\]",
        ),
        ({"MODEL.BACKBONE.NAME": "build_resnet_backbone"}, r"must be among \['res3', 'res4', 'res5'\]"),
        ({"MODEL.FPN.IN_FEATURES": []}, r"must have all of \['res5'\] for MODEL.FPN.IN_FEATURES \[\]"),
        ({"MODEL.RESNETS.OUT_FEATURES": ["res4"]}, r"OUT_FEATURES must have all of .*'res3'.* got \['res4'\]"),
        ({"MODEL.RESNETS.DEPTH": 18}, "RES2_OUT_CHANNELS must be 64 with MODEL.RESNETS.DEPTH 18, got 256"),
        ({R + "NORM": "GN", "MODEL.FPN.OUT_CHANNELS": 40}, "OUT_CHANNELS must be a multiple of 32, got 40"),
        ({R + "IOU_THRESHOLDS": [0.5, 0.4]}, r"must increase, got \[0.5, 0.4\]: write \[0.4, 0.5\]"),
        ({R + "IOU_LABELS": [0, 1]}, r"IOU_LABELS must have 3 labels, .* got \[0, 1\]"),
        ({A + "SIZES": [[32], [64]]}, r"SIZES must have 1 list or 5, one a level .* got 2"),
        ({A + "SIZES": [[32, 0]]}, "SIZES must hold sizes in pixels that are finite and above 0"),
        ({A + "SIZES": [[NAN]]}, "SIZES must hold"),
        ({A + "SIZES": [["32"]]}, "SIZES must hold"),
        ({A + "SIZES": []}, "SIZES must hold"),
        ({A + "SIZES": [[]]}, "SIZES must hold"),
        ({A + "SIZES": [[32], 64]}, "SIZES must be one list .* not both mixed"),
        ({A + "SIZES": [[1], [1, 2], [1], [1], [1]]}, r"same number of anchors, .*= \[3, 6, 3, 3, 3\]"),
        ({A + "ASPECT_RATIOS": [[0.0, 1.0]]}, "ASPECT_RATIOS must hold ratios that are finite and above 0"),
        ({A + "ASPECT_RATIOS": [[-1.0]]}, "ASPECT_RATIOS must hold"),
        ({A + "NAME": "OctaveAnchorGenerator", A + "ASPECT_RATIOS": [[INF]]}, "ASPECT_RATIOS must hold"),
        ({A + "NAME": "Nothing"}, "ANCHOR_GENERATOR.NAME 'Nothing' is not registered: .*DefaultAnchorGenerator"),
        ({"MODEL.META_ARCHITECTURE": "Retina"}, "META_ARCHITECTURE 'Retina' is not registered: .*FocalRetinaNet"),
        ({"MODEL.BACKBONE.NAME": "resnet"}, "BACKBONE.NAME 'resnet' is not registered"),
        ({"MODEL.PIXEL_MEAN": [100.0]}, r"PIXEL_MEAN must have 3 numbers, one a channel of INPUT.FORMAT BGR, got 1"),
        ({"MODEL.PIXEL_STD": [1.0] * 4}, "PIXEL_STD must have 3 numbers"),
        ({"INPUT.FORMAT": "L"}, "PIXEL_MEAN must have 1 numbers"),
        ({"INPUT.MIN_SIZE_TRAIN_SAMPLING": "range"}, "INPUT.MIN_SIZE_TRAIN must be 2 numbers"),
        ({"SOLVER.STEPS": (200, 100)}, r"SOLVER.STEPS must be iterations above 0 that increase, got \(200, 100\)"),
        ({"SOLVER.STEPS": (100, 100)}, "SOLVER.STEPS must be iterations"),
        ({"SOLVER.STEPS": (0, 100)}, "SOLVER.STEPS must be iterations above 0"),
        ({"SOLVER.MAX_ITER": 30000}, r"SOLVER.STEPS must lie below SOLVER.MAX_ITER 30000, got \(30000,\)"),
        (
            {"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR", "SOLVER.BASE_LR": 0.01, "SOLVER.BASE_LR_END": 0.02},
            r"SOLVER.BASE_LR_END must be in \[0, BASE_LR 0.01\], got 0.02: 0 is usual",
        ),
        ({"OUTPUT_DIR": ""}, "OUTPUT_DIR must be a folder, got ''"),
    ],
    ids=str,
)
def test_check_config_refuses_keys_that_do_not_fit(cfg, keys, match):
    with pytest.raises(SetupError, match=match):
        check_config(set_keys(cfg, keys))


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"SOLVER.STEPS": (100, 50000)}, r"STEPS \(50000,\) are beyond SOLVER.MAX_ITER 40000"),
        ({"SOLVER.WARMUP_ITERS": 50000}, "WARMUP_ITERS 50000 is above SOLVER.MAX_ITER 40000"),
        ({"SOLVER.BASE_LR": 0.041}, "BASE_LR 0.041 is high for IMS_PER_BATCH 16: .* gives 0.01"),
        ({"SOLVER.BASE_LR": 0.01, "SOLVER.IMS_PER_BATCH": 2}, "high for IMS_PER_BATCH 2: .* gives 0.00125"),
        ({"TEST.EVAL_PERIOD": 5, "DATASETS.TEST": ()}, "EVAL_PERIOD is 5, but DATASETS.TEST is empty"),
        ({"MODEL.WEIGHTS": ""}, "training from scratch with FrozenBN diverges. Use configs/Base-Retina-Scratch.yaml"),
        ({"MODEL.ROI_HEADS.NUM_CLASSES": 3}, r"ROI_HEADS.NUM_CLASSES 3 .* set MODEL.RETINANET.NUM_CLASSES \(now 80\)"),
        ({"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.5}, "set MODEL.RETINANET.SCORE_THRESH_TEST"),
        ({A + "SIZES": [32, 64]}, r"SIZES is one flat list, so every level gets all of \[32, 64\]"),
        ({A + "SIZES": [[32, 32]]}, r"SIZES has a value twice in \[32, 32\]"),
        ({A + "ASPECT_RATIOS": [[1.0, 1.0]]}, "ASPECT_RATIOS has a value twice"),
        ({R + "IOU_LABELS": [0, -1, -1]}, "has no 1"),
    ],
    ids=str,
)
def test_check_config_warns(cfg, keys, match):
    (warning,) = check_config(set_keys(cfg, keys))
    assert re.search(match, warning), warning


def test_check_config_names_a_word_in_place_of_a_number(cfg):
    with pytest.raises(SetupError, match="must have numbers where its defaults are numbers.*FOCAL_LOSS_GAMMA: 'two'"):
        check_config(set_keys(cfg, {R + "FOCAL_LOSS_GAMMA": "two"}))


def test_every_fault_of_a_config_is_found(cfg):
    """The doctor prints all that a training would stop at one after the other."""
    keys = {R + "FOCAL_LOSS_GAMMA": -1.0, R + "NORMALIZER.MOMENTUM": 1.0, "SOLVER.MAX_ITER": 0}
    found = [fault for fault in find_config_faults(set_keys(cfg, keys)) if fault.severity == "error"]
    assert sorted(fault.where for fault in found) == sorted(keys)


def test_check_config_knows_the_losses_it_is_told(cfg):
    cfg.MODEL.RETINANET.CLS_LOSS_NAME = "Focal"
    assert check_config(cfg) == []
    with pytest.raises(SetupError, match="CLS_LOSS_NAME must be one of 'A', 'B', got 'Focal'"):
        check_config(cfg, known_losses=["B", "A"])


def test_check_config_leaves_other_architectures_their_own_keys(cfg):
    set_keys(cfg, {"MODEL.META_ARCHITECTURE": "GeneralizedRCNN", R + "PRIOR_PROB": 5.0})
    assert check_config(cfg) == []
    with pytest.raises(SetupError, match="SOLVER.MAX_ITER"):
        check_config(set_keys(cfg, {"SOLVER.MAX_ITER": 0}))


def test_check_config_refuses_output_dir_that_is_a_file(cfg, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/run"):
        with pytest.raises(SetupError, match=f"OUTPUT_DIR .*{name} must be a folder, but .*file is a file"):
            check_config(set_keys(cfg, {"OUTPUT_DIR": str(tmp_path / name)}))


def test_check_config_refuses_output_dir_that_is_not_writable(cfg, tmp_path, monkeypatch):
    # The mode bits do not stop root, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))
    with pytest.raises(SetupError, match=f"must be writable, but {tmp_path} is not"):
        check_config(cfg)


def test_check_config_refuses_a_batch_that_does_not_divide(cfg, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    with pytest.raises(SetupError, match="IMS_PER_BATCH must be a multiple of the number of GPUs 3, got 16: take 15"):
        check_config(cfg)
    assert check_config(set_keys(cfg, {"SOLVER.REFERENCE_WORLD_SIZE": 8})) == []


def test_check_config_refuses_a_repeat_factor_that_repeats_nothing(cfg):
    with pytest.raises(SetupError, match="REPEAT_THRESHOLD is 0, so SAMPLER_TRAIN RepeatFactorTrainingSampler repeats"):
        check_config(set_keys(cfg, {"DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler"}))
