"""SIGINT and SIGTERM end a training with a checkpoint: the hook, and a whole run that is stopped and resumed."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from retina_plugin.training.hooks.interruption import Interrupted, InterruptionHook


@pytest.fixture(autouse=True)
def ctrl_c_is_not_ignored():
    """As a job in the background of a shell script has it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


class Checkpointer:
    def __init__(self, folder, last=""):
        self.save_dir, self.last, self.saved = str(folder), last, []

    def get_checkpoint_file(self):
        return self.last

    def save(self, name, **extra):
        self.saved.append((name, extra))


@pytest.fixture
def hook(tmp_path):
    """A hook in a training of 10 iterations, at its fourth."""
    hook = InterruptionHook()
    hook.trainer = SimpleNamespace(
        iter=3, start_iter=0, max_iter=10, checkpointer=Checkpointer(tmp_path), run_step=lambda: None
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook.before_train()
    yield hook
    hook.after_train()
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_finishes_the_iteration_and_saves(hook, number, status, capfd):
    os.kill(os.getpid(), number)
    assert "finishing this iteration, then a checkpoint" in capfd.readouterr().err
    with pytest.raises(Interrupted, match=rf"stopped by {number.name} after iteration 4 of 10; .*model_0000003.pth is"):
        hook.after_step()
    assert hook.trainer.checkpointer.saved == [("model_0000003", {"iteration": 3})]
    try:
        hook.after_step()
    except Interrupted as stop:
        assert (stop.status, stop.num_done) == (status, 4)


def test_second_signal_stops_at_once(hook):
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped at once") as stop:
        os.kill(os.getpid(), signal.SIGTERM)
    assert (stop.value.status, stop.value.num_done) == (143, 3)
    assert hook.trainer.checkpointer.saved == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # while the stop is on its way


def test_thread_beside_the_main_one_sets_no_handler():
    before, failed = signal.getsignal(signal.SIGTERM), []

    def begin():
        try:
            hook = InterruptionHook()
            hook.trainer = SimpleNamespace(run_step=None)
            hook.before_train()
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert failed == [] and signal.getsignal(signal.SIGTERM) is before


def test_without_a_signal_nothing_happens(hook):
    hook.after_step()
    assert hook.trainer.checkpointer.saved == []


def test_checkpoint_of_the_iteration_is_not_written_twice(hook, tmp_path):
    hook.trainer.checkpointer.last = str(tmp_path / "model_0000003.pth")
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted):
        hook.after_step()
    assert hook.trainer.checkpointer.saved == []


def test_last_iteration_is_not_interrupted_and_gives_the_signals_back(hook):
    hook.trainer.iter = 9
    os.kill(os.getpid(), signal.SIGINT)
    hook.after_step()
    with pytest.raises(KeyboardInterrupt) as stop:  # Python's own handler again
        os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(stop.value, Interrupted)


def test_signal_that_the_caller_ignores_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        hook = InterruptionHook()
        hook.trainer = SimpleNamespace(run_step=None)
        hook.before_train()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        hook.after_train()
    finally:
        signal.signal(signal.SIGINT, before)


DIED = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")


def run_step(hook, error):
    """A step of the hook's training that ends with an error."""

    def fail():
        raise error

    hook._step = fail
    hook.trainer.run_step()


def test_iteration_that_lost_its_data_ends_as_the_one_before(hook):
    def raise_anywhere(*_):
        raise AssertionError("as torch's handler does")

    former = signal.signal(signal.SIGCHLD, raise_anywhere)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGCHLD)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after iteration 3 of 10; .*model_0000002.pth") as stop:
        run_step(hook, DIED)
    assert hook.trainer.checkpointer.saved == [("model_0000002", {"iteration": 2})]
    assert (stop.value.status, stop.value.num_done) == (143, 3)
    signal.signal(signal.SIGCHLD, former)
    hook._former.pop(signal.SIGCHLD)


def test_first_iteration_that_lost_its_data_leaves_no_checkpoint(hook):
    hook.trainer.start_iter = 3
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted, match="before the first iteration was done"):
        run_step(hook, DIED)
    assert hook.trainer.checkpointer.saved == []


def test_other_errors_are_not_taken_for_an_interruption(hook):
    with pytest.raises(RuntimeError, match="DataLoader"):
        run_step(hook, DIED)  # no signal came: a worker that died of something else
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RuntimeError, match="memory"):
        run_step(hook, RuntimeError("CUDA out of memory"))


def test_worker_of_the_data_loader_is_not_stopped(hook, monkeypatch, capfd):
    monkeypatch.setattr("retina_plugin.training.hooks.interruption.os.getpid", lambda: -1)
    hook._ask(signal.SIGINT, None)
    monkeypatch.undo()
    hook.after_step()
    assert capfd.readouterr().err == ""
