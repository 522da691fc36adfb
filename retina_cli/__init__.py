"""The command line: ``retina COMMAND``, one module per command.

It stands beside the plugin, not in it: importing retina_plugin takes the seconds of torch and Detectron2, which
``--help`` and a mistyped option need not wait for. So a command imports retina_plugin in its ``run``, and nowhere else.
"""

import os
from pathlib import Path

__all__ = ["UsageError", "check_image_folder", "leading_path"]


class UsageError(ValueError):
    """A mistake in the arguments, found without retina_plugin. The message has the option, the rule and the remedy."""


def check_image_folder(folder: Path | None) -> None:
    """Refuse an ``--images`` that is no folder; None passes."""
    if folder and not folder.is_dir():
        raise UsageError(f"--images {folder} is not a folder: give the one where the file names of the images start.")


def leading_path(words: list[str]) -> tuple[str, list[str]]:
    """Split the words after the options into a path, "" if there is none, and KEY VALUE pairs.

    The first word is a path if it exists or the number of words is odd; a word in capitals only if both hold.
    """
    if not words:
        return "", words
    exists, is_odd = os.path.exists(words[0]), len(words) % 2 == 1
    is_path = (exists and is_odd) if words[0].isupper() else (exists or is_odd)
    return (words[0], words[1:]) if is_path else ("", words)
