"""``retina configs``: the configs that come with the plugin, listed, found and copied."""

import argparse
import difflib
import itertools
import os
import re
import shutil
import textwrap
from pathlib import Path

from . import UsageError

WIDTH = 118  # of a line of the list

EXAMPLES = """
Examples:
  all configs                     retina configs
  where one is                    retina configs retina_R50_FPN
  a copy to change                retina configs examples/bccd --copy my_configs
  train with one, from any folder retina train --config-file configs/retina_R50_FPN.yaml ...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="config, such as retina_R50_FPN (all are listed)")
    parser.add_argument("--copy", type=Path, metavar="DIR", help="copy NAME and what it inherits from into DIR")


def run(args: argparse.Namespace) -> None:
    """Print the list, or the paths of the configs named, or of their copies.

    ``--copy`` copies files with all that they inherit from, laid out as in ``configs/``, so that ``_BASE_`` stays
    right; nothing is copied if one of the copies is there already.
    """
    from retina_plugin.config.shipped import CONFIGS, list_configs
    from retina_plugin.config.yaml_source import base_files

    known = {name.removeprefix("configs/"): CONFIGS.parent / name for name in list_configs()}
    paths = []
    for name in args.names:
        wanted = name.removeprefix("configs/").removesuffix(".yaml") + ".yaml"
        if wanted not in known:
            near = difflib.get_close_matches(wanted, known, 1)
            hint = f"Did you mean {near[0].removesuffix('.yaml')}?" if near else "`retina configs` lists them."
            raise UsageError(f"There is no config {name}. {hint}")
        paths.append(known[wanted])
    if args.copy:
        if not paths:
            raise UsageError("--copy needs the name of a config: `retina configs` lists them.")
        for path in paths:  # grows while it is walked
            paths += [base for base in map(Path, base_files(str(path))) if base not in paths]
        copies = {args.copy / os.path.relpath(path, CONFIGS): path for path in paths}
        for copy in copies:
            if copy.exists():
                raise UsageError(f"{copy} is there already: give --copy another folder.")
        for copy, path in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        paths = list(copies)
    if paths:
        print("\n".join(map(str, paths)))
        return
    width = max(len(f"configs/{name}") for name in known) + 2
    for name, path in known.items():
        summary = textwrap.shorten(_summary(path), WIDTH - width, placeholder=" ...")
        print(f"{f'configs/{name}':{width}}{summary}")
    rows = len(list(CONFIGS.glob("ablations/*/*.yaml")))
    print(f"and {rows} rows of the paper's studies: retina study list")


def _summary(config: Path) -> str:
    """The first sentence of the comment at the head of a config."""
    lines = config.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return re.split(r"(?<!Sec)\. ", " ".join(line.lstrip("# ") for line in comment))[0]
