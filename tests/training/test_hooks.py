"""LossShareHook: the shares by a full sort, and what it leaves in the event storage."""

import math
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventStorage

from retina_plugin import ops
from retina_plugin.config.checks import check_config
from retina_plugin.errors import SetupError
from retina_plugin.modeling.losses import CrossEntropyLoss, FocalLoss, OHEMLoss
from retina_plugin.training.build import build_hooks
from retina_plugin.training.hooks.curves import CurveHook
from retina_plugin.training.hooks.loss_shares import LossShareHook, loss_shares
from retina_plugin.training.hooks.wall_time import WallTimeHook
from retina_plugin.training.trainer import RetinaTrainer


def test_shares_are_those_of_the_sorted_terms():
    # 10 positives and 1000 background anchors of one class, so that 20 % and 1 % are whole numbers of them.
    logits = torch.randn(2, 505, 1) - 2
    labels = torch.ones(2, 505, dtype=torch.long)
    labels[:, :5] = 0
    shares = loss_shares(FocalLoss(gamma=2.0, alpha=0.25), logits, labels)
    term = ops.FocalTerm(gamma=2.0)
    pos, neg = term(logits[labels == 0]), term(-logits[labels == 1])
    total = 0.25 * pos.sum() + 0.75 * neg.sum()
    assert shares["positives"] == pytest.approx(float(0.25 * pos.sum() / total), rel=1e-5)
    assert shares["negatives"] == pytest.approx(1 - shares["positives"])
    # Straight inside a bin of 1/64.
    hardest = float(pos.flatten().topk(2).values.sum() / pos.sum())
    assert shares["hardest_20pct_positives"] == pytest.approx(hardest, abs=0.01)
    hardest = float(neg.flatten().topk(10).values.sum() / neg.sum())
    assert shares["hardest_1pct_negatives"] == pytest.approx(hardest, abs=0.01)


def test_without_alpha_both_groups_weigh_the_same():
    # One positive and one negative term, both at x_t = 0.
    shares = loss_shares(CrossEntropyLoss(alpha=None), torch.zeros(1, 2, 1), torch.tensor([[0, 1]]))
    assert shares["positives"] == shares["negatives"] == pytest.approx(0.5)


def test_share_of_nothing_is_left_out():
    loss = FocalLoss(gamma=2.0, alpha=0.25)
    shares = loss_shares(loss, torch.zeros(1, 3, 1), torch.ones(1, 3, dtype=torch.long))
    assert shares.keys() == {"positives", "negatives", "hardest_1pct_negatives"}
    assert shares["positives"] == 0
    assert loss_shares(loss, torch.zeros(1, 3, 2), torch.full((1, 3), -1)) == {}
    assert loss_shares(loss, torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.long)) == {}


def test_logits_that_are_not_finite_are_left_to_the_trainer():
    logits = torch.tensor([[[math.nan], [0.0]]])
    assert loss_shares(FocalLoss(gamma=2.0, alpha=0.25), logits, torch.tensor([[0, 1]])) == {}


@pytest.fixture
def model():
    """A model of one class layer; ``outputs`` is what its loss gets and gives."""

    class AnchorsOfTwoLevels(torch.nn.Module):
        def forward(self, features):
            return [torch.zeros(2, 4), torch.zeros(4, 4)]

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cls_loss = FocalLoss(gamma=2.0, alpha=0.25)
            self.head_in_features = ["p3", "p4"]
            self.anchor_generator = AnchorsOfTwoLevels()
            self.logits = torch.nn.Parameter(torch.randn(1, 6, 2))
            self.labels = torch.tensor([[0, 1, 2, 2, 2, -1]])

        def forward(self, batch):
            self.anchor_generator(None)
            return {"loss_cls": self.cls_loss(self.logits, self.labels)}

    return Model()


def train(model, period: int, num_iterations: int) -> EventStorage:
    trainer = SimpleTrainer(model, [0] * num_iterations, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks([LossShareHook(period)] if period else [])
    trainer.train(0, num_iterations)
    return trainer.storage


def test_hook_puts_the_shares_once_a_period(model):
    seen = train(model, 3, 7).histories()["cls_share/positives"].values()
    assert [iteration for _, iteration in seen] == [2, 5]
    assert all(0 < share < 1 for share, _ in seen)


def test_hook_counts_the_positives_of_each_level(model):
    latest = train(model, 1, 1).latest()
    # Labels 0, 1 | 2 (background), 2, 2, -1 (ignored).
    assert (latest["positives/p3"][0], latest["positives/p4"][0]) == (2, 0)


def test_hook_changes_no_weight(model):
    start = model.logits.detach().clone()
    train(model, 1, 3)
    with_hook = model.logits.detach().clone()
    with torch.no_grad():
        model.logits.copy_(start)
    train(model, 0, 3)
    assert not torch.equal(start, with_hook)
    assert torch.equal(model.logits, with_hook)


def test_hook_is_gone_after_training_and_after_a_failure(model):
    train(model, 1, 2)
    assert not model.cls_loss._forward_hooks
    model.labels = None
    with pytest.raises(AttributeError):
        train(model, 1, 1)
    assert not model.cls_loss._forward_hooks


def test_hook_finds_the_model_below_distributed_data_parallel(model):
    hook = LossShareHook(1)
    hook.trainer = SimpleNamespace(iter=0, model=SimpleNamespace(module=model))
    hook.before_step()
    with EventStorage() as storage:
        model([])
    assert "cls_share/negatives" in storage.latest()


@pytest.mark.parametrize("loss_name", ["FocalLoss", "OHEMLoss", "FocalLossStar", "CrossEntropyLoss"])
def test_hook_works_with_each_loss_of_the_real_model(tiny_cfg, batch, loss_name):
    tiny_cfg.MODEL.RETINANET.CLS_LOSS_NAME = loss_name
    model = RetinaTrainer.build_model(tiny_cfg)
    hook = LossShareHook(1)
    hook.trainer = SimpleNamespace(iter=0, model=model)
    hook.before_step()
    with EventStorage() as storage:
        model(batch)
    shares = {name: value for name, (value, _) in storage.latest().items() if name.startswith("cls_share/")}
    assert len(shares) == 4
    assert shares["cls_share/positives"] + shares["cls_share/negatives"] == pytest.approx(1)
    assert isinstance(model.cls_loss, OHEMLoss) == (loss_name == "OHEMLoss")


@pytest.mark.parametrize(
    ("period", "model", "expected"), [(0, "FocalRetinaNet", 0), (20, "FocalRetinaNet", 1), (20, "GeneralizedRCNN", 0)]
)
def test_period_of_the_config_makes_the_hook(tiny_cfg, period, model, expected):
    tiny_cfg.ANALYSIS.LOSS_CDF_PERIOD = period
    tiny_cfg.MODEL.META_ARCHITECTURE = model
    checkpointer = SimpleNamespace(add_checkpointable=lambda key, part: None)
    trainer = SimpleNamespace(model=torch.nn.Identity(), checkpointer=checkpointer)
    hooks = build_hooks(tiny_cfg, trainer, [PeriodicWriter([]), None])
    assert sum(isinstance(hook, LossShareHook) for hook in hooks) == expected
    assert isinstance(hooks[-3], PeriodicWriter) and isinstance(hooks[-2], CurveHook)  # which reads what it wrote


def test_negative_period_is_refused(tiny_cfg):
    with pytest.raises(ValueError, match="ANALYSIS.LOSS_CDF_PERIOD"):
        LossShareHook(0)
    tiny_cfg.ANALYSIS.LOSS_CDF_PERIOD = -1
    with pytest.raises(SetupError, match=r"ANALYSIS.LOSS_CDF_PERIOD must be in \[0, inf\), got -1"):
        check_config(tiny_cfg)


def test_seconds_of_earlier_parts_are_added_from_the_checkpoint(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("retina_plugin.training.hooks.wall_time.time.monotonic", lambda: now[0])
    first = WallTimeHook()
    now[0] = 130.0
    kept = first.state_dict()
    now[0] = 150.0  # killed here: 20 seconds after its checkpoint
    second = WallTimeHook()
    second.load_state_dict(kept)
    now[0] = 155.0
    assert second.earlier_seconds == 30.0 and second.state_dict() == {"seconds": 35.0}
