"""``retina doctor``: environment, config, data, anchors and weights looked at before a training starts."""

import argparse
import importlib.util
import os
import shlex
import sys
from pathlib import Path
from types import ModuleType

from . import UsageError
from .train import choose_for_folder

INTERMIXED = True
EXIT_ERRORS = 1
STOPPED = "stopped; the images read so far are kept for the next call"
EXAMPLES = """
Examples:
  a folder of your own images         retina doctor my_folder
  a config with its data set          retina doctor --config-file my.yaml
  a data set given by path            retina doctor --config-file configs/examples/bccd.yaml \\
                                          DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images \\
                                          DATASETS.VAL_JSON val.json DATASETS.VAL_IMAGES images
  for a script                        retina doctor --config-file my.yaml --json doctor.json || exit 1
  100,000 images on eight processors  retina doctor --config-file my.yaml --jobs 8

Exit status: 0 training makes sense (read the warnings), 1 an error would make it pointless, 2 the command line or the
config cannot be read. Every check with its remedy: docs/doctor.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML (one that fits FOLDER)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the findings as one HTML page")
    jobs = os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=jobs, help="processes that read images (%(default)s)")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs that share the batch (%(default)s)")
    parser.add_argument("--no-images", action="store_true", help="open no image: takes seconds, finds no leaks")
    parser.add_argument("--no-fit", action="store_true", help="propose no anchors")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="results of earlier scans (~/.cache/retina_plugin)")
    parser.add_argument("--no-cache", action="store_true", help="scan every image again, and keep nothing")
    parser.add_argument(
        "opts", nargs="*", metavar="[FOLDER] KEY VALUE", help="folder of boxes; config keys, last of all"
    )


def run(args: argparse.Namespace) -> int:
    """Examine, print and write; 1 if an error was found."""
    if args.jobs < 1:
        raise UsageError(f"--jobs must be >= 1, got {args.jobs}: it is the number of processes that read images.")
    if args.num_gpus < 1:
        raise UsageError(f"--num-gpus must be >= 1, got {args.num_gpus}: it shares the batch, as in train_net.py.")
    try:
        import retina_plugin  # noqa: F401

        broken = None
    except (ImportError, OSError, RuntimeError) as error:  # a library of another CUDA; an operator that is not there
        broken = error
        # The package cannot be imported without torch and Detectron2; the modules that explain why need neither.
        package = ModuleType("retina_plugin")
        package.__path__ = importlib.util.find_spec("retina_plugin").submodule_search_locations
        sys.modules["retina_plugin"] = package
    from retina_plugin.apps.doctor.environment import find_package_faults, import_failure, read_packages
    from retina_plugin.apps.doctor.report import Report
    from retina_plugin.files import write_whole

    words = shlex.join([*(["--config-file", args.config_file] if args.config_file else []), *args.opts])
    if not broken:
        choose_for_folder(args)
    packages = read_packages()
    report = Report(args.config_file)
    report.environment = {
        "python": ".".join(map(str, packages.python)),
        "versions": packages.versions,
        "detectron2": packages.detectron2,
    }
    report.add(find_package_faults(packages))
    if broken:
        report.add([import_failure(broken)])
    else:
        from retina_plugin.apps.doctor.examination import Plan, examine
        from retina_plugin.apps.doctor.image_scan import ScanCache, default_cache

        cache = None if args.no_cache else ScanCache(args.cache or default_cache())
        plan = Plan(args.jobs, args.num_gpus, cache, images=not args.no_images, fit=not args.no_fit)
        examine(report, args.opts, plan)
    print(report.as_text())
    if report.makes_sense:
        print(f"Next: retina train {words}")
    for option, path, make in (("--json", args.json, report.as_json), ("--html", args.html, report.as_html)):
        if path:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, make())
            except OSError as error:
                raise UsageError(f"{option} {path} cannot be written ({error.strerror}): name another file.") from error
    return 0 if report.makes_sense else EXIT_ERRORS
