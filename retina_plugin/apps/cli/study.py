"""``python -m retina_plugin.study`` (also ``retina study``): the paper's tables as commands."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ...errors import EXIT_INTERRUPTED, EXIT_SETUP, SetupError, print_error
from ..study.index import ABLATIONS, load_studies

__all__ = ["main"]

EXIT_FAILED = 1

EXAMPLES = """
Examples:
  what there is                        study list
  Table 1b on the sample set, small    study run gamma --config-file configs/study/small.yaml --seeds 0,1,2
  what that would take                 study run gamma --config-file configs/study/small.yaml --dry-run
  all of it on two GPUs, your data     study run all --config-file my.yaml --devices 0,1 --output output/mine
  the page to look at                  study report --input output/study --output output/report
"""

RUN_EXAMPLES = """
Examples:
  Tables 1a and 1b, three seeds        study run alpha gamma --config-file my.yaml --seeds 0,1,2
  a tenth of the schedule, on the CPU  study run gamma --config-file my.yaml --fraction 0.1 --devices cpu
  400 iterations, shorter or longer    study run gamma --config-file my.yaml --iterations 400
  on your own COCO-format set          study run gamma --config-file my.yaml --output output/mine \\
                                           --opts DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images \\
                                           DATASETS.VAL_JSON val.json DATASETS.VAL_IMAGES images \\
                                           MODEL.RETINANET.NUM_CLASSES 0
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the subcommands.

    Returns:
        0; 1 where a run failed; 2 for a mistake to mend; 130 for Ctrl-C.
    """
    args = _parser().parse_args(argv)
    try:
        return args.act(args) or 0
    except SetupError as error:
        print_error(error)
        return EXIT_SETUP
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED


def list_studies(args: argparse.Namespace) -> None:
    for study in load_studies(args.names or None, args.studies, with_changes=False).values():
        print(f"{study.name}: {study.title} - {study.paper_table}, {len(study.rows)} rows")
        for row in study.rows:
            reported = "" if row.paper.get("AP") is None else f"reported AP {row.paper['AP']:.1f}"
            mark = "  (reference)" if row.name == study.reference else ""
            print(f"  {row.name:26} {row.label:24} {reported}{mark}".rstrip())


def run_studies(args: argparse.Namespace) -> int:
    from ..study.run_command import run_studies  # here: torch and Detectron2, which listing needs not

    return EXIT_FAILED if run_studies(args) else 0


def report(args: argparse.Namespace) -> None:
    print(f"reading {args.input} and drawing its plots", flush=True)
    from ..study.report import write_report  # here: matplotlib and scipy, which running needs not

    for path in write_report(args.input, args.output or args.input / "report"):
        print(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m retina_plugin.study",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)

    lister = commands.add_parser("list", help="name the studies and their rows")
    lister.add_argument("names", nargs="*", help="studies (all)")
    lister.set_defaults(act=list_studies)

    run = commands.add_parser(
        "run",
        help="train and evaluate every row",
        description="Train and evaluate every row of the studies; what is done already stays done.",
        epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("names", nargs="+", help="studies, such as alpha gamma, or all")
    run.add_argument("--config-file", default="", help="config that the rows' changes are laid over (each study's own)")
    run.add_argument("--output", type=Path, default=Path("output/study"), help="folder of the runs (%(default)s)")
    run.add_argument("--seeds", default="0", help="like 0,1,2 (%(default)s)")
    run.add_argument(
        "--fraction", type=float, default=1.0, help="of the schedule's iterations: 0.1, or 4 for four times as many (1)"
    )
    run.add_argument("--iterations", type=int, help="instead of --fraction: MAX_ITER of the first config, like 400")
    run.add_argument("--devices", default="auto", help="cpu, or GPU numbers like 0,1 (all GPUs, else the CPU)")
    run.add_argument("--dry-run", action="store_true", help="show what would run, how long and with how much disk")
    run.add_argument("--retry-failed", action="store_true", help="begin failed runs again")
    run.add_argument("--protocol", default="", help="a sentence for the report, like 'half an epoch each'")
    run.add_argument("--opts", nargs="*", default=[], help="KEY VALUE pairs for all, like SOLVER.BASE_LR 0.01")
    run.set_defaults(act=run_studies)

    reporter = commands.add_parser("report", help="write the report of a folder of runs")
    reporter.add_argument("--input", type=Path, default=Path("output/study"), help="folder of the runs (%(default)s)")
    reporter.add_argument("--output", type=Path, help="folder of the report (INPUT/report)")
    reporter.set_defaults(act=report)

    for command in (lister, run):
        command.add_argument("--studies", type=Path, default=ABLATIONS, help=os.path.relpath(ABLATIONS))
    return parser


if __name__ == "__main__":
    sys.exit(main())
