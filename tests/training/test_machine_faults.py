"""Memory that runs out and readers that are ended: told, skipped or split by key."""

import pytest
import torch
from guarded_training import Training, same, weights
from torch.multiprocessing import reductions

from retina_plugin.errors import RunFault
from retina_plugin.training.accumulation import AccumulatingTrainer
from retina_plugin.training.machine_faults import is_out_of_memory

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
    assert "OUT_OF_MEMORY skip to leave out such a batch, or split to take it in parts" in str(stop.value)
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


def test_out_of_memory_splits_where_asked(guard_cfg, guard_batches, caplog):
    guard_cfg.MODEL.RETINANET.NORMALIZER.NAME = "ema"

    def train(fits):
        torch.manual_seed(3)
        training = Training(guard_cfg, guard_batches)
        training._trainer = AccumulatingTrainer(
            training.model, training.data_loader, training.optimizer, num_parts=1, amp=False,
            before_split=training.guard.begin_again,
        )  # fmt: skip

        def fail(module, inputs, losses):
            if training.iter == 1 and len(inputs[0]) > fits:
                raise OUT_OF_MEMORY

        training.model.register_forward_hook(fail)
        training.train(0, 3)
        return training

    whole, parts = train(fits=2), train(fits=1)
    assert "memory ran out" in caplog.text and "a1.jpg, b1.jpg" in caplog.text and "taken in 2 parts" in caplog.text
    assert parts.guard.num_skipped == whole.guard.num_split == 0 and parts.guard.num_split == 1
    for name, value in weights(whole.model).items():
        torch.testing.assert_close(weights(parts.model)[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("choice", "size", "remedy", "not_said"), [
    ("stop", 1, ". Set a smaller INPUT.MAX_SIZE_TRAIN, or SOLVER.FAULTS.OUT_OF_MEMORY skip", "split"),
    ("split", 2, ". Not even single images fit. Set a smaller INPUT.MAX_SIZE_TRAIN", "split to take"),
])  # fmt: skip
def test_remedy_is_none_that_was_tried(guard_cfg, guard_batches, choice, size, remedy, not_said):
    guard_cfg.SOLVER.FAULTS.OUT_OF_MEMORY = choice
    with pytest.raises(RunFault) as stop:
        Training(guard_cfg, [batch[:size] for batch in guard_batches], {1: OUT_OF_MEMORY}).train(0, 2)
    assert remedy in str(stop.value) and not_said not in str(stop.value)


def test_lack_of_memory_while_the_weights_change_is_not_skipped(guard_cfg, guard_batches):
    guard_cfg.SOLVER.FAULTS.OUT_OF_MEMORY = "skip"
    training = Training(guard_cfg, guard_batches)

    class Lacking(torch.optim.SGD):
        def step(self, closure=None):
            raise OUT_OF_MEMORY

    training.optimizer = training._trainer.optimizer = Lacking(training.model.parameters())
    with pytest.raises(RunFault, match="It was while the weights were changed, .* checkpoint is model_5.pth. Go on"):
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
