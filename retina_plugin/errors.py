"""The error that a user can mend, in the config, the data or the weights; and what a machine does to a run."""

__all__ = ["RunFault", "SetupError", "user_message"]


class SetupError(ValueError):
    """A mistake found before long work starts.

    The message is one or two lines: the key or file, the rule, the value found, the remedy.
    ``train_net.py`` prints it without a traceback and exits with status 2.
    """


class RunFault(RuntimeError):
    """What ended a run from outside: a process or a data loader's worker that was killed, memory that ran out.

    The message is one or two lines: what happened, and how to go on. ``train_net.py`` exits with status 4.
    """


def user_message(error: BaseException) -> str:
    """What an error says to the user. One that crossed a process carries a traceback before its own words."""
    mark = next((f"{kind}: " for kind in _CROSSING if f"{kind}: " in str(error)), None)
    text = str(error).rsplit(mark, 1)[1] if mark else str(error)
    return text.strip() or type(error).__name__


# As a traceback names them: from a data loader's worker or a spawned process.
_CROSSING = (*(f"{kind.__module__}.{kind.__name__}" for kind in (SetupError, RunFault)), "FloatingPointError")
