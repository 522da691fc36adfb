"""Types of arguments: numbers in a range that the libraries below can hold, and paths that are not empty."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

__all__ = ["tighten"]

MOST = 2**31 - 1
# Least value of an argument by its name; the others have a range of their own, or none.
LEAST = {"machine_rank": 0, "num_gpus": 0, "num_machines": 1, "num_processes": 0, "seed": 0}


def tighten(parser: argparse.ArgumentParser) -> None:
    """Replace the types int, float and Path of a parser and its subparsers by those of this file."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                tighten(subparser)
        elif action.type is int:
            action.type = Integer(LEAST.get(action.dest, -MOST))
        elif action.type in (float, Path) and action.nargs is None:  # the ends of a range are told as a pair
            action.type = {float: number, Path: path}[action.type]


@dataclass(frozen=True)
class Integer:
    """Reads a whole number from ``least`` to MOST."""

    least: int

    def __call__(self, word: str) -> int:
        try:
            value = int(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"invalid int value: {word[:40]!r}") from error
        if not self.least <= value <= MOST:
            raise argparse.ArgumentTypeError(f"must be from {self.least} to {MOST}, got {word[:40]}")
        return value


def number(word: str) -> float:
    """Read a number that is neither NaN nor infinite."""
    try:
        value = float(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid float value: {word[:40]!r}") from error
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {word[:40]}")
    return value


def path(word: str) -> Path:
    """Read a path; an empty one, from an unset variable of a shell, would mean the working directory."""
    if not word.strip():
        raise argparse.ArgumentTypeError(f"must be a path, got {word!r}")
    return Path(word)
