"""Steps that must not change the weights: stopped or skipped by key, kept in a dump, replayed."""

import logging
import math
import re
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import SimpleTrainer, TrainerBase
from detectron2.utils.events import EventStorage, EventWriter
from torch.multiprocessing import reductions

from retina_plugin import __main__ as program
from retina_plugin.engine import bad_steps
from retina_plugin.engine.accumulation import AccumulatingTrainer
from retina_plugin.engine.bad_steps import MAX_DUMPS, MAX_IN_A_ROW, StepGuard
from retina_plugin.engine.machine_faults import is_out_of_memory
from retina_plugin.engine.replay import replay
from retina_plugin.engine.step_dump import random_state, restore_random_state
from retina_plugin.engine.tolerant_writer import TolerantWriter
from retina_plugin.engine.trainer import LastBatchLoader, RetinaTrainer
from retina_plugin.errors import RunFault


class Training(TrainerBase):
    """Detectron2's loop around a model and given batches, with the guard as RetinaTrainer has it."""

    def __init__(self, cfg, batches, faults=None):
        super().__init__()
        self.model = RetinaTrainer.build_model(cfg).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.data_loader = LastBatchLoader(batches)
        self._trainer = SimpleTrainer(self.model, self.data_loader, self.optimizer)
        self.checkpointer = SimpleNamespace(has_checkpoint=lambda: True, get_checkpoint_file=lambda: "model_5.pth")
        self.guard = StepGuard(cfg)
        self.faults = faults or {}  # iteration -> error of its step
        self.register_hooks([self.guard])

    def run_step(self):
        with self.guard:
            if error := self.faults.get(self.iter):
                next(self._trainer._data_loader_iter)
                raise error
            self._trainer.iter = self.iter
            self._trainer.run_step()


@pytest.fixture
def cfg(tiny_cfg, tmp_path):
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    return tiny_cfg


@pytest.fixture
def batches(make_batch):
    """Four batches of two images each, named by their batch."""
    batches = [make_batch((64, 64, 2), (64, 64, 1)) for _ in range(4)]
    for i, batch in enumerate(batches):
        for image, letter in zip(batch, "ab", strict=True):
            image["file_name"] = f"{letter}{i}.jpg"
    return batches


def spoil_image(record):
    record["image"] = record["image"].float()
    record["image"][0, 3, 3] = float("inf")


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_not_finite_input_stops_before_the_step_and_is_named(cfg, batches):
    spoil_image(batches[1][1])
    training = Training(cfg, batches[:2])
    with pytest.raises(FloatingPointError) as stop:
        training.train(0, 2)
    assert re.search(
        r"^iteration 1: loss_\w+(, loss_\w+)? is not finite: NaN or infinity in the image of b1.jpg. "
        r"Mend the data. The step is kept: retina replay .*bad_steps/iteration_0000001.pth. "
        r"The last checkpoint is model_5.pth.$",
        str(stop.value),
    )
    assert all(value.isfinite().all() for value in training.model.state_dict().values())


def test_skipped_step_changes_nothing(cfg, batches, caplog):
    cfg.SOLVER.FAULTS.NONFINITE_LOSS = "skip"
    cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = "BN", 0  # whose statistics a forward pass changes
    torch.manual_seed(3)
    clean = Training(cfg, [batches[0], batches[2]])
    clean.train(0, 2)
    spoil_image(batches[1][0])
    torch.manual_seed(3)
    training = Training(cfg, batches[:3])
    with caplog.at_level(logging.WARNING):
        training.train(0, 3)
    assert same(weights(clean.model), weights(training.model))
    assert training.model.loss_normalizer.average == clean.model.loss_normalizer.average
    assert training.guard.num_skipped == 1 and training.storage.latest()["skipped_steps"] == (1, 2)
    assert "skipped iteration 1: " in caplog.text and "image of a1.jpg" in caplog.text and "(1 so far)" in caplog.text


def test_too_many_skipped_in_a_row_stop(cfg, make_batch, tmp_path):
    cfg.SOLVER.FAULTS.NONFINITE_LOSS = "skip"
    bad, good = make_batch((64, 64, 1)), make_batch((64, 64, 1))
    spoil_image(bad[0])
    batches = [bad] * (MAX_IN_A_ROW - 1) + [good] + [bad] * MAX_IN_A_ROW
    training = Training(cfg, batches)
    with pytest.raises(FloatingPointError, match=f"It is the {MAX_IN_A_ROW}th skipped in a row.*checkpoint is model_5"):
        training.train(0, len(batches))
    assert training.iter == len(batches) - 1  # a good one between them starts the count afresh
    assert len(list((tmp_path / "bad_steps").iterdir())) == MAX_DUMPS


def test_dump_is_replayed_by_one_command(cfg, batches, tmp_path, capsys):
    spoil_image(batches[1][0])
    training = Training(cfg, batches)
    with pytest.raises(FloatingPointError):
        training.train(0, 2)
    path = tmp_path / "bad_steps" / "iteration_0000001.pth"
    torch.manual_seed(5)  # nothing of this process matters
    assert program.main(["replay", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("iteration 1\n") and text.endswith("the same as in the training\n")
    assert re.search(r"a1.jpg  64 x 64, 2 boxes .* nan .*NaN or infinity in its image", text)
    assert re.search(r"b1.jpg  64 x 64, 1 boxes  loss_cls [0-9.e-]+  loss_box_reg [0-9.e-]+\n", text)
    report = replay(path)
    assert math.isnan(report["now"]["loss_cls"]) and math.isnan(report["then"]["loss_cls"])
    assert report["gradients"] and report["num_gradients"] > len(report["gradients"])


def test_replay_says_where_it_is_another_step(cfg, batches, tmp_path, capsys):
    spoil_image(batches[0][0])
    with pytest.raises(FloatingPointError):
        Training(cfg, batches).train(0, 1)
    path = tmp_path / "bad_steps" / "iteration_0000000.pth"
    dump = torch.load(path, weights_only=True)
    dump["losses"]["loss_cls"] = 1.01
    torch.save(dump, path)
    assert program.main(["replay", str(path)]) == 1
    assert capsys.readouterr().out.endswith("NOT the same as in the training\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a file"),
        (b"nothing", "cannot be read as a dump"),
        ({"model": {}}, "is no dump of a training step"),
    ],
)
def test_what_is_no_dump_is_refused(tmp_path, capsys, content, message):
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    assert program.main(["replay", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_dump_that_cannot_be_written_does_not_hide_the_loss(cfg, batches, tmp_path):
    (tmp_path / "bad_steps").write_text("in the way")
    spoil_image(batches[0][0])
    with pytest.raises(FloatingPointError, match="is not finite.* could not be kept in .*exists"):
        Training(cfg, batches).train(0, 1)


def test_random_state_comes_back():
    import random

    import numpy as np

    state = random_state()
    first = torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()
    restore_random_state(state)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == first


# --- Memory ---

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


def test_out_of_memory_stops_with_the_batch(cfg, batches):
    with pytest.raises(RunFault) as stop:
        Training(cfg, batches, {1: OUT_OF_MEMORY}).train(0, 2)
    assert str(stop.value).startswith(
        "iteration 1: memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB.) with a1.jpg, b1.jpg; height, "
        "width and boxes: (64, 64) 2, (64, 64) 1. Set a smaller INPUT.MAX_SIZE_TRAIN,"
    )
    assert "OUT_OF_MEMORY skip to leave out such a batch, or split to take it in parts" in str(stop.value)
    assert str(stop.value).endswith("checkpoint is model_5.pth.")


def test_out_of_memory_skips_where_asked(cfg, batches, caplog):
    cfg.SOLVER.FAULTS.OUT_OF_MEMORY = "skip"
    torch.manual_seed(3)
    clean = Training(cfg, [batches[0], batches[2]])
    clean.train(0, 2)
    torch.manual_seed(3)
    training = Training(cfg, batches, {1: OUT_OF_MEMORY})
    training.train(0, 3)
    assert same(weights(clean.model), weights(training.model)) and training.guard.num_skipped == 1


def test_out_of_memory_splits_where_asked(cfg, batches, caplog):
    cfg.MODEL.RETINANET.NORMALIZER.NAME = "ema"

    def train(fits):
        torch.manual_seed(3)
        training = Training(cfg, batches)
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
def test_remedy_is_none_that_was_tried(cfg, batches, choice, size, remedy, not_said):
    cfg.SOLVER.FAULTS.OUT_OF_MEMORY = choice
    with pytest.raises(RunFault) as stop:
        Training(cfg, [batch[:size] for batch in batches], {1: OUT_OF_MEMORY}).train(0, 2)
    assert remedy in str(stop.value) and not_said not in str(stop.value)


def test_lack_of_memory_while_the_weights_change_is_not_skipped(cfg, batches):
    cfg.SOLVER.FAULTS.OUT_OF_MEMORY = "skip"
    training = Training(cfg, batches)

    class Lacking(torch.optim.SGD):
        def step(self, closure=None):
            raise OUT_OF_MEMORY

    training.optimizer = training._trainer.optimizer = Lacking(training.model.parameters())
    with pytest.raises(RunFault, match="It was while the weights were changed, .* checkpoint is model_5.pth. Go on"):
        training.train(0, 2)


def test_batch_in_parts_begins_with_the_random_numbers_of_its_own_attempt(cfg, batches):
    training = Training(cfg, batches)
    states = []

    def fail(module, inputs, losses):
        states.append(training.guard._random_state["torch"].clone())
        torch.rand(1)
        if len(states) == 1:
            raise OUT_OF_MEMORY

    training.model.register_forward_hook(fail)
    training._trainer = AccumulatingTrainer(
        training.model, training.data_loader, training.optimizer, num_parts=1, amp=False,
        before_split=training.guard.begin_again,
    )  # fmt: skip
    training.train(0, 1)
    assert len(states) == 3 and not torch.equal(states[0], states[1]) and torch.equal(states[1], states[2])


def test_real_lack_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


# --- Several processes ---


def test_processes_agree_and_name_the_files(cfg, batches, monkeypatch):
    reduced = []
    monkeypatch.setattr(bad_steps.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(bad_steps.comm, "all_gather", lambda said: [said, (["loss_cls"], "z.jpg", "")])
    monkeypatch.setattr(bad_steps.dist, "all_reduce", lambda flag, op: (reduced.append(flag.item()), flag.fill_(1.0)))
    with pytest.raises(
        FloatingPointError, match="iteration 0: the loss is not finite in process 1 .loss_cls.: z.jpg. The"
    ):
        Training(cfg, batches).train(0, 1)
    assert reduced == [0.0]  # this process's own loss was finite, and it stops with the other


# --- What reads images, what writes metrics ---


def test_killed_data_loader_worker_is_told(cfg, batches):
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore")
    with pytest.raises(RunFault) as stop:
        Training(cfg, batches, {1: error}).train(0, 2)
    assert str(stop.value).startswith(
        "iteration 1: DataLoader worker (pid 7) is killed by signal: Killed. A process that"
    )
    assert "DATALOADER.NUM_WORKERS (now 4)" in str(stop.value) and "--resume" in str(stop.value)


class Gone:
    """In place of what a worker hands over, once it has ended."""

    def detach(self):
        raise ConnectionResetError(104, "Connection reset by peer")


def test_worker_killed_while_it_hands_over_an_image_is_told(cfg, batches):
    with pytest.raises(ConnectionResetError) as error:
        reductions.rebuild_storage_fd(torch.UntypedStorage, Gone(), 4)
    with pytest.raises(RunFault, match="iteration 1: a DataLoader worker ended while it handed over an image .*reset"):
        Training(cfg, batches, {1: error.value}).train(0, 2)
    with pytest.raises(ConnectionResetError, match="own"):
        Training(cfg, batches, {1: ConnectionResetError("own")}).train(0, 2)


class Failing(EventWriter):
    def __init__(self):
        self.calls = 0

    def write(self):
        self.calls += 1
        raise OSError(28, "No space left on device")


def test_writer_that_fails_is_not_called_again(caplog):
    failing = Failing()
    writer = TolerantWriter(failing)
    with EventStorage():
        writer.write()
        writer.write()
    writer.close()
    assert failing.calls == 1 and caplog.text.count("Failing cannot write ([Errno 28] No space left on device)") == 1


def test_writer_is_closed():
    closed = []
    writer = Failing()
    writer.close = lambda: closed.append(True)
    TolerantWriter(writer).close()
    assert closed == [True]


def test_other_errors_of_a_writer_are_not_hidden():
    failing = Failing()
    failing.write = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        TolerantWriter(failing).write()
