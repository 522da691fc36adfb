"""``LossNormalizer`` and ``TrainingState``: paper Sec. 4.1, Detectron2's moving average, restarts and workers."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.testing import assert_close

# The workers import this file without conftest.py, and Detectron2 v0.6 has to come after retina_plugin.compat.
from retina_plugin import LossNormalizer, TrainingState, get_retina_cfg  # isort: skip
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling.meta_arch.dense_detector import DenseDetector

EMA = {"name": "ema", "momentum": 0.9, "initial": 100.0, "sync": False}


def divisors(normalizer, counts):
    return [normalizer(torch.tensor(count)).item() for count in counts]


def test_normalizer_ema_by_hand():
    # 0.9 * 100 + 0.1 * 50 = 95; 0.9 * 95 + 0.1 * 1 = 85.6, a count of 0 being 1; 0.9 * 85.6 + 0.1 * 200 = 97.04.
    assert_close(divisors(LossNormalizer(**EMA), [50, 0, 200]), [95.0, 85.6, 97.04])


def test_normalizer_ema_equals_detectron2():
    class Detector:
        pass

    detector, normalizer = Detector(), LossNormalizer(**EMA)
    counts = torch.randint(300, (40,)).tolist() + [0] * 10
    expected = [DenseDetector._ema_update(detector, "loss_normalizer", max(count, 1), 100) for count in counts]
    # 50 steps in fp32, of which each forgets a tenth of the error.
    assert_close(divisors(normalizer, counts), expected, rtol=1e-6, atol=0)
    assert normalizer.average.item() == pytest.approx(detector.loss_normalizer, rel=1e-6)


def test_normalizer_other_momentum_and_start():
    assert_close(divisors(LossNormalizer(**{**EMA, "momentum": 0.5, "initial": 8.0}), [4, 10]), [6.0, 8.0])
    assert_close(divisors(LossNormalizer(**{**EMA, "momentum": 0.0}), [4, 10]), [4.0, 10.0])


def test_normalizer_ema_tends_to_the_least_divisor_without_positives():
    assert divisors(LossNormalizer(**EMA), [0] * 300)[-1] == pytest.approx(1.0, abs=1e-4)


def test_normalizer_batch_is_the_count_and_at_least_one():
    normalizer = LossNormalizer(**{**EMA, "name": "batch"})
    assert divisors(normalizer, [50, 0, 1]) == [50.0, 1.0, 1.0]
    assert normalizer.average.item() == 100.0


def test_normalizer_in_eval_mode_does_not_step():
    normalizer = LossNormalizer(**EMA).eval()
    assert_close(divisors(normalizer, [50, 50]), [95.0, 95.0])
    assert normalizer.average.item() == 100.0


def test_normalizer_returns_no_graph_and_no_alias():
    normalizer = LossNormalizer(**EMA)
    count = torch.tensor(50.0, requires_grad=True)
    first = normalizer(count)
    normalizer(count)
    assert first.item() == 95.0 and count.item() == 50  # the second step changed neither
    assert first.dtype == torch.float32 and first.shape == () and not first.requires_grad


def test_normalizer_from_config():
    cfg = get_retina_cfg()
    node = cfg.MODEL.RETINANET.NORMALIZER
    node.NAME, node.MOMENTUM, node.INITIAL, node.SYNC = "batch", 0.5, 7.0, True
    normalizer = LossNormalizer(cfg)
    assert (normalizer.name, normalizer.momentum, normalizer.sync) == ("batch", 0.5, True)
    assert normalizer.average.item() == 7.0


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"name": "mean"}, r"NORMALIZER.NAME must be one of 'ema', 'batch', got 'mean'"),
        ({"momentum": 1.0}, r"NORMALIZER.MOMENTUM must be in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, "NORMALIZER.MOMENTUM"),
        ({"momentum": float("nan")}, "NORMALIZER.MOMENTUM"),
        ({"initial": 0.0}, r"NORMALIZER.INITIAL must be in \(0, inf\), got 0.0"),
        ({"initial": float("inf")}, "NORMALIZER.INITIAL"),
        ({"initial": float("nan")}, "NORMALIZER.INITIAL"),
    ],
    ids=str,
)
def test_normalizer_refuses_impossible_settings(setting, message):
    with pytest.raises(ValueError, match=message):
        LossNormalizer(**{**EMA, **setting})


# --- Restart ---


def model_with(normalizer):
    model = nn.Linear(2, 2)
    model.loss_normalizer = normalizer
    return model


def test_training_state_restores_the_next_divisor():
    trained = model_with(LossNormalizer(**EMA))
    divisors(trained.loss_normalizer, [50, 3, 8])
    state = TrainingState(trained).state_dict()
    expected = divisors(trained.loss_normalizer, [17])  # a later step does not change what was saved
    restarted = model_with(LossNormalizer(**EMA))
    TrainingState(restarted).load_state_dict(state)
    assert divisors(restarted.loss_normalizer, [17]) == expected
    assert divisors(model_with(LossNormalizer(**EMA)).loss_normalizer, [17]) != expected


def test_training_state_goes_through_detectron2s_checkpointer(tmp_path):
    trained = model_with(LossNormalizer(**EMA))
    divisors(trained.loss_normalizer, [50, 3, 8])
    DetectionCheckpointer(trained, str(tmp_path), training_state=TrainingState(trained)).save("last")
    restarted = model_with(LossNormalizer(**EMA))
    DetectionCheckpointer(restarted, str(tmp_path), training_state=TrainingState(restarted)).resume_or_load("")
    assert restarted.loss_normalizer.average.item() == trained.loss_normalizer.average.item() != 100.0
    # The weights alone have Detectron2's keys.
    weights = torch.load(tmp_path / "last.pth", weights_only=True)["model"]
    assert sorted(weights) == sorted(trained.state_dict()) == ["bias", "weight"]


def test_training_state_of_a_model_without_a_normalizer():
    state = TrainingState(nn.Linear(2, 2))
    assert state.state_dict() == {}
    state.load_state_dict({"loss_normalizer": torch.tensor(3.0)})  # of another model: nothing to restore


# --- Workers ---


def _worker(rank, init_file, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=2)
    count = torch.tensor([10.0, 31.0][rank])
    divided = []
    for name in ("ema", "batch"):
        for sync in (True, False):
            divided.append(LossNormalizer(**{**EMA, "name": name, "sync": sync})(count).item())
    assert count.item() == [10, 31][rank]
    model = nn.parallel.DistributedDataParallel(model_with(LossNormalizer(**EMA)))
    torch.save((divided, sorted(TrainingState(model).state_dict())), f"{results}/{rank}.pth")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_normalizer_over_two_workers(tmp_path):
    mp.spawn(_worker, (str(tmp_path / "init"), str(tmp_path)), nprocs=2)
    (first, first_state), (second, second_state) = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    # Counts 10 and 31 average to 20.5: ema 90 + 2.05, batch 20.5. Alone: 91 and 10, 93.1 and 31.
    assert_close(first, [92.05, 91.0, 20.5, 10.0])
    assert_close(second, [92.05, 93.1, 20.5, 31.0])
    # The wrapper's "module." is no part of the names, so that one process can go on with it.
    assert first_state == second_state == ["loss_normalizer"]


def test_normalizer_sync_in_one_process_is_the_local_count():
    assert not dist.is_initialized()
    assert divisors(LossNormalizer(**{**EMA, "name": "batch", "sync": True}), [5]) == [5.0]
