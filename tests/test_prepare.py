"""The one way from a config file to a checked config: what each use does, and that no program has its own."""

import os
import re
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

import retina_plugin
from retina_plugin.errors import SetupError
from retina_plugin.prepare import USES, prepare

pytest_plugins = ("tiny_sets", "tiny_analysis")


@pytest.fixture
def config(config_file, tmp_path, monkeypatch) -> str:
    """The file of a config that leaves to the data and the machine what it can; the test runs in an empty folder."""
    text = (
        config_file.read_text().replace("NUM_CLASSES: 2", "NUM_CLASSES: 0").replace("NUM_CLASSES: 80", "NUM_CLASSES: 0")
    )
    config_file.write_text(text)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return str(config_file)


def test_look_registers_the_sets_and_nothing_more(config):
    cfg = prepare(config, ["MODEL.DEVICE", "nonsense", "SOLVER.MAX_ITER", "0"], use="look").cfg
    assert not cfg.is_frozen() and cfg.MODEL.RETINANET.NUM_CLASSES == 0 and "tiny_train" in DatasetCatalog


@pytest.mark.parametrize("use", USES[1:])
def test_every_other_use_counts_the_classes_checks_the_values_and_freezes(config, use):
    prepared = prepare(config, use=use)
    assert prepared.cfg.is_frozen() and prepared.cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert (prepared.data is None) == (use == "model")
    with pytest.raises(SetupError, match="SOLVER.MAX_ITER"):
        prepare(config, ["SOLVER.MAX_ITER", "0"], use=use)
    with pytest.raises(SetupError, match="'FocalLos'"):
        prepare(config, ["MODEL.RETINANET.CLS_LOSS_NAME", "FocalLos"], use=use)
    with pytest.raises(SetupError, match="MODEL.DEVICE 'gpu' is not one of torch's"):
        prepare(config, ["MODEL.DEVICE", "gpu"], use=use)
    assert os.listdir() == []  # no output


def test_data_that_is_needed_is_checked_by_its_split(config):
    missing = ["DATASETS.TRAIN", "('none',)"]
    assert list(prepare(config, missing, use="data", split="test").data.sets) == ["tiny_train"]
    for split in ("train", "both"):
        with pytest.raises(SetupError, match="DATASETS.TRAIN names 'none'"):
            prepare(config, missing, use="data", split=split)
    cfg = prepare(config, ["DATASETS.TEST", "('none',)"], use="data", split="train").cfg
    assert cfg.DATASETS.TEST == ()
    prepare(config, missing, use="model")  # reads no data set


def test_a_run_has_a_seed_a_scaled_schedule_and_weights(config, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 3}, raising=False)
    words = ["SOLVER.REFERENCE_BATCH", "8", "SOLVER.IMS_PER_BATCH", "16", "SOLVER.MAX_ITER", "100",
             "SOLVER.STEPS", "(50,)", "DATALOADER.NUM_WORKERS", "8"]  # fmt: skip
    cfg = prepare(config, words, use="run").cfg
    assert cfg.SEED >= 0 and cfg.SOLVER.MAX_ITER == 50 and cfg.DATALOADER.NUM_WORKERS == 3
    assert prepare(config, ["SEED", "7"], use="run").cfg.SEED == 7
    cfg = prepare(config, words, use="data").cfg
    assert (cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.DATALOADER.NUM_WORKERS) == (-1, 100, 8)
    gone = ["MODEL.WEIGHTS", "gone.pth"]
    with pytest.raises(SetupError, match="MODEL.WEIGHTS gone.pth is not a file"):
        prepare(config, gone, use="run")
    prepare(config, gone, use="data")


def test_a_cfg_is_taken_too_and_not_changed(config, tiny_cfg):
    tiny_cfg.freeze()
    before = tiny_cfg.dump()
    assert prepare(tiny_cfg, ["SEED", 3], use="run").cfg.SEED == 3
    assert tiny_cfg.dump() == before and tiny_cfg.is_frozen()


def test_no_other_module_has_a_preamble_of_its_own():
    package = Path(retina_plugin.__file__).parent
    steps = ("register_config_datasets", "check_config", "scale_to_batch", "refuse_unread_keys", "pick_device")
    calls = {step: set() for step in steps}
    for path in package.rglob("*.py"):
        for step in re.findall(rf"(?<!def )\b({'|'.join(steps)})\(", path.read_text()):
            calls[step].add(path.relative_to(package).as_posix())
    assert calls.pop("scale_to_batch") == {"prepare.py", "training/trainer.py"}  # RetinaTrainer works alone too
    assert calls.pop("refuse_unread_keys") == {"prepare.py", "apps/doctor/examination.py"}  # which lists all faults
    assert set(map(frozenset, calls.values())) == {frozenset({"prepare.py"})}
