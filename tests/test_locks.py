"""Without what Windows lacks: locks by msvcrt or none, and commands that need no fcntl, resource or SIGKILL."""

import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from retina_plugin import locks
from retina_plugin.errors import SetupError
from retina_plugin.locks import keep_in_child, lock_file
from retina_plugin.training.folder_lock import FolderLock

# In place of Windows: its modules are not there for the plugin's own files, and its signals nowhere.
HIDE = """
import builtins, signal, sys
HIDDEN = "fcntl", "resource", "pwd", "termios"
real = builtins.__import__
def without(name, globals=None, *rest, **more):
    if name in HIDDEN and str((globals or {}).get("__name__", "")).startswith("retina_"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, *rest, **more)
builtins.__import__ = without
import multiprocessing.process, torch, detectron2.engine, matplotlib.figure  # these know Windows themselves
import types
sys.modules["msvcrt"] = types.SimpleNamespace(locking=lambda descriptor, mode, number: None, LK_NBLCK=2)
for name in ("SIGKILL", "SIGCHLD", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGPIPE"):
    delattr(signal, name)
"""
COMMANDS = """
import importlib, pkgutil
import retina_plugin, retina_cli
from retina_cli.main import main
for package in (retina_plugin, retina_cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
assert main(["study", "list"]) == 0
run = ["study", "run", "prior", "--config-file", sys.argv[1], "--dry-run", "--output", "st"]
assert main(run) == 2  # COCO is not here
from pathlib import Path
from retina_plugin.apps.study.results import file_lock
with file_lock(Path("st", "lock")):
    pass
assert main(["study", "report", "--input", "st"]) == 2
"""


def test_every_module_and_the_study_do_without(tmp_path, pytestconfig):
    root = pytestconfig.rootpath
    done = subprocess.run(
        [sys.executable, "-c", HIDE + COMMANDS, str(root / "configs/retina_R18_FPN_scratch.yaml")],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def windows(monkeypatch):
    """Locks of bytes as msvcrt makes them; the set of those that are held."""
    held = set()

    def locking(descriptor, mode, number):
        assert (mode, number) == (2, 1) and os.lseek(descriptor, 0, os.SEEK_CUR) == locks.LOCKED_BYTE
        if (place := os.fstat(descriptor).st_ino) in held:
            raise PermissionError(13, "Permission denied")
        held.add(place)

    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    return held


def test_a_folder_is_locked_on_windows_too(windows, tmp_path):
    with FolderLock() as lock:
        lock.hold(tmp_path)
        assert (tmp_path / ".lock").read_text().startswith('{"pid": ')
        with FolderLock() as other, pytest.raises(SetupError, match=f"in use by process {os.getpid()} on"):
            other.hold(tmp_path)


def test_waiting_for_a_lock_on_windows(windows, tmp_path, monkeypatch):
    with (tmp_path / "a").open("w") as file:
        lock_file(file)
        with pytest.raises(BlockingIOError, match="is locked by another process"):
            lock_file(file)
        monkeypatch.setattr(locks.time, "sleep", lambda seconds: windows.clear())
        lock_file(file, wait=True)
        assert len(windows) == 1 and keep_in_child(file) == {}


def test_without_any_locks_a_training_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("retina_plugin"), "propagate", True)  # setup_logger ends it
    monkeypatch.setattr(locks, "fcntl", None)
    with caplog.at_level(logging.WARNING), FolderLock() as lock:
        lock.hold(tmp_path)
    assert "cannot be locked (this Python has neither fcntl nor msvcrt): start no second training" in caplog.text
