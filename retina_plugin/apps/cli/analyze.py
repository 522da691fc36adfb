"""``python -m retina_plugin.analysis`` (also ``retina analyze``): looks at losses, anchors and checkpoints."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from ...errors import exit_status

__all__ = ["main"]

# Subcommand -> module of this package with EPILOG, add_arguments(parser) and run(args); and what it does.
COMMANDS = {
    "losses": ("loss_curves", "draw the losses and their gradients (paper Figures 1, 5, 6)"),
    "loss-cdf": ("loss_cdf", "draw how the focal loss of a checkpoint is spread over the examples (paper Figure 4)"),
    "imbalance": ("imbalance", "count positives, ignored and negatives of a data set, and their loss before training"),
    "anchors": ("anchor_coverage", "which boxes of a data set the anchors reach, at what cost; anchors fitted to it"),
    "assignment": ("assignment", "pictures of given images with their positive and ignored anchors"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one analysis; the return value is the exit status: 0, 2 (a mistake to mend) or 130 (Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="python -m retina_plugin.analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    argv = sys.argv[1:] if argv is None else list(argv)
    for name, (module_name, text) in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if argv[:1] == [name]:  # importing all of them takes seconds: Detectron2 and matplotlib
            module = importlib.import_module(f"retina_plugin.apps.analysis.{module_name}")
            command.epilog = module.EPILOG
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    return exit_status(lambda: args.run(args))
