"""The schedule scaled to another batch, by the plugin's key and by Detectron2's."""

import pytest

from retina_plugin import SetupError
from retina_plugin.config.batch_scaling import scale_to_batch
from retina_plugin.config.checks import check_config
from retina_plugin.training.trainer import RetinaTrainer


@pytest.fixture
def written_for_16(tiny_cfg):
    solver = tiny_cfg.SOLVER
    solver.REFERENCE_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.STEPS = 16, 0.01, 900, (600, 800)
    solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD = 50, 100
    tiny_cfg.TEST.EVAL_PERIOD, tiny_cfg.TEST.LOSS_PERIOD = 200, 20
    return tiny_cfg


def schedule(cfg):
    solver = cfg.SOLVER
    return (
        solver.BASE_LR, solver.MAX_ITER, tuple(solver.STEPS), solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD,
        cfg.TEST.EVAL_PERIOD, cfg.TEST.LOSS_PERIOD,
    )  # fmt: skip


def test_quarter_of_the_batch_by_hand(written_for_16, caplog):
    written_for_16.SOLVER.IMS_PER_BATCH = 4
    with caplog.at_level("INFO", logger="retina_plugin"):
        scaled = scale_to_batch(written_for_16)
    assert "REFERENCE_BATCH 16, IMS_PER_BATCH 4: BASE_LR 0.01 -> 0.0025, MAX_ITER 900 -> 3600" in caplog.text
    assert schedule(scaled) == (0.0025, 3600, (2400, 3200), 200, 400, 800, 80)
    assert scaled.SOLVER.IMS_PER_BATCH == scaled.SOLVER.REFERENCE_BATCH == 4
    assert scaled.SOLVER.REFERENCE_WORLD_SIZE == 0
    assert schedule(written_for_16)[:2] == (0.01, 900), "the config given is left as it was"


def test_second_call_changes_nothing(written_for_16):
    written_for_16.SOLVER.IMS_PER_BATCH = 4
    scaled = scale_to_batch(written_for_16)
    assert scale_to_batch(scaled) is scaled


@pytest.mark.parametrize(("reference", "batch"), [(0, 4), (16, 16)])
def test_nothing_to_scale(written_for_16, reference, batch):
    written_for_16.SOLVER.REFERENCE_BATCH, written_for_16.SOLVER.IMS_PER_BATCH = reference, batch
    assert scale_to_batch(written_for_16) is written_for_16


def test_large_batch_keeps_periods_on_and_the_config_frozen(written_for_16):
    written_for_16.SOLVER.IMS_PER_BATCH = 1600
    written_for_16.TEST.LOSS_PERIOD = 5
    written_for_16.freeze()
    scaled = scale_to_batch(written_for_16)
    assert schedule(scaled) == (1.0, 9, (6, 8), 0, 1, 2, 1)
    assert scaled.is_frozen()


def test_both_keys_are_refused(written_for_16):
    written_for_16.SOLVER.IMS_PER_BATCH, written_for_16.SOLVER.REFERENCE_WORLD_SIZE = 4, 8
    with pytest.raises(SetupError, match="REFERENCE_BATCH 16 and SOLVER.REFERENCE_WORLD_SIZE 8 must not both be set"):
        scale_to_batch(written_for_16)


def test_detectron2_s_own_key_works_in_one_process(written_for_16):
    written_for_16.SOLVER.REFERENCE_BATCH, written_for_16.SOLVER.REFERENCE_WORLD_SIZE = 0, 8
    written_for_16.SOLVER.IMS_PER_BATCH = 16
    check_config(written_for_16)
    scaled = RetinaTrainer.auto_scale_workers(written_for_16, 1)
    assert (scaled.SOLVER.IMS_PER_BATCH, *schedule(scaled)[:3]) == (2, 0.00125, 7200, (4800, 6400))
