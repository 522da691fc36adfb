"""``study run``: plans and runs the trainings, or with ``--dry-run`` prints the time and disk space they need."""

import argparse
import logging
import math
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...config.load import load_config
from ...errors import SetupError
from ...training.terminal import filtered, log_handlers
from .estimate import checkpoint_megabytes, measure_seconds
from .index import choose_rows, load_studies
from .plan import PlannedRun, StudySettings, plan_runs, write_manifest
from .runner import StudyRunner, clock, past_seconds, run_is_over, shell_command

__all__ = ["run_studies"]


def run_studies(args: argparse.Namespace) -> int:
    """Run or show the trainings of the given studies; return the number of runs that failed.

    Raises:
        SetupError: a mistake in the arguments, the studies or the configs.
    """
    studies = load_studies(args.names, args.studies)
    chosen = choose_rows(studies, args.rows) if args.rows else studies
    studies = {name: studies[name] for name in chosen}
    for name, study in studies.items():
        if study.reference != chosen[name].reference:
            _say(f"{name}: without its reference row {study.reference} the report tests no difference")
    fraction = args.fraction
    if args.iterations is not None:
        config_file = args.config_file or str(next(iter(studies.values())).base)
        if args.iterations < 1:
            raise SetupError(f"--iterations must be at least 1, got {args.iterations}.")
        fraction = args.iterations / load_config(config_file, args.opts).SOLVER.MAX_ITER
    if not 0 < fraction < math.inf:
        raise SetupError(f"--fraction must be a finite number above 0, got {fraction:g}.")
    settings = StudySettings(args.config_file, args.opts, fraction)
    runs, per_row = plan_runs(chosen, settings, _seeds(args.seeds), args.output)
    devices = _devices(args.devices)
    if args.dry_run:
        show_plan(runs, devices, retry_failed=args.retry_failed)
        return 0
    command = shlex.join(["python", *sys.orig_argv[1:]])
    write_manifest(args.output, studies, settings, per_row, command=command, protocol=args.protocol)
    failures = StudyRunner(runs, devices, retry_failed=args.retry_failed, say=_say).run()
    _say(f"report: retina study report --input {args.output} --output {args.output / 'report'}")
    return failures


def show_plan(runs: list[PlannedRun], devices: list[str], *, retry_failed: bool) -> None:
    """Print the runs to do with their time and disk space, and start nothing."""
    waiting = [run for run in runs if not run_is_over(run, retry_failed)]
    print(f"{len(waiting)} of {len(runs)} runs to do on {', '.join(devices)}")
    if waiting:
        seconds, source = past_seconds(runs), "finished runs"
        if not seconds:
            # Time each row, since rows with other sizes or depths take other times.
            rows = {run.folder.parent: run for run in waiting}.values()
            with each_message_once():
                seconds = [measure_seconds(run) for run in rows]
            source = "three steps of each row, evaluation not counted"
        mean = sum(seconds) / len(seconds)
        sizes = [checkpoint_megabytes(run) for run in waiting]
        print(f"time: about {clock(mean * len(waiting) / len(devices))}, from {source}")
        print(f"disk: up to {max(sizes):.0f} MB a run for its last checkpoint, {sum(sizes) / 1000:.1f} GB in all")
    for run in runs:
        print(f"\n{run.status or 'to do'}: {run.name} seed {run.seed}, {run.max_iter} iterations")
        print(f"  {shell_command(run)}")


@contextmanager
def each_message_once() -> Iterator[None]:
    """Show each message once; the rows of a study have the same about machine and data."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return text not in seen and not seen.add(text)

    handlers = {*log_handlers(), *(logging.getLogger().handlers or [logging.lastResort])}
    with filtered(handlers, is_new), warnings.catch_warnings():
        warnings.simplefilter("once")
        yield


def _say(line: str) -> None:
    print(line, flush=True)


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
        if device != "cpu" and not (device.isdecimal() and int(device) < num_gpus):
            raise SetupError(f"--devices {device}: give cpu, or numbers of the {num_gpus} GPUs of this machine.")
    return devices
