"""``retina``: finds the command, parses its arguments once, and turns what ends it into an exit status."""

import argparse
import difflib
import errno
import importlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from . import UsageError
from .streams import guard_streams
from .values import tighten

__all__ = ["exit_status", "main"]

# Command -> its group, and a summary. The module of that name ("-" is "_") has
#   add_arguments(parser); run(args) -> exit status, or None for 0; EXAMPLES, shown below the options;
#   STOPPED, if Ctrl-C leaves something to say; INTERMIXED = True, if config keys may stand before options.
COMMANDS = {
    "quickstart": ("data", "sample set, training, evaluation and pictures in minutes"),
    "sample": ("data", "write the built-in sample set: digits on photographs"),
    "convert": ("data", "write boxes in VOC, YOLO, LabelMe or CSV form as COCO JSON"),
    "doctor": ("data", "find mistakes that would spoil a training"),
    "configs": ("training", "list and copy the configs that come with the plugin"),
    "train": ("training", "train a detector, or score a checkpoint"),
    "study": ("training", "run the paper's ablations on a data set and report them"),
    "convert-weights": ("training", "convert torchvision's RetinaNet weights for Detectron2"),
    "analyze": ("looking", "look at losses, imbalance, anchors and assignment"),
    "evaluate": ("looking", "evaluate a detector: AP, errors, confusion, calibration"),
    "compare": ("looking", "compare two detectors on the same images"),
    "predict": ("looking", "find objects in images, folders, videos or a camera"),
    "export": ("shipping", "write a detector as ONNX, TorchScript or torch.export"),
    "measure-export": ("shipping", "measure exported files: AP, time and size beside their model"),
}
GROUPS = ("data", "training", "looking", "shipping")  # in the order of the work

EXAMPLES = """
Examples:
  train on a folder of Pascal VOC, YOLO, LabelMe, CSV or COCO boxes
    retina train my_folder
  find objects with the trained detector
    retina predict output/my_folder photos --output found
  see whether the anchors fit the boxes
    retina analyze anchors --config-file my.yaml --output output/anchors
  the paper's comparison of alphas, small: its time and disk space
    retina study run alpha --config-file configs/study/small.yaml --dry-run
"""


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run a command; the return value is the exit status.

    Args:
        argv: the command and its arguments; those of the process when None.
        prog: name of the program in the help of the command, instead of "retina COMMAND".

    Returns:
        0, 2 (a mistake that the user can fix), 3 (a loss that is not finite), 4 (a fault of the machine), 130 (Ctrl-C)
        or 143 (SIGTERM); 1 has a meaning of its own in ``doctor``, ``predict`` and ``study``.
    """
    guard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    if bad := next((word for word in words if "\0" in word), None):
        print(f"error: an argument holds a null character: {bad!r}", file=sys.stderr)
        return 2
    if not words or words[0] in ("-h", "--help"):
        print(_usage(), end="")
        return 0 if words else 2
    name = words[0]
    if name == "--version":
        from retina_plugin import __version__

        print(f"retina_plugin {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"it must be one of {', '.join(COMMANDS)}."
        if name == "benchmark":
            hint = "run `python -m benchmarks` in a checkout of the repository."
        print(f"error: there is no command {name!r}: {hint}", file=sys.stderr)
        return 2
    module = _module(name)
    parser = build_parser(name, prog)
    parse = parser.parse_intermixed_args if getattr(module, "INTERMIXED", False) else parser.parse_args
    args = parse(words[1:])
    return exit_status(lambda: module.run(args), stopped=getattr(module, "STOPPED", ""))


def build_parser(name: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of one command; ``prog`` is the name of the program in its help ("retina COMMAND")."""
    prog, summary, module = prog or f"retina {name}", COMMANDS[name][1], _module(name)
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=module.EXAMPLES.replace(f"retina {name}", prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    tighten(parser)
    return parser


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"retina_cli.{name.replace('-', '_')}")


def exit_status(work: Callable[[], int | None], *, stopped: str = "") -> int:
    """Do ``work``; its own exit status, or that of the error that ended it, which is printed in one sentence.

    An error that nobody has foreseen is raised again, for its traceback.

    Args:
        stopped: printed after Ctrl-C.
    """
    try:
        status = work() or 0
        sys.stdout.flush()  # a full disk is noticed here
        return status
    except UsageError as error:
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(error))
        print(f"error: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if said := str(stop) or stopped:  # a training that has finished its iteration says where it stands
            print(said, file=sys.stderr)
        return getattr(stop, "status", 130)  # the shell's rule: 128 + SIGINT
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = "the output" if error.filename is None else ascii(str(error.filename))[1:-1]
        print(f"error: {where}: {error.strerror}. Check the path, its permissions and its disk.", file=sys.stderr)
        return 2
    except Exception as error:
        if "retina_plugin" not in sys.modules:
            if not isinstance(error, ImportError):
                raise
            print(f"error: {error}", file=sys.stderr)  # it names the package that is missing
            return 2
        from retina_plugin.errors import EXIT_STATUSES, RunFault, first_line, print_error
        from retina_plugin.training.hooks.step_guard import is_out_of_memory

        if is_out_of_memory(error):
            error = RunFault(f"Memory ran out: {first_line(error)[:200]}")
        status = next((status for kind, status in EXIT_STATUSES.items() if isinstance(error, kind)), None)
        if status is None:
            raise
        print_error(error)
        return status


def _usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    lists = (
        f"\n{group}\n" + "".join(f"  {name:{width}}{does}\n" for name, (of, does) in COMMANDS.items() if of == group)
        for group in GROUPS
    )
    return f"usage: retina COMMAND ...\n{EXAMPLES}{''.join(lists)}\nretina COMMAND --help has the examples of each.\n"
