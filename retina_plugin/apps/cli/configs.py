"""``retina configs``: the configs that come with the plugin, listed, found and copied."""

import argparse
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ...config.shipped import CONFIGS, list_configs
from ...config.yaml_source import base_files, find_nearest
from ...errors import SetupError, exit_status
from ...files import write_whole

__all__ = ["main"]

WIDTH = 118  # of a line of the list

EXAMPLES = """
Examples:
  what there is                   retina configs
  where one is                    retina configs retina_R50_FPN
  a copy to change                retina configs examples/bccd --copy my_configs
  train with one, from any folder retina train --config-file configs/retina_R50_FPN.yaml ...
"""


def main(argv: Sequence[str] | None = None) -> int:
    """List, find or copy; the return value is the exit status: 0, or 2 for a mistake to mend."""
    parser = argparse.ArgumentParser(
        prog="retina configs",
        description=f"The configs that come with the plugin.\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="config, such as retina_R50_FPN (all are listed)")
    parser.add_argument("--copy", type=Path, metavar="DIR", help="copy NAME and what it inherits from into DIR")
    args = parser.parse_args(argv)
    return exit_status(lambda: _tell(args))


def _tell(args: argparse.Namespace) -> None:
    paths = [_find(name) for name in args.names]
    if args.copy:
        paths = _copy(paths, args.copy)
    print("\n".join(map(str, paths)) if args.names else _describe_all())


def _describe_all() -> str:
    names = list_configs()
    width = max(map(len, names)) + 2
    lines = [f"{name:{width}}{textwrap.shorten(_summary(name), WIDTH - width, placeholder=' ...')}" for name in names]
    rows = len([path for path in CONFIGS.glob("ablations/*/*.yaml")])
    return "\n".join([*lines, f"and {rows} rows of the paper's studies: retina study list"])


def _summary(name: str) -> str:
    """The first sentence of the comment at the head of a config."""
    comment = []
    for line in (CONFIGS.parent / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return re.split(r"(?<!Sec)\. ", " ".join(comment))[0]


def _find(name: str) -> Path:
    known = {known.removeprefix("configs/"): CONFIGS.parent / known for known in list_configs()}
    wanted = name.removeprefix("configs/").removesuffix(".yaml") + ".yaml"
    if wanted not in known:
        near = find_nearest(wanted, list(known))
        hint = f"Did you mean {near.removesuffix('.yaml')}?" if near else "`retina configs` lists them."
        raise SetupError(f"There is no config {name}. {hint}")
    return known[wanted]


def _copy(paths: list[Path], folder: Path) -> list[Path]:
    """Copy files with all that they inherit from, laid out as in ``configs/``, so that ``_BASE_`` stays right.

    Raises:
        SetupError: no name, or one of the files is there already; nothing is copied then.
    """
    if not paths:
        raise SetupError("--copy needs the name of a config: `retina configs` lists them.")
    needed = list(paths)
    for path in needed:  # grows while it is walked
        needed += [base for base in map(Path, base_files(str(path))) if base not in needed]
    copies = {folder / os.path.relpath(path, CONFIGS): path for path in needed}
    for copy in copies:
        if copy.exists():
            raise SetupError(f"{copy} is there already: give --copy another folder.")
    for copy, path in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_whole(copy, path.read_bytes())
    return list(copies)
