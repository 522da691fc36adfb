"""``python -m retina_plugin.study`` (also ``retina study``): the paper's tables as commands."""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..engine.config_file import load_config
from ..errors import SetupError, user_message
from .index import ABLATIONS, Study, load_studies
from .plan import Run, StudySettings, plan_runs, write_manifest
from .runner import StudyRunner, clock, past_seconds, run_is_over, shell_command

__all__ = ["main"]

EXIT_FAILED, EXIT_SETUP, EXIT_INTERRUPTED = 1, 2, 130  # 130: of the shell, for Ctrl-C

EXAMPLES = """
Examples:
  what there is                        study list
  Table 1b on the sample set, small    study run gamma --config-file configs/study/small.yaml --seeds 0,1,2
  what that would take                 study run gamma --config-file configs/study/small.yaml --dry-run
  all of it on two GPUs, your data     study run all --config-file my.yaml --devices 0,1 --output output/mine
  the page to look at                  study report --input output/study --output output/report
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
        print(f"error: {user_message(error)}", file=sys.stderr)
        return EXIT_SETUP
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED


def list_studies(args: argparse.Namespace) -> None:
    for study in load_studies(args.names or None, args.studies).values():
        print(f"{study.name}: {study.title} - {study.paper_table}, {len(study.rows)} rows")
        for row in study.rows:
            reported = "" if row.paper is None or row.paper["AP"] is None else f"reported AP {row.paper['AP']:.1f}"
            mark = "  (reference)" if row.name == study.reference else ""
            print(f"  {row.name:26} {row.label:24} {reported}{mark}".rstrip())


def run_studies(args: argparse.Namespace) -> int:
    studies = load_studies(args.names, args.studies)
    settings = StudySettings(args.config_file, args.opts, _fraction(args, studies))
    runs, per_row = plan_runs(studies, settings, _seeds(args.seeds), args.output)
    devices = _devices(args.devices)
    if args.dry_run:
        show_plan(runs, devices, retry_failed=args.retry_failed)
        return 0
    command = shlex.join(["python", *sys.orig_argv[1:]])
    write_manifest(args.output, studies, settings, per_row, command=command, protocol=args.protocol)
    failures = StudyRunner(runs, devices, retry_failed=args.retry_failed, say=_say).run()
    _say(f"report: python -m retina_plugin.study report --input {args.output} --output {args.output / 'report'}")
    return EXIT_FAILED if failures else 0


def report(args: argparse.Namespace) -> None:
    _say(f"reading {args.input} and drawing its plots")
    from .report import write_report  # here: matplotlib and scipy, which running needs not

    for path in write_report(args.input, args.output or args.input / "report"):
        print(path)


def show_plan(runs: list[Run], devices: list[str], *, retry_failed: bool) -> None:
    """Print what would run, how long and with how much disk, and start nothing."""
    waiting = [run for run in runs if not run_is_over(run, retry_failed)]
    print(f"{len(waiting)} of {len(runs)} runs to do on {', '.join(devices)}")
    if waiting:
        print(_time_and_disk(runs, waiting, len(devices)))
    for run in runs:
        print(f"\n{run.status or 'to do'}: {run.name} seed {run.seed}, {run.max_iter} iterations")
        print(f"  {shell_command(run)}")


def _time_and_disk(runs: list[Run], waiting: list[Run], num_devices: int) -> str:
    from .estimate import checkpoint_megabytes, measure_seconds  # here: the trainer, which listing needs not

    seconds, source = past_seconds(runs), "finished runs"
    if not seconds:
        # Each row by itself: rows of other sizes or depths take other times.
        rows = {run.folder.parent: run for run in waiting}.values()
        seconds, source = [measure_seconds(run) for run in rows], "three steps of each row, evaluation not counted"
    mean = sum(seconds) / len(seconds)
    sizes = [checkpoint_megabytes(run) for run in waiting]
    return (
        f"time: about {clock(mean * len(waiting) / num_devices)}, from {source}\n"
        f"disk: up to {max(sizes):.0f} MB a run for its last checkpoint, {sum(sizes) / 1000:.1f} GB in all"
    )


def _say(line: str) -> None:
    print(line, flush=True)


def _fraction(args: argparse.Namespace, studies: dict[str, Study]) -> float:
    if args.iterations is None:
        fraction = args.fraction
    else:
        config_file = args.config_file or str(next(iter(studies.values())).base)
        fraction = args.iterations / load_config(config_file, args.opts).SOLVER.MAX_ITER
    if not 0 < fraction < math.inf:
        raise SetupError(f"--fraction must be above 0 (and --iterations too), got {fraction:g}.")
    return fraction


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        raise SetupError(f"--seeds must be whole numbers like 0,1,2, got {text!r}.") from None
    if any(seed < 0 for seed in seeds):
        raise SetupError(f"--seeds must be at least 0, got {text!r}: a negative seed would be drawn anew each time.")
    return list(dict.fromkeys(seeds))


def _devices(text: str) -> list[str]:
    num_gpus = torch.cuda.device_count()
    if text == "auto":
        return [str(i) for i in range(num_gpus)] or ["cpu"]
    devices = text.split(",")
    for device in devices:
        if device != "cpu" and not (device.isdigit() and int(device) < num_gpus):
            raise SetupError(f"--devices {device}: give cpu, or numbers of the {num_gpus} GPUs of this machine.")
    return devices


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

    run = commands.add_parser("run", help="train and evaluate every row")
    run.add_argument("names", nargs="+", help="studies, or all")
    run.add_argument("--config-file", default="", help="config that the rows' changes are laid over (each study's own)")
    run.add_argument("--output", type=Path, default=Path("output/study"), help="folder of the runs (%(default)s)")
    run.add_argument("--seeds", default="0", help="like 0,1,2 (%(default)s)")
    run.add_argument(
        "--fraction", type=float, default=1.0, help="of the schedule's iterations, above 1 for more (%(default)s)"
    )
    run.add_argument("--iterations", type=int, help="instead of --fraction: MAX_ITER of the first config")
    run.add_argument("--devices", default="auto", help="cpu, or GPU numbers like 0,1 (all GPUs, else the CPU)")
    run.add_argument("--dry-run", action="store_true", help="show what would run, how long and with how much disk")
    run.add_argument("--retry-failed", action="store_true", help="begin failed runs again")
    run.add_argument("--protocol", default="", help="a sentence about the protocol, for the report")
    run.add_argument("--opts", nargs="*", default=[], help="KEY VALUE pairs for every run, such as a data set's")
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
