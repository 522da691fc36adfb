"""``python -m retina_plugin.analysis`` (also ``retina analyze``): looks at losses, anchors and checkpoints."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from ..errors import SetupError, user_message

__all__ = ["main"]

EXIT_SETUP = 2
EXIT_INTERRUPTED = 130  # of the shell, for Ctrl-C
# Subcommand -> module of this package with HELP, EPILOG, add_arguments(parser) and run(args).
COMMANDS = {
    "losses": "loss_curves",
    "loss-cdf": "loss_cdf",
    "imbalance": "imbalance",
    "anchors": "anchor_coverage",
    "assignment": "assignment",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one analysis; the return value is the exit status: 0, 2 (a mistake to mend) or 130 (Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="python -m retina_plugin.analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    argv = sys.argv[1:] if argv is None else list(argv)
    # Importing all of them takes seconds: Detectron2 and matplotlib. Only the list of commands needs it.
    asked = [name for name in COMMANDS if argv[:1] == [name]] or list(COMMANDS)
    for name in asked:
        module = importlib.import_module(f".{COMMANDS[name]}", __package__)
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except SetupError as error:
        print(f"error: {user_message(error)}", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0
