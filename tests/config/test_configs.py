"""Every YAML file under configs/: it loads, builds, says only what it changes, and holds the paper's values."""

import re
from pathlib import Path

import detectron2
import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN, build_anchor_generator, build_model

from retina_plugin import FocalRetinaNet
from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.config.load import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PARTS = sorted((CONFIGS / "parts").glob("*.yaml"))  # laid over other files, no config by themselves
INDEX = CONFIGS / "ablations" / "index.yaml"  # of the studies: no config, see test_study_index.py
WHOLE = sorted(set(CONFIGS.rglob("*.yaml")) - {*PARTS, INDEX})
ABLATIONS = sorted(set((CONFIGS / "ablations").rglob("*.yaml")) - {INDEX})
BASE = CONFIGS / "Base-Retina.yaml"
MODEL_ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs" / "COCO-Detection"


def name_of(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


def flatten(node: dict, prefix: str = "") -> dict:
    """{"A": {"B": 1}} -> {"A.B": 1}"""
    flat = {}
    for key, value in node.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def own_keys(path: Path) -> dict:
    """What the file itself says, by full key."""
    return {key: value for key, value in flatten(yaml.safe_load(path.read_text())).items() if key != "_BASE_"}


def bases_of(path: Path) -> list[str]:
    bases = yaml.safe_load(path.read_text()).get("_BASE_", [])
    return [bases] if isinstance(bases, str) else bases


def inherited_by(path: Path) -> CfgNode:
    """The config that the file's own keys are laid over; for a part, whose user is unknown, the base of all."""
    cfg = get_retina_cfg()
    if path in PARTS:
        cfg.merge_from_file(str(BASE))
    for base in bases_of(path):
        cfg.merge_from_file(str(path.parent / base))
    return cfg


def difference(path: Path, base: Path) -> dict:
    """Keys whose values differ between two configs, with the value in the first."""
    values, base_values = flatten(load_config(str(path), [])), flatten(load_config(str(base), []))
    return {key: value for key, value in values.items() if value != base_values[key]}


def values_of(name: str, keys: dict) -> dict:
    cfg = flatten(load_config(str(CONFIGS / name), []))
    return {key: cfg[key] for key in keys}


def test_configs_are_found():
    assert len(PARTS) >= 8 and len(ABLATIONS) >= 49 and len(WHOLE) >= 60


# --- Form ---


@pytest.mark.parametrize("path", WHOLE + PARTS, ids=name_of)
def test_file_is_plain_and_portable(path):
    text = path.read_text()
    assert yaml.safe_load(text), "only tags of safe YAML"
    for banned in ("!!python", "OUTPUT_DIR", "NUM_WORKERS"):
        assert banned not in text
    assert not re.search(r"^\s*#\s*[A-Z][A-Z0-9_.]+:(\s|$)", text, re.MULTILINE), "a commented-out key"
    for base in bases_of(path):
        assert not base.startswith(("/", "~", "http")) and (path.parent / base).is_file()


@pytest.mark.parametrize("path", WHOLE + PARTS, ids=name_of)
def test_file_restates_no_inherited_value(path):
    inherited = inherited_by(path)
    merged = inherited.clone()
    keys = own_keys(path)
    for key, value in keys.items():
        merged.merge_from_list([key, value])
    before, after = flatten(inherited), flatten(merged)
    # The format's version is Detectron2's default too; without it Detectron2 guesses and warns.
    restated = [key for key in keys if before[key] == after[key] and (path, key) != (BASE, "VERSION")]
    assert not restated


@pytest.mark.parametrize("path", WHOLE + PARTS, ids=name_of)
def test_file_writes_values_in_the_type_of_the_default(path):
    defaults = flatten(get_retina_cfg())
    for key, value in own_keys(path).items():
        default = defaults[key]
        if isinstance(default, tuple | list):
            assert isinstance(value, list), f"{key}: {value!r}"
        elif default is not None and value is not None:
            assert type(value) is type(default), f"{key}: {value!r}"


@pytest.mark.parametrize("path", WHOLE, ids=name_of)
def test_config_loads_and_builds(path):
    cfg = load_config(str(path), ["MODEL.DEVICE", "meta"])  # shapes only: 60 models of up to 101 M parameters
    with torch.device("meta"):
        model = build_model(cfg)
    if path.stem.startswith("two_stage_faster_rcnn"):  # Table 2 compares with Detectron2's own
        assert isinstance(model, GeneralizedRCNN)
        return
    assert isinstance(model, FocalRetinaNet)
    num_anchors = cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE * len(cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0])
    assert model.head.cls_score.out_channels == num_anchors * cfg.MODEL.RETINANET.NUM_CLASSES


# --- The detector of the paper ---

PAPER = {  # paper Sec. 4 and 4.1; "authors": facebookresearch/Detectron where the paper is silent
    "DATASETS.TRAIN": ("coco_2017_train",),
    "DATASETS.TEST": ("coco_2017_val",),
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "INPUT.MAX_SIZE_TRAIN": 1333,  # authors
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,  # authors
    "INPUT.RANDOM_FLIP": "horizontal",
    "MODEL.ANCHOR_GENERATOR.NAME": "OctaveAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.BASE_SIZE": 4.0,
    "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE": 3,
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,  # Detectron2; the authors' centres are rounded
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.RETINANET.CLS_LOSS_NAME": "FocalLoss",
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": 0.25,
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": 2.0,
    "MODEL.RETINANET.IOU_THRESHOLDS": [0.4, 0.5],
    "MODEL.RETINANET.IOU_LABELS": [0, -1, 1],
    "MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES": True,  # authors
    "MODEL.RETINANET.LOW_QUALITY_MIN_IOU": 0.4,  # authors
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.11,  # authors
    "MODEL.RETINANET.NORMALIZER.NAME": "batch",
    "MODEL.RETINANET.NORMALIZER.SYNC": True,
    "MODEL.RETINANET.NUM_CLASSES": 80,
    "MODEL.RETINANET.NUM_CONVS": 4,
    "MODEL.RETINANET.NORM": "",
    "MODEL.RETINANET.IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
    "MODEL.RETINANET.PRIOR_PROB": 0.01,
    "MODEL.RETINANET.USE_PRIOR": True,
    "MODEL.RETINANET.SCORE_THRESH_TEST": 0.05,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": 1000,
    "MODEL.RETINANET.NMS_THRESH_TEST": 0.5,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.STEPS": (60000, 80000),
    "SOLVER.MAX_ITER": 90000,
    "SOLVER.WARMUP_ITERS": 500,  # authors
    "SOLVER.WARMUP_FACTOR": 0.3333,  # authors
    "SOLVER.BIAS_LR_FACTOR": 2.0,  # authors
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0,  # authors
    "TEST.DETECTIONS_PER_IMAGE": 100,  # authors
}
SIZES = ("INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST")
# Longest side that goes with a shorter side: times 1333 / 800, as in the authors' code.
MAX_SIZES = {400: 667, 500: 833, 600: 1000, 700: 1167, 800: 1333}


def sizes(scale: int) -> dict:
    return dict(zip(SIZES, ((scale,), MAX_SIZES[scale], scale, MAX_SIZES[scale]), strict=True))


def test_base_is_the_detector_of_the_paper():
    assert values_of("Base-Retina.yaml", PAPER) == PAPER


RESNETS = {  # depth, weights, pixel std, groups, width of a group, stride on the 1x1 convolution
    "retina_R50_FPN": (50, "detectron2://ImageNetPretrained/MSRA/R-50.pkl", [1.0] * 3, 1, 64, True),
    "retina_R101_FPN": (101, "detectron2://ImageNetPretrained/MSRA/R-101.pkl", [1.0] * 3, 1, 64, True),
    "retina_X101_FPN": (
        101,
        "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl",
        [57.375, 57.12, 58.395],  # Detectron2: faster_rcnn_X_101_32x8d_FPN_3x.yaml
        32,
        8,
        False,
    ),
}


@pytest.mark.parametrize("name", RESNETS)
def test_backbones_differ_in_nothing_else(name):
    depth, weights, pixel_std, num_groups, width, stride_in_1x1 = RESNETS[name]
    expected = {
        "MODEL.WEIGHTS": weights,
        "MODEL.PIXEL_STD": pixel_std,
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.NUM_GROUPS": num_groups,
        "MODEL.RESNETS.WIDTH_PER_GROUP": width,
        "MODEL.RESNETS.STRIDE_IN_1X1": stride_in_1x1,
    }
    assert values_of(f"{name}.yaml", expected) == expected
    assert set(difference(CONFIGS / f"{name}.yaml", BASE)) <= set(expected)


@pytest.mark.parametrize("backbone", ["R101", "X101"])
def test_jitter_runs_are_table_2(backbone):
    # Sec. 5.3: 1.5 x 90000 iterations and scale jitter. Drops and range: see configs/parts.
    changed = difference(CONFIGS / f"retina_{backbone}_FPN_jitter.yaml", CONFIGS / f"retina_{backbone}_FPN.yaml")
    assert changed == {
        "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
        "SOLVER.STEPS": (90000, 120000),
        "SOLVER.MAX_ITER": 135000,
    }


@pytest.mark.parametrize("backbone", ["R50", "R101"])
def test_ablation_bases_use_600_pixels(backbone):
    changed = difference(CONFIGS / f"retina_{backbone}_FPN_600.yaml", CONFIGS / f"retina_{backbone}_FPN.yaml")
    assert changed == sizes(600)


# --- Detectron2's model zoo ---

ZOO = {  # Detectron2: configs/Base-RetinaNet.yaml, configs/COCO-Detection/retinanet_R_50_FPN_3x.yaml, defaults.py
    "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
    "MODEL.RETINANET.LOW_QUALITY_MIN_IOU": 0.0,
    "MODEL.RETINANET.NORMALIZER.NAME": "ema",
    "MODEL.RETINANET.NORMALIZER.SYNC": False,
    "SOLVER.STEPS": (210000, 250000),
    "SOLVER.MAX_ITER": 270000,
    "SOLVER.WARMUP_ITERS": 1000,
    "SOLVER.WARMUP_FACTOR": 0.001,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.WEIGHT_DECAY_BIAS": None,
}


@pytest.mark.parametrize("backbone", ["R50", "R101"])
def test_3x_has_the_values_of_the_model_zoo(backbone):
    changed = difference(CONFIGS / f"retina_{backbone}_FPN_3x.yaml", CONFIGS / f"retina_{backbone}_FPN.yaml")
    assert changed == ZOO


@pytest.mark.skipif(not MODEL_ZOO.is_dir(), reason="this Detectron2 is installed without its configs")
@pytest.mark.parametrize("depth", [50, 101])
def test_3x_equals_detectron2_but_for_the_names(depth):
    ours = load_config(str(CONFIGS / f"retina_R{depth}_FPN_3x.yaml"), [])
    theirs = get_retina_cfg()
    theirs.merge_from_file(str(MODEL_ZOO / f"retinanet_R_{depth}_FPN_3x.yaml"))
    values, expected = flatten(ours), flatten(theirs)
    generator = "MODEL.ANCHOR_GENERATOR"
    assert {key for key in expected if values[key] != expected[key]} == {
        "MODEL.META_ARCHITECTURE",
        f"{generator}.NAME",
        f"{generator}.SIZES",
    }
    shapes = [ShapeSpec(stride=stride) for stride in (8, 16, 32, 64, 128)]
    anchors, expected_anchors = (build_anchor_generator(cfg, shapes).cell_anchors for cfg in (ours, theirs))
    torch.testing.assert_close(list(anchors), list(expected_anchors))


# --- The paper's tables: file -> what it changes in its base ---

RETINANET = "MODEL.RETINANET"
CE = {f"{RETINANET}.CLS_LOSS_NAME": "CrossEntropyLoss"}
STAR = {f"{RETINANET}.CLS_LOSS_NAME": "FocalLossStar"}
NO_PRIOR = {f"{RETINANET}.USE_PRIOR": False}


def alpha(value: float) -> dict:
    return {f"{RETINANET}.FOCAL_LOSS_ALPHA": value}


def table_1a() -> dict:
    return {f"alpha_{value:g}": CE | alpha(value) for value in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)}


def table_1b() -> dict:
    rows = ((0.0, 0.75), (0.1, 0.75), (0.2, 0.75), (0.5, 0.5), (1.0, 0.25), (2.0, 0.25), (5.0, 0.25))
    return {f"gamma_{gamma:g}": {f"{RETINANET}.FOCAL_LOSS_GAMMA": gamma} | alpha(best) for gamma, best in rows}


def table_1c() -> dict:
    ratios = {1: [[1.0]], 3: [[0.5, 1.0, 2.0]]}
    return {
        f"anchors_{num_scales}x{num_ratios}": {
            "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE": num_scales,
            "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ratios[num_ratios],
        }
        for num_scales, num_ratios in ((1, 1), (2, 1), (3, 1), (1, 3), (2, 3), (3, 3), (4, 3))
    }


def table_1d() -> dict:
    rows = {"ohem_fl": {f"{RETINANET}.CLS_LOSS_NAME": "FocalLoss"}}
    for prefix, nms_thresh, ratio in (("ohem", 0.7, 0.0), ("ohem", 0.5, 0.0), ("ohem_1to3", 0.5, 3.0)):
        for batch_size in (128, 256, 512):
            rows[f"{prefix}_{batch_size}_{nms_thresh:g}"] = alpha(-1.0) | {
                f"{RETINANET}.CLS_LOSS_NAME": "OHEMLoss",
                f"{RETINANET}.OHEM.BATCH_SIZE": batch_size,
                f"{RETINANET}.OHEM.NMS_THRESH": nms_thresh,
                f"{RETINANET}.OHEM.NEG_POS_RATIO": ratio,
            }
    return rows


def table_1e() -> dict:
    return {f"scale_R{depth}_{scale}": sizes(scale) for depth in (50, 101) for scale in MAX_SIZES}


def table_3() -> dict:
    return {
        "focal_star_ce": CE | alpha(0.75),
        "focal_star_fl": {f"{RETINANET}.CLS_LOSS_NAME": "FocalLoss"} | alpha(0.25),
        "focal_star_2_1": STAR | {f"{RETINANET}.FOCAL_STAR.GAMMA": 2.0, f"{RETINANET}.FOCAL_STAR.BETA": 1.0},
        "focal_star_4_0": STAR | {f"{RETINANET}.FOCAL_STAR.GAMMA": 4.0, f"{RETINANET}.FOCAL_STAR.BETA": 0.0},
    }


def section_5_1() -> dict:
    return {
        "prior_with_ce": CE | alpha(-1.0),
        "prior_without_ce": CE | alpha(-1.0) | NO_PRIOR,
        "prior_with_fl": {f"{RETINANET}.USE_PRIOR": True},
        "prior_without_fl": NO_PRIOR,
    }


def normalizer() -> dict:
    key = f"{RETINANET}.NORMALIZER"
    return {
        "normalizer_batch": {f"{key}.NAME": "batch", f"{key}.SYNC": True},
        "normalizer_ema": {f"{key}.NAME": "ema", f"{key}.SYNC": False},
    }


def low_quality() -> dict:
    rows = {f"low_quality_{value:g}": {f"{RETINANET}.LOW_QUALITY_MIN_IOU": value} for value in (0.0, 0.2, 0.3, 0.4)}
    return rows | {"low_quality_off": {f"{RETINANET}.ALLOW_LOW_QUALITY_MATCHES": False}}


def two_stage() -> dict:
    """Detectron2's Base-RCNN-FPN.yaml and Base-RCNN-C4.yaml, under the base's schedule and sizes."""

    def keys_of(name: str, groups: tuple[str, ...]) -> dict:
        path = MODEL_ZOO.parent / name
        if not path.is_file():  # installed without its configs: nothing to compare with
            return own_keys(CONFIGS / "ablations/two_stage/two_stage_faster_rcnn_fpn.yaml")
        zoo = flatten(CfgNode.load_yaml_with_base(str(path)))
        return {key: value for key, value in zoo.items() if key.startswith(tuple(f"MODEL.{group}" for group in groups))}

    common = {"MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator", "MODEL.META_ARCHITECTURE": "GeneralizedRCNN"}
    box = ("BACKBONE", "RESNETS", "FPN", "ANCHOR", "RPN", "ROI_HEADS", "ROI_BOX_HEAD")
    c4 = {"MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES": ["res4"]}  # defaults.py
    return {
        "two_stage_retinanet": {"MODEL.META_ARCHITECTURE": "FocalRetinaNet"},
        "two_stage_faster_rcnn_fpn": common | keys_of("Base-RCNN-FPN.yaml", box),
        "two_stage_faster_rcnn_c4": common | c4 | keys_of("Base-RCNN-C4.yaml", box),
    }


AXES = {
    "alpha": table_1a(),
    "gamma": table_1b(),
    "anchors": table_1c(),
    "ohem": table_1d(),
    "scale": table_1e(),
    "focal_star": table_3(),
    "prior": section_5_1(),
    "normalizer": normalizer(),
    "low_quality": low_quality(),
    "precision": {f"precision_{value}": {"MODEL.PRECISION": value} for value in ("fp32", "winograd")},
    "two_stage": two_stage(),
}
ROWS = [(axis, name) for axis, rows in AXES.items() for name in rows]


def base_of(axis: str, name: str) -> Path:
    if axis == "scale":
        return CONFIGS / f"retina_{name.split('_')[1]}_FPN.yaml"
    if axis == "two_stage":
        return CONFIGS / "retina_R101_FPN.yaml"
    return CONFIGS / f"retina_{'R101' if axis == 'ohem' else 'R50'}_FPN_600.yaml"


def test_ablations_are_the_rows_of_the_paper():
    expected = {f"ablations/{axis}/{name}.yaml" for axis, name in ROWS}
    assert {name_of(path) for path in ABLATIONS} == expected


@pytest.mark.parametrize(("axis", "name"), ROWS, ids=[name for _, name in ROWS])
def test_ablation_is_its_row_and_nothing_else(axis, name):
    row = AXES[axis][name]
    path = f"ablations/{axis}/{name}.yaml"
    assert values_of(path, row) == row
    # Only the row's keys differ, so two rows can differ only in keys of their axis.
    assert set(difference(CONFIGS / path, base_of(axis, name))) <= set(row)


def test_ablation_readme_links_each_file():
    folder = CONFIGS / "ablations"
    links = re.findall(r"\]\((\S+)\)", (folder / "README.md").read_text())
    assert all((folder / link).is_file() for link in links)
    assert sorted(link for link in links if not link.startswith(("../", "index"))) == [
        path.relative_to(folder).as_posix() for path in ABLATIONS
    ]


@pytest.mark.parametrize(
    ("axis", "name"), [row for row in ROWS if row[0] not in ("scale", "two_stage")], ids=lambda value: value
)
def test_ablation_readme_names_each_change(axis, name):
    path = CONFIGS / "ablations" / axis / f"{name}.yaml"
    lines = (CONFIGS / "ablations" / "README.md").read_text().splitlines()
    [line] = [line for line in lines if f"]({axis}/{name}.yaml)" in line]
    changed = {
        key.removeprefix("MODEL.RETINANET.").removeprefix("MODEL.ANCHOR_GENERATOR."): value
        for key, value in difference(path, base_of(axis, name)).items()
    }
    assert dict(re.findall(r"`(\S+)` (.*?)(?:, (?=`)| \|)", line)) == {
        key: str(value) for key, value in changed.items()
    }
