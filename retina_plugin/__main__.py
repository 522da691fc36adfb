"""``retina``: the command-line programs of the plugin under one name."""

import importlib
import sys
from collections.abc import Sequence

__all__ = ["main"]

# Subcommand -> module with main(argv) -> exit status, and what it does. Imported when it is asked for.
COMMANDS = {
    "doctor": ("retina_plugin.doctor.cli", "find what would spoil a training, before it starts"),
    "study": ("retina_plugin.study.cli", "run the paper's ablations on a data set and report them"),
    "analyze": ("retina_plugin.analysis.cli", "look at losses, imbalance, anchors and assignment"),
    "benchmark": ("retina_plugin.benchmark.cli", "time the plugin beside its peers"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the arguments to a subcommand; the return value is the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    usage = "usage: retina COMMAND ...\n\n" + "".join(f"  {name:9} {text}\n" for name, (_, text) in COMMANDS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage, end="")
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        print(f"error: unknown command {arguments[0]!r}\n{usage}", file=sys.stderr, end="")
        return 2
    return importlib.import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
