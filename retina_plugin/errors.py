"""The one error that a user can mend: in the config, the data or the weights."""

__all__ = ["SetupError"]


class SetupError(ValueError):
    """A mistake found before long work starts.

    The message is one or two lines: the key or file, the rule, the value found, the remedy.
    ``train_net.py`` prints it without a traceback and exits with status 2.
    """
