"""Keys that a trainer reads: named once where a model trains without it, and only there."""

import functools
import logging

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin import get_retina_cfg
from retina_plugin.modeling.trainer_keys import TRAINER_KEYS, claim_keys, set_trainer_keys
from retina_plugin.training.build import build_optimizer
from retina_plugin.training.trainer import RetinaTrainer


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.SOLVER.OPTIMIZER, tiny_cfg.SOLVER.EMA_DECAY, tiny_cfg.SOLVER.ACCUMULATION_STEPS = "AdamW", 0.9, 2
    return tiny_cfg


@pytest.fixture
def warnings_of(batch, caplog):
    def train(model):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="retina_plugin"), EventStorage():
            model.train()
            for _ in range(2):
                sum(model(batch).values()).backward()
        return [record.getMessage() for record in caplog.records if "does not read" in record.getMessage()]

    return train


def test_defaults_are_those_of_the_config():
    cfg = get_retina_cfg()
    assert set_trainer_keys(cfg) == {}
    for keys in TRAINER_KEYS.values():
        for key, default in keys.items():
            value = functools.reduce(lambda node, name: node[name], key.split("."), cfg)
            assert (type(value), value) == (type(default), default), key


def test_model_of_another_trainer_names_its_keys_once(cfg, warnings_of):
    (warning,) = warnings_of(build_model(cfg))
    assert warning == (
        "SOLVER.OPTIMIZER AdamW, SOLVER.EMA_DECAY 0.9, SOLVER.ACCUMULATION_STEPS 2: this trainer does not read what "
        "the config sets. Train with retina_plugin.RetinaTrainer, or add retina_plugin.build_hooks and "
        "retina_plugin.build_optimizer to yours, which does not cover SOLVER.ACCUMULATION_STEPS 2."
    )


def test_key_that_is_read_is_not_named(cfg, warnings_of):
    model = build_model(cfg)
    build_optimizer(cfg, model)
    claim_keys(torch.nn.ModuleDict({"module": model}), "RetinaTrainer")
    (warning,) = warnings_of(model)
    assert warning.startswith("SOLVER.EMA_DECAY 0.9: this trainer") and warning.endswith("build_hooks to yours.")
    assert warnings_of(RetinaTrainer.build_model(cfg)) == []


def test_defaults_need_no_trainer(tiny_cfg, warnings_of):
    assert warnings_of(build_model(tiny_cfg)) == []


def test_evaluation_and_losses_without_gradients_are_no_training(cfg, batch, caplog):
    model = build_model(cfg)
    with torch.no_grad(), EventStorage():
        model.eval()(batch)
        model.train()(batch)
    assert "does not read" not in caplog.text and model.unread_keys
