"""RetinaTrainer's own parts; whole runs are in test_cli.py."""

import pytest
import torch
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model

from retina_plugin.errors import RunFault
from retina_plugin.training.hooks.step_guard import StepGuard
from retina_plugin.training.trainer import RetinaTrainer


@pytest.fixture
def model():
    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))


@pytest.mark.parametrize(("name", "kind"), [("SGD", torch.optim.SGD), ("AdamW", torch.optim.AdamW)])
def test_optimizer_is_chosen_by_key(tiny_cfg, model, name, kind):
    tiny_cfg.SOLVER.OPTIMIZER = name
    tiny_cfg.SOLVER.BASE_LR, tiny_cfg.SOLVER.BIAS_LR_FACTOR = 0.5, 2.0
    tiny_cfg.SOLVER.WEIGHT_DECAY, tiny_cfg.SOLVER.WEIGHT_DECAY_NORM = 0.25, 0.0
    optimizer = RetinaTrainer.build_optimizer(tiny_cfg, model)
    assert isinstance(optimizer, kind)
    settings = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert settings[id(model[0].weight)] == (0.5, 0.25)
    assert settings[id(model[0].bias)][0] == 1.0
    assert settings[id(model[1].weight)] == (0.5, 0.0)


def test_adamw_clips_as_sgd_does(tiny_cfg, model):
    tiny_cfg.SOLVER.OPTIMIZER = "AdamW"
    tiny_cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    tiny_cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.125
    optimizer = RetinaTrainer.build_optimizer(tiny_cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, -3.0)
    optimizer.step()
    assert (model[0].weight.grad == -0.125).all()


@pytest.mark.parametrize(
    ("capability", "precision", "last"),
    [("AVX512", "fp32", True), ("AVX2", "fp32", False), ("AVX2", "winograd", True)],
)
def test_model_on_the_cpu_is_channels_last_where_it_pays(tiny_cfg, monkeypatch, capability, precision, last):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    tiny_cfg.MODEL.PRECISION = precision
    torch.manual_seed(0)
    plain = build_model(tiny_cfg).eval()
    torch.manual_seed(0)
    model = RetinaTrainer.build_model(tiny_cfg).eval()
    assert model.head.cls_score.weight.is_contiguous(memory_format=torch.channels_last) == last
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(model.backbone(image).values(), plain.backbone(image).values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize(("said", "error"), [
    ("DataLoader worker (pid 7) is killed by signal: Killed. ", RunFault), ("shapes differ", RuntimeError),
])  # fmt: skip
def test_worker_whose_end_is_heard_of_outside_a_step_is_told(monkeypatch, said, error):
    """As in a hook or a writer, or while the hooks end a run that has failed already."""

    def train(self):
        raise RuntimeError(said)

    monkeypatch.setattr(DefaultTrainer, "train", train)
    trainer = object.__new__(RetinaTrainer)
    guard = StepGuard(nonfinite_loss="stop", out_of_memory="stop")
    monkeypatch.setattr(guard, "describe_lost_worker", lambda said: f"told: {said}")
    trainer._hooks = [guard]
    with pytest.raises(error, match=said[:10]) as stop:
        trainer.train()
    assert str(stop.value).startswith("told: ") == (error is RunFault)
