"""The output of every command: nobody reads it any more, it is full, or it lacks a character."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retina_cli import main as program

ROOT = Path(__file__).parents[3]


def run(code: str, stdout, **environment) -> tuple[int, str]:
    """Run Python code in a process of its own; its exit status, and what it says on stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.run(
        [sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, timeout=60
    )
    return process.returncode, process.stderr


@pytest.fixture
def closed_pipe():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "code",
    [
        "import sys; from retina_cli.main import main; sys.exit(main(['--help']))",
        "import sys; from retina_cli.main import main; sys.exit(main(['predict', '--help']))",
        "from retina_cli.streams import *; guard_streams(); [print('x' * 9999) for _ in range(99)]",
        "from retina_cli.streams import *; import logging, sys; guard_streams(); "
        "logging.basicConfig(stream=sys.stdout, level=0); [logging.info('x' * 9999) for _ in range(99)]",
    ],
    ids=["help", "help of a command", "print", "log"],
)
def test_closed_pipe_ends_quietly_with_the_usual_status(closed_pipe, code, unbuffered):
    assert run(code, closed_pipe, PYTHONUNBUFFERED=unbuffered) == (0, "")


def test_command_goes_on_to_its_end_after_the_pipe_is_closed(closed_pipe, tmp_path):
    code = (
        "import pathlib, sys; from retina_cli.main import exit_status, guard_streams\n"
        "def work():\n"
        "    for _ in range(99): print('x' * 9999)\n"
        f"    pathlib.Path({str(tmp_path / 'written')!r}).touch()\n"
        "    return 3\n"
        "guard_streams(); sys.exit(exit_status(work))"
    )
    assert run(code, closed_pipe) == (3, "") and (tmp_path / "written").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_disk_under_the_output_is_one_sentence():
    with open("/dev/full", "w") as full:
        code = "import sys; from retina_cli.main import exit_status, guard_streams; guard_streams(); "
        code += "sys.exit(exit_status(lambda: print('x')))"
        status, said = run(code, full)
    assert status == 2 and said.startswith("error: the output: No space left on device.") and said.count("\n") == 1


def test_character_that_the_output_lacks_is_escaped():
    code = "import sys; from retina_cli.main import main; sys.exit(main(['caf\\xe9\\udcff']))"
    status, said = run(code, subprocess.DEVNULL, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert status == 2 and said.startswith("error: there is no command 'caf\\xe9\\udcff'")


def test_null_character_in_an_argument_is_refused(capsys):
    assert program.main(["predict", "a\0b.pth", "photos"]) == 2
    assert capsys.readouterr().err == "error: an argument holds a null character: 'a\\x00b.pth'\n"


def test_error_of_the_system_is_one_sentence_if_it_names_a_file(capsys):
    def fail(*of_the_error):
        def work():
            raise OSError(*of_the_error)

        return work

    assert program.exit_status(fail(errno.ENOTDIR, "Not a directory", "a\nb/c")) == 2
    assert program.exit_status(fail(errno.ENOSPC, "No space left on device")) == 2
    assert capsys.readouterr().err == (
        "error: a\\nb/c: Not a directory. Check the path, its permissions and its disk.\n"
        "error: the output: No space left on device. Check the path, its permissions and its disk.\n"
    )
    with pytest.raises(OSError, match="nobody knows"):  # a fault of the program
        program.exit_status(fail(errno.EINVAL, "nobody knows"))


def test_lack_of_memory_is_one_sentence(capsys):
    def work():
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes\nframe")

    assert program.exit_status(work) == 4
    said = capsys.readouterr().err
    assert said.startswith("error: Memory ran out: [enforce fail") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["compare", "a", "b", "--samples", "9" * 30],
            "argument --samples: must be from -2147483647 to 2147483647, got 999",
        ),
        (["sample", "--seed", "-1"], "argument --seed: must be from 0 to 2147483647, got -1"),
        (["train", "--num-machines", "0"], "argument --num-machines: must be from 1 to 2147483647, got 0"),
        (["analyze", "imbalance", "--config-file", "a", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["predict", "a", "b", "--score", "nan"], "argument --score: must be a finite number, got nan"),
        (["convert", "", "--output", "x"], "argument input: must be a path, got ''"),
    ],
)
def test_arguments_that_no_command_can_use_are_refused_at_once(capsys, words, message):
    with pytest.raises(SystemExit) as end:
        program.main(words)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_each_process_of_a_training_guards_its_streams(monkeypatch):
    calls = []
    monkeypatch.setattr("retina_cli.train.guard_streams", lambda: calls.append("guard"))
    monkeypatch.setattr("retina_plugin.training.run.run", lambda args: calls.append("train"))
    monkeypatch.setattr("retina_plugin.training.processes.start", lambda work, args: work(args))
    assert program.main(["train", "--config-file", "a.yaml"]) == 0 and calls == ["guard", "train"]
