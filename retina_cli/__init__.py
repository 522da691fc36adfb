"""The command line: ``retina COMMAND``, one module per command.

It stands beside the plugin, not in it: importing retina_plugin takes the seconds of torch and Detectron2, which
``--help`` and a mistyped option need not wait for. So a command imports retina_plugin in its ``run``, and nowhere else.
"""

import os

__all__ = ["UsageError", "leading_path"]


class UsageError(ValueError):
    """A mistake in the arguments, found without retina_plugin. The message has the option, the rule and the remedy."""


def leading_path(words: list[str]) -> tuple[str, list[str]]:
    """Split the words after the options into a path, "" if there is none, and KEY VALUE pairs.

    Pairs are of an even number, so the first of an odd number of words is the path.
    """
    is_key = bool(words) and words[0].isupper() and not os.path.exists(words[0])
    return (words[0], words[1:]) if len(words) % 2 and not is_key else ("", words)
