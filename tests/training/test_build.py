"""Each hook alone in a plain ``DefaultTrainer``, and all of them by ``build_hooks``: every one has its effect."""

import json
import logging
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator
from tiny_coco import make_coco

from retina_plugin.training import build
from retina_plugin.training.build import build_hooks, build_optimizer, warn_of_no_evaluator
from retina_plugin.training.hooks.averaging import WeightAverage
from retina_plugin.training.hooks.best_checkpoint import HISTORY_FILE, BestMetric, MetricHistory
from retina_plugin.training.hooks.early_stopping import EarlyStop, EarlyStoppingHook
from retina_plugin.training.hooks.interruption import Interrupted, InterruptionHook
from retina_plugin.training.hooks.loss_shares import LossShareHook
from retina_plugin.training.hooks.step_guard import StepGuard
from retina_plugin.training.hooks.validation import ValidationLossHook, build_validation_loader
from retina_plugin.training.hooks.wall_time import WallTimeHook
from retina_plugin.training.trainer import RetinaTrainer
from retina_plugin.weights.checkpointer import RetinaCheckpointer

pytest_plugins = ("tiny_sets",)
ITERATIONS = 4


class Scores(DatasetEvaluator):
    """An AP that falls from one evaluation to the next; notes the weights that were evaluated."""

    scores: list[float] = []

    def reset(self):
        pass

    def process(self, inputs, outputs):
        pass

    def evaluate(self):
        self.scores.append(40.0 - 10 * len(self.scores))
        return {"bbox": {"AP": self.scores[-1]}}


class Plain(DefaultTrainer):
    """Detectron2's trainer, as anybody has it."""

    spoils, signals_at = None, None  # an iteration whose loss becomes NaN; one that gets SIGTERM

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return Scores()

    def run_step(self):
        if self.iter == self.signals_at:
            os.kill(os.getpid(), signal.SIGTERM)
        handle = None
        if self.iter == self.spoils:
            handle = self.model.register_forward_hook(
                lambda model, inputs, losses: {name: loss * float("nan") for name, loss in losses.items()}
            )
        try:
            super().run_step()
        finally:
            if handle:
                handle.remove()


class WithHooks(Plain):
    """The three lines of README."""

    def build_hooks(self):
        return build_hooks(self.cfg, self, super().build_hooks())

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)


@pytest.fixture
def cfg(tiny_cfg, register, tmp_path):
    Scores.scores = []
    register(make_coco())
    tiny_cfg.MODEL.RETINANET.NORMALIZER.NAME = "ema"
    tiny_cfg.DATASETS.TRAIN = tiny_cfg.DATASETS.TEST = ("tiny_train",)
    tiny_cfg.DATALOADER.NUM_WORKERS, tiny_cfg.SOLVER.IMS_PER_BATCH = 0, 2
    tiny_cfg.SOLVER.MAX_ITER, tiny_cfg.SOLVER.STEPS, tiny_cfg.SOLVER.WARMUP_ITERS = ITERATIONS, (), 1
    tiny_cfg.INPUT.MIN_SIZE_TRAIN, tiny_cfg.INPUT.MIN_SIZE_TEST = (48,), 48
    tiny_cfg.OUTPUT_DIR, tiny_cfg.SEED = str(tmp_path / "run"), 1
    os.makedirs(tiny_cfg.OUTPUT_DIR)
    return tiny_cfg


@pytest.fixture
def train(cfg):
    """train(hook) or train(lambda trainer: hook) trains a plain trainer with it."""

    def run(make_hook, **attributes):
        trainer = Plain(cfg)
        vars(trainer).update(attributes)
        trainer.register_hooks([make_hook(trainer) if callable(make_hook) else make_hook])
        trainer.train()
        return trainer

    return run


def names(trainer):
    return trainer.storage.histories().keys()


def test_guard_alone_stops(train):
    with pytest.raises(FloatingPointError, match="iteration 2: .* is not finite for"):
        train(StepGuard(nonfinite_loss="stop", out_of_memory="stop"), spoils=2)


def test_guard_alone_skips(train):
    guard = StepGuard(nonfinite_loss="skip", out_of_memory="stop")
    trainer = train(guard, spoils=2)
    assert guard.num_skipped == 1 and trainer.iter == ITERATIONS
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())


def test_average_alone(cfg):
    trainer = Plain(cfg)
    average = WeightAverage(trainer.model, 0.5, trainer.checkpointer)
    trainer.register_hooks([average])
    trainer.train()
    theirs, ours = trainer.model.head.cls_score.weight, average.model.head.cls_score.weight
    assert not torch.equal(theirs, ours)
    trainer.checkpointer.save("last", iteration=trainer.iter)
    again = Plain(cfg)
    resumed = WeightAverage(again.model, 0.5, again.checkpointer)
    again.resume_or_load(resume=True)
    assert torch.equal(resumed.model.head.cls_score.weight, ours)


def test_best_checkpoint_alone(train, cfg):
    cfg.TEST.EVAL_PERIOD = 2

    def make(trainer):
        history = MetricHistory("bbox/AP", Path(cfg.OUTPUT_DIR, HISTORY_FILE))
        return BestMetric(RetinaCheckpointer(trainer.model, cfg.OUTPUT_DIR, tag_last=False), history)

    train(make)
    best = torch.load(f"{cfg.OUTPUT_DIR}/model_best.pth", weights_only=True)
    assert best["metric"] == {"bbox/AP": 40.0} and best["iteration"] == 1


def test_early_stopping_alone(train, cfg):
    cfg.TEST.EVAL_PERIOD = 1
    stopping = EarlyStoppingHook(MetricHistory("bbox/AP", None), patience=1, min_delta=0.0)
    with pytest.raises(SystemExit) as stop:
        train(stopping)
    assert isinstance(stop.value, EarlyStop) and stop.value.code == 0 and stop.value.num_done == 2
    assert torch.load(f"{cfg.OUTPUT_DIR}/model_final.pth", weights_only=True)["iteration"] == 1


def test_validation_losses_alone(train, cfg):
    trainer = train(ValidationLossHook(2, {"tiny_train": partial(build_validation_loader, cfg, "tiny_train")}))
    values = trainer.storage.histories()["validation/total_loss"].values()
    assert [iteration for _, iteration in values] == [1, 3]


def test_loss_shares_alone(train):
    assert {"cls_share/positives", "positives/p3"} <= names(train(LossShareHook(2)))


def test_wall_time_alone(train):
    trainer = train(WallTimeHook())
    assert trainer.state_dict()["hooks"]["WallTimeHook"]["seconds"] > 0


def test_interruption_alone(train, cfg):
    with pytest.raises(Interrupted, match="stopped by SIGTERM after iteration 2 of 4; .*model_0000001.pth is written"):
        train(InterruptionHook(), signals_at=1)
    assert torch.load(f"{cfg.OUTPUT_DIR}/model_0000001.pth", weights_only=True)["iteration"] == 1


def test_all_by_build_hooks(cfg, caplog):
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.EMA_DECAY = "AdamW", 1e-4, 0.5
    cfg.SOLVER.FAULTS.NONFINITE_LOSS = "skip"
    cfg.SOLVER.EARLY_STOPPING.PATIENCE, cfg.TEST.BEST_METRIC = 2, "bbox/AP"
    cfg.TEST.EVAL_PERIOD, cfg.TEST.LOSS_PERIOD, cfg.ANALYSIS.LOSS_CDF_PERIOD, cfg.VIS_PERIOD = 1, 2, 2, 2
    cfg.SOLVER.CHECKPOINT_PERIOD = 2
    trainer = WithHooks(cfg)
    trainer.spoils = 2
    with caplog.at_level(logging.WARNING), pytest.raises(EarlyStop):
        trainer.train()
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert "skipped iteration 2: " in caplog.text and "does not read" not in caplog.text
    assert {"validation/total_loss", "cls_share/positives", "skipped_steps", "bbox/AP"} <= names(trainer)
    history = json.loads(Path(cfg.OUTPUT_DIR, HISTORY_FILE).read_text())
    assert [iteration for iteration, _ in history["values"]] == [0, 1, 2]
    final = torch.load(f"{cfg.OUTPUT_DIR}/model_final.pth", weights_only=True)
    assert {"training_state", "model_ema", "trainer"} <= final.keys() and final["iteration"] == 2
    best = torch.load(f"{cfg.OUTPUT_DIR}/model_best.pth", weights_only=True)
    assert best["iteration"] == 0
    assert final["trainer"]["hooks"]["WallTimeHook"]["seconds"] > 0


@pytest.mark.parametrize(
    ("trainer", "metric", "warned"),
    [
        (DefaultTrainer, "bbox/AP", 1),
        (DefaultTrainer, "validation/total_loss", 0),
        (Plain, "bbox/AP", 0),
        (RetinaTrainer, "bbox/AP", 0),
    ],
)
def test_a_trainer_without_an_evaluator_is_named(monkeypatch, trainer, metric, warned):
    said = []
    monkeypatch.setattr(build.logger, "warning", lambda text, *parts: said.append(text % parts))
    warn_of_no_evaluator(metric, trainer)
    assert [line.startswith("TEST.BEST_METRIC bbox/AP will not be measured") for line in said] == [True] * warned
    assert all("give DefaultTrainer a class method build_evaluator" in line for line in said)
