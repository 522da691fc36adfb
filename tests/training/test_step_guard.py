"""The guard of a training step around a model of one layer: what it sees, what it puts back, what it says."""

import re
import traceback
import weakref
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from retina_plugin.errors import RunFault
from retina_plugin.training.hooks import step_guard as bad_steps
from retina_plugin.training.hooks.step_guard import MAX_NAMED, StepGuard

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


class Losses(nn.Module):
    """The mean of the images as one loss, of noise as another; its statistics follow the images."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.factor = 1.0

    def forward(self, batch):
        images = torch.stack([record["image"] for record in batch])
        self.norm(images)
        return {"loss_mean": self.factor * images.mean() * self.norm.weight.sum(), "loss_noise": torch.rand(())}


def images(*values, count: int = 1) -> list[dict]:
    return [{"image": torch.full((1, 4, 4), float(value)), "file_name": f"{value}.jpg"} for value in values * count]


@pytest.fixture
def guard(tiny_cfg):
    """In the third iteration of a training."""
    model = Losses()
    trainer = SimpleTrainer(model, [], torch.optim.SGD(model.parameters(), lr=1.0))
    trainer.cfg, trainer.iter = tiny_cfg, 2
    trainer.checkpointer = SimpleNamespace(has_checkpoint=lambda: False, get_checkpoint_file=lambda: "none.pth")
    guard = StepGuard(nonfinite_loss="stop", out_of_memory="stop")
    guard.trainer = trainer
    with EventStorage(2) as trainer.storage:
        guard.before_train()
        yield guard
        guard.after_train()


def step(guard, batch) -> None:
    guard.trainer._data_loader_iter_obj = iter([batch])
    guard.trainer.run_step()


def said_of(guard, batch) -> str:
    before = [parameter.clone() for parameter in guard.trainer.model.parameters()]
    with pytest.raises(FloatingPointError) as stop:
        step(guard, batch)
    assert all(map(torch.equal, before, guard.trainer.model.parameters()))
    return str(stop.value)


def test_guard_is_gone_after_the_training(guard):
    trainer = guard.trainer
    step(guard, images(1))
    assert not trainer.model(images("inf"))["loss_mean"].isfinite(), "a forward pass outside a step is not judged"
    guard.after_train()
    assert "run_step" not in vars(trainer) and "_write_metrics" not in vars(trainer)
    assert not trainer.model._forward_pre_hooks and not trainer.optimizer._optimizer_step_pre_hooks
    guard.before_train()


def test_metrics_are_detectron2_s(guard):
    step(guard, images(1, 2))
    ours = guard.trainer.storage.latest()
    guard.after_train()
    torch.manual_seed(5)
    losses = {name: loss.detach() for name, loss in guard.trainer.model(images(1, 2)).items()}
    with EventStorage(2) as theirs:
        SimpleTrainer.write_metrics(losses, 0.25, 2)
    with EventStorage(2) as guard.trainer.storage:
        guard._write_metrics(losses, 0.25)
    assert ours.keys() == theirs.latest().keys()
    assert guard.trainer.storage.latest() == theirs.latest()
    guard.before_train()


def test_losses_are_read_before_the_optimizer_s_step(guard):
    """Detectron2's option would read them in a thread, after it."""
    guard.after_train()
    guard.trainer.async_write_metrics, guard.trainer.gather_metric_period = True, 20
    guard.before_train()
    assert "the image of inf.jpg" in said_of(guard, images("inf"))


def test_step_without_memory_leaves_nothing_of_itself(guard, monkeypatch):
    guard._skips_out_of_memory = True
    model, held = guard.trainer.model, []

    def lack(*_):
        activation = torch.ones(3)
        held.append(weakref.ref(activation))
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        raise OUT_OF_MEMORY

    def empty_cache():
        held.append([parameter.grad for parameter in model.parameters()])

    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    restore = guard._restore
    monkeypatch.setattr(guard, "_restore", lambda: (held.append(held[0]()), restore()))
    model.norm.weight.grad = torch.ones(1)
    model.register_forward_hook(lack)
    step(guard, images(5))
    assert held[1:] == [None, [None, None]], "activations and gradients are freed before the memory is given back"
    assert model.norm.running_mean.item() == 0 and model.norm.num_batches_tracked.item() == 0
    assert guard.num_skipped == 1


def test_skipped_step_leaves_no_gradients(guard):
    guard._skips_nonfinite = True
    step(guard, images(1, "inf"))
    assert [parameter.grad for parameter in guard.trainer.model.parameters()] == [None, None]
    assert guard.trainer.model.norm.num_batches_tracked.item() == 0


@pytest.mark.parametrize("error", [ValueError("DataLoader worker"), KeyError("image"), RuntimeError("shapes")])
def test_error_of_another_kind_is_left_alone(guard, error):
    def fail(*_):
        raise error

    guard.trainer.model.register_forward_hook(fail)
    with pytest.raises(type(error)) as caught:
        step(guard, images(1))
    assert caught.value is error


def test_weights_that_have_diverged_are_told_from_images(guard):
    guard.trainer.model.factor = torch.nan
    said = said_of(guard, images(1, 2))
    assert "loss_mean is not finite for every image of the batch (1.jpg, 2.jpg): the weights have diverged" in said
    assert said.endswith("No checkpoint was written yet.")


def test_image_whose_loss_alone_is_not_finite_is_named(guard):
    assert "for 3e+38.jpg. Check these images" in said_of(guard, images(1, "3e+38"))


def test_batch_whose_images_are_finite_alone_is_named(guard):
    guard.trainer.model.register_forward_hook(
        lambda model, inputs, losses: {**losses, "loss_mean": losses["loss_mean"] / (len(inputs[0]) < 2)}, prepend=True
    )
    assert re.search(r"for the batch \(1.jpg, 2.jpg\), but for none of its images alone", said_of(guard, images(1, 2)))


def test_many_files_are_counted(guard):
    guard.trainer.model.factor = torch.nan
    said = said_of(guard, images(1, count=MAX_NAMED + 2))
    assert said.count("1.jpg") == MAX_NAMED and "1.jpg and 2 more)" in said
    assert "more)" not in said_of(guard, images(1, count=MAX_NAMED))


def test_processes_name_their_own_images(guard, monkeypatch):
    said, other = [], [torch.tensor([float("nan"), 0.0, 0.5])]

    def all_gather(rows, row):
        rows[0].copy_(row)
        rows[1].copy_(other[0])

    monkeypatch.setattr(bad_steps.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(bad_steps.comm, "all_gather", lambda mine: said.append(mine) or [mine, (["a"], "z.jpg", "")])
    monkeypatch.setattr(bad_steps.dist, "all_gather", all_gather)
    assert said_of(guard, images(1)).startswith("iteration 2: the loss is not finite in process 1 (a): z.jpg. ")
    assert said[0][0] == []  # the other's loss is the bad one
    assert guard.trainer.model.norm.num_batches_tracked.item() == 0
    other[0] = torch.zeros(3)
    said_of(guard, images("inf"))
    assert said[1] == (["loss_mean"], "inf.jpg", "NaN or infinity in the image of inf.jpg")


def test_metrics_of_processes_are_their_mean(guard, monkeypatch):
    def all_gather(rows, row):
        rows[0].copy_(row)
        rows[1].copy_(torch.tensor([5.0, 1.0, 7.0]))

    monkeypatch.setattr(bad_steps.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(bad_steps.dist, "all_gather", all_gather)
    guard._write_metrics({"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(2.0)}, 0.25)
    found = {name: value for name, (value, _) in guard.trainer.storage.latest().items()}
    assert found == {"loss_a": 3.0, "loss_b": 1.5, "total_loss": 4.5, "data_time": 7.0, "rank_data_time": 0.25}


def test_worker_that_is_lost_ends_the_run(guard):
    def fail(*_):
        raise RuntimeError("DataLoader worker (pid 7) is killed")

    guard.trainer.model.register_forward_hook(fail)
    with pytest.raises(RunFault, match="iteration 2: DataLoader worker"):
        step(guard, images(1))


def test_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="out_of_memory must be 'stop' or 'skip', got 'split'"):
        StepGuard(nonfinite_loss="stop", out_of_memory="split")


class Waits(TorchDispatchMode):
    """Notes the reads of a tensor's value in a block, for each of which the host waits for a GPU."""

    def __init__(self):
        super().__init__()
        self.where = []

    def note(self):
        self.where.append("".join(traceback.format_stack(limit=12)))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            self.note()
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waits(monkeypatch):
    waits, tolist = Waits(), torch.Tensor.tolist
    # It reads the memory of a tensor on the CPU without an operation.
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: waits.note() or tolist(tensor))
    return waits


def test_guard_waits_for_the_device_less_often_than_detectron2(guard, waits):
    """Detectron2 reads each loss; the guard reads all of them at once, and nothing else."""
    with waits:
        step(guard, images(1, 2))
    assert len(waits.where) == 1 and "_write_metrics" in waits.where[0]
    guard.after_train()
    guard.trainer._data_loader_iter_obj = iter([images(1, 2)])
    with waits:
        guard.trainer.run_step()
    guard.before_train()
    assert len(waits.where) == 1 + 2
