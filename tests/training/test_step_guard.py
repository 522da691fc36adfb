"""The guard of a training step around a model of one layer: what it sees, what it puts back, what it says."""

import re
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn

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
def guard(tiny_cfg, tmp_path):
    """In the third iteration of a training, with a step begun."""
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    guard = StepGuard(tiny_cfg)
    model = Losses()
    guard.trainer = SimpleNamespace(
        iter=2, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), data_loader=SimpleNamespace(),
        checkpointer=SimpleNamespace(has_checkpoint=lambda: False, get_checkpoint_file=lambda: "none.pth"),
    )  # fmt: skip
    guard.before_train()
    guard.before_step()
    yield guard
    guard.after_train()


def step(guard, batch, *parts) -> None:
    guard.trainer.data_loader.batch = batch
    with guard:
        for part in parts or (batch,):
            sum(guard.trainer.model(part).values()).backward()


def said_of(guard, batch, *parts) -> str:
    with pytest.raises(FloatingPointError) as stop:
        step(guard, batch, *parts)
    return str(stop.value)


def test_forward_passes_outside_a_step_are_not_judged(guard):
    bad = images("inf")
    step(guard, images(1))
    for _ in range(2):  # after a step; after the training
        assert guard.trainer.model(bad)["loss_mean"].isinf()
        guard.after_train()
    assert not guard.trainer.model._forward_hooks


def test_losses_are_those_of_the_whole_step(guard):
    guard.trainer.model(images(1))  # before the step, as losses on a test set
    step(guard, images(1, 2), images(1), images(2))
    assert guard._losses["loss_mean"].item() == 3


def test_step_without_memory_leaves_nothing_of_itself(guard, monkeypatch):
    guard._cfg.SOLVER.FAULTS.OUT_OF_MEMORY = "skip"
    guard.trainer.data_loader.batch = images(5)
    model, held = guard.trainer.model, []

    def run():
        activation = torch.ones(3)
        held.append(weakref.ref(activation))
        sum(model(images(5)).values()).backward()
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        raise OUT_OF_MEMORY

    def empty_cache():
        held.append([parameter.grad for parameter in model.parameters()])

    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    restore = guard._restore
    monkeypatch.setattr(guard, "_restore", lambda: (held.append(held[0]()), restore()))
    with guard:
        run()
    assert held[1:] == [None, [None, None]], "activations and gradients are freed before the memory is given back"
    assert model.norm.running_mean.item() == 0 and model.norm.num_batches_tracked.item() == 0
    assert guard.num_skipped == 1


def test_skipped_step_leaves_no_gradients(guard):
    guard._cfg.SOLVER.FAULTS.NONFINITE_LOSS = "skip"
    step(guard, images(1, "inf"), images(1), images("inf"))
    assert [parameter.grad for parameter in guard.trainer.model.parameters()] == [None, None]
    assert guard.trainer.model.norm.num_batches_tracked.item() == 0


@pytest.mark.parametrize("error", [ValueError("DataLoader worker"), KeyError("image"), RuntimeError("shapes")])
def test_error_of_another_kind_is_left_alone(guard, error):
    with pytest.raises(type(error)) as caught, guard:
        raise error
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
    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.forward = module, module.forward

    said, reduced = [], []
    monkeypatch.setattr(bad_steps.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(bad_steps.comm, "get_rank", lambda: 1)
    monkeypatch.setattr(bad_steps.comm, "all_gather", lambda mine: said.append(mine) or [mine])
    monkeypatch.setattr(bad_steps, "largest_of_all", lambda number: reduced.append(number) or 1)
    model = guard.trainer.model
    guard.after_train()
    guard.trainer.model = Wrapped(model)
    guard.before_train()
    said_of(guard, images(1))
    assert said[0][0] == []  # the other's loss is the bad one
    assert model.norm.num_batches_tracked.item() == 0
    said_of(guard, images("inf"))
    assert said[1] == (["loss_mean"], "inf.jpg", "NaN or infinity in the image of inf.jpg")
    assert reduced == [0, 1]


def test_worker_that_is_lost_ends_the_run(guard):
    with pytest.raises(RunFault, match="iteration 2: DataLoader worker"), guard:
        raise RuntimeError("DataLoader worker (pid 7) is killed")
