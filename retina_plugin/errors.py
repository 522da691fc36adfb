"""Errors that a user can fix in the config, the data or the weights, and faults of the machine that end a run."""

import re
import sys
from collections.abc import Iterable

__all__ = [
    "EXIT_DIVERGED", "EXIT_INTERRUPTED", "EXIT_SETUP", "EXIT_STATUSES", "RunFault", "SetupError", "count",
    "first_line", "name_some", "one_line", "print_error", "printable", "require", "require_retina_config",
    "user_message",
]  # fmt: skip

EXIT_SETUP = 2  # a mistake that the user can fix
EXIT_DIVERGED = 3  # a loss that is not finite
EXIT_FAULT = 4  # a fault of the machine ended the run; the same command with --resume continues it
EXIT_INTERRUPTED = 130  # the shell's status for Ctrl-C

# Control characters except tab and line feed, characters that change the direction of text (Unicode's Bidi_Control),
# and halves of surrogate pairs, which no stream accepts.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Escape the control characters of ``text`` for a terminal, a log or a page; file names may contain them."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: object) -> str:
    """Escape the control characters of ``text``, the line feed too: for a file name inside a sentence."""
    return printable(str(text)).replace("\n", "\\n")


class SetupError(ValueError):
    """A mistake found before long work starts.

    The message is one or two lines: the key or file, the rule, the value found, the remedy.
    ``train_net.py`` prints it without a traceback and exits with status 2. Control characters in it are escaped.
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(str(message)))


def require(holds: bool, key: str, rule: str, value: object) -> None:
    """Raise a SetupError, "KEY must be RULE, got VALUE", unless the rule of a config key holds."""
    if not holds:
        raise SetupError(f"{key} must be {rule}, got {value!r}")


def require_one_of(value: object, key: str, options: Iterable[object]) -> None:
    """Raise a SetupError unless ``value`` is one of the options of a config key."""
    options = list(options)
    require(value in options, key, "one of " + ", ".join(map(repr, options)), value)


def require_retina_config(cfg) -> None:
    """Raise a SetupError if a Detectron2 config lacks the keys of this plugin."""
    if "CLS_LOSS_NAME" not in cfg.MODEL.RETINANET:
        raise SetupError(
            "the config has no keys of retina_plugin: call retina_plugin.add_retina_config(cfg) right after get_cfg()"
        )


class RunFault(RuntimeError):
    """A fault of the machine that ended a run: a killed process or data loader worker, or lack of memory.

    The message is one or two lines: the fault, and how to continue. ``train_net.py`` exits with status 4.
    """


def user_message(error: BaseException) -> str:
    """Return the error's message, without the traceback before it if the error comes from another process."""
    mark = next((f"{kind}: " for kind in _IN_TRACEBACKS if f"{kind}: " in str(error)), None)
    text = str(error).rsplit(mark, 1)[1] if mark else str(error)
    return text.strip() or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of the error's message, or the name of its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def name_some(names: Iterable[object], most: int = 5) -> str:
    """Join names as "a, b, c and 7 more", ``most`` of them by name."""
    names = [str(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def count(amount: int, noun: str) -> str:
    """ "1 image", "2 images", "2 boxes"."""
    plural = "es" if noun.endswith(("s", "x")) else "s"
    return f"{amount} {noun}{'' if amount == 1 else plural}"


def print_error(error: BaseException) -> None:
    """Print the error on stderr; further lines are indented, so that text in it cannot pass for another message."""
    print(f"error: {printable(user_message(error))}".replace("\n", "\n  "), file=sys.stderr)


# Exit status of a command that ends with such an error.
EXIT_STATUSES = {SetupError: EXIT_SETUP, FloatingPointError: EXIT_DIVERGED, RunFault: EXIT_FAULT}
# Names of errors in the traceback of a data loader worker or a spawned process.
_IN_TRACEBACKS = (*(f"{kind.__module__}.{kind.__name__}" for kind in (SetupError, RunFault)), "FloatingPointError")
