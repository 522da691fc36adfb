"""``retina study``: the paper's tables as commands."""

import argparse
from pathlib import Path

EXIT_FAILED = 1
STOPPED = "stopped; the same command goes on where it stopped"
EXAMPLES = """
Examples:
  all studies                          retina study list
  Table 1b on the sample set, small    retina study run gamma --config-file configs/study/small.yaml --seeds 0,1,2
  its time and disk space              retina study run gamma --config-file configs/study/small.yaml --dry-run
  all of it on two GPUs, your data     retina study run all --config-file my.yaml --devices 0,1 --output output/mine
  the page to look at                  retina study report --input output/study --output output/report
"""

RUN_EXAMPLES = """
Examples:
  Tables 1a and 1b, three seeds        retina study run alpha gamma --config-file my.yaml --seeds 0,1,2
  a tenth of the schedule, on the CPU  retina study run gamma --config-file my.yaml --fraction 0.1 --devices cpu
  two rows of a table                  retina study run gamma --rows gamma_0 gamma_2 --config-file my.yaml
  400 iterations, shorter or longer    retina study run gamma --config-file my.yaml --iterations 400
  on your own COCO-format set          retina study run gamma --config-file my.yaml --output output/mine \\
                                           --opts DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images \\
                                           DATASETS.VAL_JSON val.json DATASETS.VAL_IMAGES images \\
                                           MODEL.RETINANET.NUM_CLASSES 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True)

    lister = commands.add_parser("list", help="name the studies and their rows")
    lister.add_argument("names", nargs="*", help="studies (all)")

    runner = commands.add_parser(
        "run",
        help="train and evaluate every row",
        description="Train and evaluate every row of the studies; finished runs are kept.",
        epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    runner.add_argument("names", nargs="+", help="studies, such as alpha gamma, or all")
    runner.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="these rows of the studies alone (all)")
    runner.add_argument("--config-file", default="", help="config that the rows change (each study's own)")
    runner.add_argument("--output", type=Path, default=Path("output/study"), help="folder of the runs (%(default)s)")
    runner.add_argument("--seeds", default="0", help="like 0,1,2 (%(default)s)")
    runner.add_argument(
        "--fraction",
        type=float,
        default=1.0,
        help="share of the schedule's iterations: 0.1, or 4 for four times as many (1)",
    )
    runner.add_argument("--iterations", type=int, help="instead of --fraction: MAX_ITER of the first config, like 400")
    runner.add_argument("--devices", default="auto", help="cpu, or GPU numbers like 0,1 (all GPUs, else the CPU)")
    runner.add_argument("--dry-run", action="store_true", help="show what would run, how long and with how much disk")
    runner.add_argument("--retry-failed", action="store_true", help="begin failed runs again")
    runner.add_argument("--protocol", default="", help="a sentence for the report, like 'half an epoch each'")
    runner.add_argument("--opts", nargs="*", default=[], help="KEY VALUE pairs for all, like SOLVER.BASE_LR 0.01")

    reporter = commands.add_parser("report", help="write the report of a folder of runs")
    reporter.add_argument("--input", type=Path, default=Path("output/study"), help="folder of the runs (%(default)s)")
    reporter.add_argument("--output", type=Path, help="folder of the report (INPUT/report)")
    reporter.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="these rows alone (all)")

    for command in (lister, runner):
        command.add_argument("--studies", type=Path, help="folder of the studies (configs/ablations)")


def run(args: argparse.Namespace) -> int:
    """List, run or report; 1 if a run failed."""
    if args.action == "report":
        print(f"reading {args.input} and drawing its plots", flush=True)
        from retina_plugin.apps.study.report import write_report  # here: matplotlib and scipy, which may be missing

        for path in write_report(args.input, args.output or args.input / "report", args.rows):
            print(path)
        return 0
    from retina_plugin.apps.study.index import ABLATIONS, load_studies
    from retina_plugin.apps.study.run_command import run_studies

    args.studies = args.studies or ABLATIONS
    if args.action == "run":
        return EXIT_FAILED if run_studies(args) else 0
    for study in load_studies(args.names or None, args.studies, with_changes=False).values():
        print(f"{study.name}: {study.title} - {study.paper_table}, {len(study.rows)} rows")
        for row in study.rows:
            reported = "" if row.paper.get("AP") is None else f"reported AP {row.paper['AP']:.1f}"
            mark = "  (reference)" if row.name == study.reference else ""
            print(f"  {row.name:26} {row.label:24} {reported}{mark}".rstrip())
    return 0
