"""Memory that runs out and readers that are ended: reported, or skipped by key."""

import pytest
import torch
from guarded_training import Training, same, weights
from torch.multiprocessing import reductions

from retina_plugin.errors import RunFault
from retina_plugin.training.hooks import step_guard
from retina_plugin.training.hooks.step_guard import is_out_of_memory

pytest_plugins = ("guarded_training",)


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 0 bytes free")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OUT_OF_MEMORY, True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you ..."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError("can't allocate memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error, expected):
    assert is_out_of_memory(error) == expected


def test_out_of_memory_stops_with_the_batch(guard_cfg, guard_batches):
    with pytest.raises(RunFault) as stop:
        Training(guard_cfg, guard_batches, {1: OUT_OF_MEMORY}).train(0, 2)
    assert str(stop.value).startswith(
        "iteration 1: memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB.) with a1.jpg, b1.jpg; height, "
        "width and boxes: (64, 64) 2, (64, 64) 1. Set a smaller INPUT.MAX_SIZE_TRAIN,"
    )
    assert "OUT_OF_MEMORY skip to leave out such a batch, or SOLVER.ACCUMULATION_STEPS 2 to take" in str(stop.value)
    assert str(stop.value).endswith("checkpoint is model_5.pth.")


def test_out_of_memory_skips_where_asked(guard_cfg, guard_batches, caplog):
    guard_cfg.SOLVER.FAULTS.OUT_OF_MEMORY = "skip"
    torch.manual_seed(3)
    clean = Training(guard_cfg, [guard_batches[0], guard_batches[2]])
    clean.train(0, 2)
    torch.manual_seed(3)
    training = Training(guard_cfg, guard_batches, {1: OUT_OF_MEMORY})
    training.train(0, 3)
    assert same(weights(clean.model), weights(training.model)) and training.guard.num_skipped == 1


@pytest.mark.parametrize("choice", ["skip", "split"])  # the removed value acts as skip
def test_lack_of_memory_of_one_of_several_processes_ends_the_run(guard_cfg, guard_batches, monkeypatch, choice):
    guard_cfg.SOLVER.FAULTS.OUT_OF_MEMORY = choice
    training = Training(guard_cfg, guard_batches, {1: OUT_OF_MEMORY})
    training.train(0, 2)
    assert training.guard.num_skipped == 1
    monkeypatch.setattr(step_guard.comm, "get_world_size", lambda: 2)
    with pytest.raises(RunFault, match="Set a smaller INPUT.MAX_SIZE_TRAIN, or SOLVER.ACCUMULATION_STEPS 2"):
        Training(guard_cfg, guard_batches, {0: OUT_OF_MEMORY}).train(0, 1)


def test_lack_of_memory_while_the_weights_change_is_not_skipped(guard_cfg, guard_batches):
    guard_cfg.SOLVER.FAULTS.OUT_OF_MEMORY = "skip"
    training = Training(guard_cfg, guard_batches)

    class Lacking(torch.optim.SGD):
        def step(self, closure=None):
            raise OUT_OF_MEMORY

    training.optimizer = training._trainer.optimizer = Lacking(training.model.parameters())
    with pytest.raises(RunFault, match="during the update of the weights, .* checkpoint is model_5.pth. Go on"):
        training.train(0, 2)


def test_real_lack_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_killed_data_loader_worker_is_told(guard_cfg, guard_batches):
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore")
    with pytest.raises(RunFault) as stop:
        Training(guard_cfg, guard_batches, {1: error}).train(0, 2)
    assert str(stop.value).startswith(
        "iteration 1: DataLoader worker (pid 7) is killed by signal: Killed. A process that"
    )
    assert "DATALOADER.NUM_WORKERS (now 4)" in str(stop.value) and "--resume" in str(stop.value)


class Gone:
    """In place of what a worker hands over, once it has ended."""

    def detach(self):
        raise ConnectionResetError(104, "Connection reset by peer")


def test_worker_killed_while_it_hands_over_an_image_is_told(guard_cfg, guard_batches):
    with pytest.raises(ConnectionResetError) as error:
        reductions.rebuild_storage_fd(torch.UntypedStorage, Gone(), 4)
    with pytest.raises(RunFault, match="iteration 1: a DataLoader worker ended while it handed over an image .*reset"):
        Training(guard_cfg, guard_batches, {1: error.value}).train(0, 2)
    with pytest.raises(ConnectionResetError, match="own"):
        Training(guard_cfg, guard_batches, {1: ConnectionResetError("own")}).train(0, 2)
