"""The one error that a user can mend: in the config, the data or the weights."""

__all__ = ["SetupError", "user_message"]


class SetupError(ValueError):
    """A mistake found before long work starts.

    The message is one or two lines: the key or file, the rule, the value found, the remedy.
    ``train_net.py`` prints it without a traceback and exits with status 2.
    """


def user_message(error: BaseException) -> str:
    """What an error says to the user. One that crossed a process carries a traceback before its own words."""
    mark = next((f"{kind}: " for kind in _CROSSING if f"{kind}: " in str(error)), None)
    text = str(error).rsplit(mark, 1)[1] if mark else str(error)
    return text.strip() or type(error).__name__


# As a traceback names them: from a data loader's worker or a spawned process.
_CROSSING = (f"{SetupError.__module__}.{SetupError.__name__}", "FloatingPointError")
