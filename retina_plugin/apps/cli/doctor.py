"""``retina doctor``: environment, config, data, anchors and weights looked at before a training starts."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ...errors import EXIT_INTERRUPTED, EXIT_SETUP, SetupError, print_error

__all__ = ["main"]

EXIT_ERRORS = 1

EXAMPLES = """
Examples:
  a config with its data set          retina doctor --config-file my.yaml
  a data set given by path            retina doctor --config-file configs/examples/bccd.yaml \\
                                          DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images \\
                                          DATASETS.VAL_JSON val.json DATASETS.VAL_IMAGES images
  for a script                        retina doctor --config-file my.yaml --json doctor.json || exit 1
  100,000 images on eight processors  retina doctor --config-file my.yaml --jobs 8

Exit status: 0 training makes sense (read the warnings), 1 an error would make it pointless, 2 the command line or the
config cannot be read. Every check with its remedy: docs/doctor.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Examine, print and write; the return value is the exit status: 0, 1 (errors found), 2 or 130 (Ctrl-C)."""
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except SetupError as error:
        print_error(error)
        return EXIT_SETUP
    except KeyboardInterrupt:
        print("stopped; what was read of the images is kept for the next call", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    from ..doctor.environment import find_package_faults, import_failure, read_packages
    from ..doctor.report import Report

    if args.jobs < 1:
        raise SetupError(f"--jobs must be >= 1, got {args.jobs}: it is the number of processes that read images.")
    if args.num_gpus < 1:
        raise SetupError(f"--num-gpus must be >= 1, got {args.num_gpus}: it shares the batch, as in train_net.py.")
    packages = read_packages()
    report = Report(args.config_file)
    report.environment = {
        "python": ".".join(map(str, packages.python)),
        "versions": packages.versions,
        "detectron2": packages.detectron2,
    }
    report.add(find_package_faults(packages))
    try:
        from ..doctor.examination import Plan, examine  # here: torch and Detectron2, whose absence is a finding
        from ..doctor.image_scan import LookCache, default_cache
    except (ImportError, OSError, RuntimeError) as error:  # a library of another CUDA; an operator that is not there
        report.add([import_failure(error)])
    else:
        cache = None if args.no_cache else LookCache(args.cache or default_cache())
        plan = Plan(args.jobs, args.num_gpus, cache, images=not args.no_images, fit=not args.no_fit)
        examine(report, args.opts, plan)
    print(report.as_text())
    if args.json:
        _write(args.json, report.as_json())
    return 0 if report.makes_sense else EXIT_ERRORS


def _write(path: Path, text: str) -> None:
    from ...files import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise SetupError(f"--json {path} cannot be written ({error.strerror}): name another file.") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="retina doctor",
        description="Find what would make a training fail or mean nothing, before it starts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML, as for train_net.py")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    jobs = os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=jobs, help="processes that read images (%(default)s)")
    parser.add_argument("--num-gpus", type=int, default=1, help="that the batch is shared by (%(default)s)")
    parser.add_argument("--no-images", action="store_true", help="open no image: seconds, and no leaks are found")
    parser.add_argument("--no-fit", action="store_true", help="propose no anchors")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="what is known of images (~/.cache/retina_plugin)")
    parser.add_argument("--no-cache", action="store_true", help="look at every image anew, and keep nothing")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, last of all")
    return parser


if __name__ == "__main__":
    sys.exit(main())
