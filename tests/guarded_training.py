"""A training around a tiny model whose steps the guard watches, and batches for it."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import SimpleTrainer, TrainerBase

from retina_plugin.training.hooks.step_guard import StepGuard
from retina_plugin.training.trainer import RetinaTrainer


class Training(TrainerBase):
    """Detectron2's loop around a model and given batches, with the guard as its hook."""

    def __init__(self, cfg, batches, faults=None):
        super().__init__()
        self.cfg = cfg
        self.model = RetinaTrainer.build_model(cfg).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.data_loader = batches
        self._trainer = SimpleTrainer(self.model, self.data_loader, self.optimizer)
        self.checkpointer = SimpleNamespace(has_checkpoint=lambda: True, get_checkpoint_file=lambda: "model_5.pth")
        memory = "stop" if cfg.SOLVER.FAULTS.OUT_OF_MEMORY == "stop" else "skip"
        self.guard = StepGuard(nonfinite_loss=cfg.SOLVER.FAULTS.NONFINITE_LOSS, out_of_memory=memory)
        self.faults = faults or {}  # iteration -> error of its step, after the forward pass
        self.model.register_forward_hook(self._fail)
        self.register_hooks([self.guard])

    def _fail(self, *_):
        if error := self.faults.get(self.iter):
            raise error

    def run_step(self):
        self._trainer.iter = self.iter
        self._trainer.run_step()


@pytest.fixture
def guard_cfg(tiny_cfg, tmp_path):
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    return tiny_cfg


@pytest.fixture
def guard_batches(make_batch):
    """Four batches of two images each, named by their batch."""
    batches = [make_batch((64, 64, 2), (64, 64, 1)) for _ in range(4)]
    for i, batch in enumerate(batches):
        for image, letter in zip(batch, "ab", strict=True):
            image["file_name"] = f"{letter}{i}.jpg"
    return batches


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)
