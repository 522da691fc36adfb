"""One training at a time in a folder: another process is refused, a dead one holds nothing."""

import errno
import json
import os
import signal

import pytest

from retina_plugin import locks
from retina_plugin.errors import SetupError
from retina_plugin.training.folder_lock import FolderLock


@pytest.fixture
def holder(tmp_path):
    """A process that holds ``tmp_path``, and a child of it that inherits the open file."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        with FolderLock() as lock:
            lock.hold(tmp_path)
            if os.fork():
                os.write(write, b"held")
            signal.pause()
        os._exit(0)
    assert os.read(read, 4) == b"held"
    yield pid
    os.killpg(pid, signal.SIGKILL)  # its child too
    os.close(read)
    os.close(write)


def test_second_process_is_refused_by_name(tmp_path, holder):
    with FolderLock() as lock:
        for _ in range(2):
            with pytest.raises(SetupError, match=rf"{tmp_path} is in use by process {holder} on \w"):
                lock.hold(tmp_path)


def test_killed_process_holds_nothing_although_its_child_lives(tmp_path, holder):
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    for name in (".model_0000001.pth.1.part", ".eval_record.json.2.part"):  # the second is no training's
        (tmp_path / name).touch()
    with FolderLock() as lock:
        lock.hold(tmp_path)
        lock.hold(tmp_path)  # once more is nothing
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".eval_record.json.2.part", ".lock"]


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_lock_without_a_signature_names_nobody(tmp_path, holder, text):
    (tmp_path / ".lock").write_text(text)
    with FolderLock() as lock, pytest.raises(SetupError, match="in use by another process"):
        lock.hold(tmp_path)


def test_held_to_the_end_of_the_context(tmp_path):
    with FolderLock() as lock:
        lock.hold(tmp_path / "made")
    read, write = os.pipe()
    if not os.fork():
        with FolderLock() as lock:
            lock.hold(tmp_path / "made")
            os.write(write, b"held")
        os._exit(0)
    assert os.read(read, 4) == b"held"


def test_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(37, "No locks available")

    (tmp_path / ".model_0000001.pth.1.part").touch()  # perhaps of a training that lives
    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    with FolderLock() as lock:
        lock.hold(tmp_path)
    assert "cannot be locked (No locks available): start no second training in it" in caplog.text
    assert (tmp_path / ".model_0000001.pth.1.part").exists()


def test_folder_that_is_held_is_not_opened_again(tmp_path, monkeypatch):
    # To close a second descriptor of the file would give the lock back, for a moment.
    calls = []
    monkeypatch.setattr(locks.fcntl, "lockf", lambda *of: calls.append(of))
    with FolderLock() as lock:
        lock.hold(tmp_path)
        lock.hold(tmp_path)
    assert len(calls) == 1


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_either_error_of_a_held_lock_is_a_refusal(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    with FolderLock() as lock, pytest.raises(SetupError, match="is in use by another process"):
        lock.hold(tmp_path)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with FolderLock() as lock, pytest.raises(SetupError, match="OUTPUT_DIR .*file/run cannot be written to: Not a dir"):
        lock.hold(tmp_path / "file" / "run")
