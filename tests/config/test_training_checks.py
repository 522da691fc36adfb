"""Keys of the training comforts: what is refused, what is warned of."""

import re
from pathlib import Path

import pytest

from retina_plugin import SetupError, get_retina_cfg
from retina_plugin.config.checks import check_config
from retina_plugin.config.rules import get_value

ON_VAL = ["DATASETS.TEST", ("val",)]
REFUSED = [
    (["SOLVER.ACCUMULATION_STEPS", 0], r"ACCUMULATION_STEPS must be in \[1, inf\), got 0: 1 takes the batch at once"),
    (["SOLVER.ACCUMULATION_STEPS", 3], "multiple of ACCUMULATION_STEPS 3, got 16: take 15"),
    (["SOLVER.ACCUMULATION_STEPS", 32], "multiple of ACCUMULATION_STEPS 32, got 16: take 32"),
    (
        ["SOLVER.ACCUMULATION_STEPS", 2, "MODEL.META_ARCHITECTURE", "RetinaNet"],
        "SOLVER.ACCUMULATION_STEPS 2 needs MODEL.META_ARCHITECTURE FocalRetinaNet, got RetinaNet",
    ),
    (
        ["SOLVER.ACCUMULATION_STEPS", 2, "MODEL.RETINANET.CLS_LOSS_NAME", "OHEMLoss", "MODEL.RETINANET.OHEM.SCOPE",
         "batch"],
        "OHEM.SCOPE must be 'image' with SOLVER.ACCUMULATION_STEPS above 1",
    ),
    (["TEST.LOSS_PERIOD", 5, "MODEL.META_ARCHITECTURE", "RetinaNet"], "TEST.LOSS_PERIOD 5 needs MODEL.META_ARCH"),
    (["SOLVER.EMA_DECAY", 1.0], r"EMA_DECAY must be in \[0, 1\), got 1.0"),
    (["SOLVER.REFERENCE_BATCH", -1], r"REFERENCE_BATCH must be in \[0, inf\), got -1"),
    (["SOLVER.FAULTS.NONFINITE_LOSS", "ignore"], "NONFINITE_LOSS must be one of 'stop', 'skip', got 'ignore'"),
    (["SOLVER.FAULTS.OUT_OF_MEMORY", "halve"], "OUT_OF_MEMORY must be one of 'stop', 'skip', 'split', got 'halve'"),
    (["SOLVER.EARLY_STOPPING.PATIENCE", -1], r"PATIENCE must be in \[0, inf\), got -1"),
    (["SOLVER.EARLY_STOPPING.PATIENCE", 3], "PATIENCE is 3, but TEST.BEST_METRIC is empty"),
    (["TEST.BEST_METRIC", "AP"], "TEST.BEST_METRIC must be '' or the name of a metric, got 'AP': bbox/AP, bbox/AP50"),
    (["TEST.BEST_METRIC", "bbox/AP"], "TEST.BEST_METRIC is bbox/AP, but DATASETS.TEST is empty"),
    (
        [*ON_VAL, "TEST.BEST_METRIC", "bbox/AP", "SOLVER.EARLY_STOPPING.PATIENCE", 3],
        "is bbox/AP, but TEST.EVAL_PERIOD is 0",
    ),
    (
        [*ON_VAL, "TEST.BEST_METRIC", "validation/total_loss", "TEST.EVAL_PERIOD", 5],
        "is validation/total_loss, but TEST.LOSS_PERIOD is 0",
    ),
]  # fmt: skip


def merged(cfg, keys):
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 16, 100, ()
    cfg.SOLVER.WARMUP_ITERS, cfg.DATASETS.TEST = 10, ()
    cfg.merge_from_list(keys)
    return cfg


@pytest.mark.parametrize(("keys", "message"), REFUSED, ids=[" ".join(map(str, keys)) for keys, _ in REFUSED])
def test_refused(tiny_cfg, keys, message):
    with pytest.raises(SetupError, match=message):
        check_config(merged(tiny_cfg, keys))


WARNED = [
    (["SOLVER.EMA_DECAY", 0.999], "averages over the last 1000 iterations or so, MAX_ITER is 100"),
    (["SOLVER.ACCUMULATION_STEPS", 4, "MODEL.RETINANET.NORM", "BN"], "batch norms see 4 images a pass, not 16"),
    (["SOLVER.FAULTS.OUT_OF_MEMORY", "split"], "OUT_OF_MEMORY split was removed and acts as skip"),
    (["TEST.LOSS_PERIOD", 5], "TEST.LOSS_PERIOD is 5, but DATASETS.TEST is empty"),
]


@pytest.mark.parametrize(("keys", "message"), WARNED, ids=[" ".join(map(str, keys)) for keys, _ in WARNED])
def test_warned_of(tiny_cfg, keys, message):
    assert any(message in warning for warning in check_config(merged(tiny_cfg, keys)))


@pytest.mark.parametrize(
    "keys",
    [
        ["SOLVER.ACCUMULATION_STEPS", 4, "MODEL.RETINANET.NORM", "GN"],
        ["SOLVER.EMA_DECAY", 0.9],
        ["SOLVER.FAULTS.OUT_OF_MEMORY", "skip"],
        [*ON_VAL, "TEST.BEST_METRIC", "bbox/AP-dog", "TEST.EVAL_PERIOD", 5, "SOLVER.EARLY_STOPPING.PATIENCE", 3],
        [*ON_VAL, "TEST.BEST_METRIC", "validation/val/total_loss", "TEST.LOSS_PERIOD", 5],
        [*ON_VAL, "TEST.BEST_METRIC", "val/bbox/APs"],
    ],
)
def test_taken_without_a_word(tiny_cfg, keys):
    quiet = set(check_config(merged(tiny_cfg.clone(), [])))
    assert set(check_config(merged(tiny_cfg, keys))) == quiet


DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
KEYS = sorted(set(re.findall(r"`((?:MODEL|TEST|SOLVER|INPUT|ANALYSIS|DATASETS)\.[A-Z0-9_.]*[A-Z0-9])", DOCS)))


def test_keys_of_the_page_exist_and_its_defaults_are_off():
    cfg = get_retina_cfg()
    assert len(KEYS) > 15
    assert [key for key in KEYS if get_value(cfg, key) is None] == []  # KeyError for a key that is not there
    for key in ("REFERENCE_BATCH", "EMA_DECAY"):
        assert cfg.SOLVER[key] == 0
    assert (cfg.SOLVER.ACCUMULATION_STEPS, cfg.TEST.LOSS_PERIOD, cfg.TEST.BEST_METRIC) == (1, 0, "")
    assert cfg.SOLVER.EARLY_STOPPING.PATIENCE == 0 and cfg.MODEL.LOAD == "strict"


def test_skipping_for_lack_of_memory_is_of_one_process(monkeypatch):
    cfg = get_retina_cfg()
    quiet = check_config(cfg)
    cfg.SOLVER.FAULTS.OUT_OF_MEMORY = "skip"
    assert check_config(cfg) == quiet
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    assert any("OUT_OF_MEMORY skip works in one process" in warning for warning in check_config(cfg))
