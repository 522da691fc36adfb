"""What an error and a log line say: characters that are escaped, the user's words, the exit status."""

import io
import logging
import pickle

import pytest

from retina_cli import UsageError
from retina_cli.main import exit_status
from retina_plugin.errors import RunFault, SetupError, first_line, print_error, printable, user_message
from retina_plugin.training.hooks.interruption import Interrupted
from retina_plugin.training.terminal import escape_control_characters

# First and last of each range.
ESCAPED = "\x00\x08\x0b\x1f\x7f\x9f\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ud800\udfff"
# What is beside them, and what joins the letters of a script or the parts of a picture.
KEPT = "\t\n ~\xa0\u061b\u200b\u200c\u200d\u2027\u202f\u2065\u206a\ud7ff\ue000"

HOSTILE_NAME = "<img src=x onerror=alert(1)>&\x1b[2J\x07\u202egnp.png"


@pytest.mark.parametrize("character", ESCAPED, ids=ascii)
def test_character_that_steers_is_escaped(character):
    escaped = printable(f"a{character}b")
    assert escaped == f"a{ascii(character)[1:-1]}b" and escaped.isascii()


@pytest.mark.parametrize("character", KEPT, ids=ascii)
def test_character_beside_them_stays(character):
    assert printable(f"a{character}b") == f"a{character}b"


@pytest.mark.parametrize(("error", "said"), [
    (SetupError("KEY is \x1b[2J"), r"KEY is \x1b[2J"), (KeyError(), "KeyError"), (RuntimeError(" \n"), "RuntimeError"),
    (RuntimeError("Traceback\nretina_plugin.errors.SetupError: a is gone\n"), "a is gone"),
    (RuntimeError("retina_plugin.errors.RunFault: one\nretina_plugin.errors.RunFault: two"), "two"),
    (RuntimeError("Traceback\nFloatingPointError: not finite"), "not finite"),
])  # fmt: skip
def test_user_is_told_the_words_of_the_error(error, said):
    assert user_message(error) == said


@pytest.mark.parametrize(("said", "line"), [("\n one \ntwo", "one"), (" \n", "RuntimeError")])
def test_first_line_is_that_of_the_words_or_the_name_of_the_error(said, line):
    assert first_line(RuntimeError(said)) == line


def test_exit_status_tells_what_ended_the_work(capsys):
    def raising(error):
        def work():
            raise error

        return work

    assert exit_status(lambda: None) == 0 and exit_status(lambda: 1) == 1
    assert exit_status(raising(KeyboardInterrupt())) == 130 and capsys.readouterr().err == ""
    assert exit_status(raising(KeyboardInterrupt()), stopped="go on") == 130 and capsys.readouterr().err == "go on\n"
    assert exit_status(raising(Interrupted("at 3", status=143, num_done=3)), stopped="go on") == 143
    assert capsys.readouterr().err == "at 3\n"
    assert exit_status(raising(UsageError("--a\x1b[2J is\nwrong"))) == 2
    assert capsys.readouterr().err == "error: --a\\x1b[2J is\\nwrong\n"
    assert exit_status(raising(SetupError("KEY is wrong"))) == 2
    assert capsys.readouterr().err == "error: KEY is wrong\n"
    print_error(RunFault("lost with a\x1b[2J\nerror: all is well.png"))
    assert capsys.readouterr().err == "error: lost with a\\x1b[2J\n  error: all is well.png\n"
    assert exit_status(raising(FloatingPointError("loss is nan"))) == 3
    assert exit_status(raising(RunFault("lost"))) == 4
    assert capsys.readouterr().err == "error: loss is nan\nerror: lost\n"
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 / 0)


@pytest.mark.parametrize(("text", "written"), [
    (HOSTILE_NAME, r"<img src=x onerror=alert(1)>&\x1b[2J\x07\u202egnp.png"),
    ("\x1b[32m[11/24]\x1b[0m done", "\x1b[32m[11/24]\x1b[0m done"),  # Detectron2's colours
    ("\x1b[2J\x1b[1;31mred", r"\x1b[2J" + "\x1b[1;31mred"), ("100 % \x1b", r"100 % \x1b"),
    ("a\rb\tc", r"a\rb" + "\tc"),
    ("a\n[11/24 10:00:00 d2]: done", "a\n  [11/24 10:00:00 d2]: done"),
])  # fmt: skip
def test_log_lines_carry_no_control_characters_but_colours(text, written):
    stream = io.StringIO()
    logger, child = logging.getLogger("hostile"), logging.getLogger("hostile.child")
    logger.handlers[:] = [logging.StreamHandler(io.StringIO()), logging.StreamHandler(stream)]
    for _ in range(2):
        escape_control_characters("hostile")
    assert len(logger.handlers[0].filters) == 1
    child.warning("%s", text)
    assert stream.getvalue() == f"{written}\n"


def test_traceback_in_a_log_carries_no_control_characters():
    stream = io.StringIO()
    logger = logging.getLogger("hostile")
    logger.handlers[:] = [logging.StreamHandler(stream)]
    escape_control_characters("hostile")
    try:
        raise RuntimeError(f"{HOSTILE_NAME}\n[11/24 10:00:00 d2]: done")
    except RuntimeError:
        logger.exception("stopped")
    said = stream.getvalue()
    assert said.startswith("stopped\n  Traceback") and "\n  [11/24" in said and r"\x1b[2J\x07\u202egnp.png" in said
    assert "\x1b" not in said and "\u202e" not in said


def test_error_messages_carry_no_control_characters():
    error = SetupError(f"{HOSTILE_NAME} is missing\nsecond line")
    assert str(error) == r"<img src=x onerror=alert(1)>&\x1b[2J\x07\u202egnp.png is missing" + "\nsecond line"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # it crosses processes
    assert printable("Grüße, 猫\t1\n") == "Grüße, 猫\t1\n"
    assert printable("\udc80") == r"\udc80"
