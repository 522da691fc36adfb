"""``python -m benchmarks``: speed and memory beside the peers'."""

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from retina_cli.main import exit_status
from retina_plugin.errors import SetupError

__all__ = ["main"]

# Case -> module of this package with HELP and measure(settings) -> iterator of measurements.
CASES = {
    "loss": "loss_case",
    "labelling": "labelling_case",
    "training_step": "training_step_case",
    "inference": "inference_case",
    "postprocess": "postprocess_case",
    "evaluation": "evaluation_case",
    "export": "export_case",
}
EXAMPLES = """
Examples:
  everything, small, in two minutes      benchmark all --quick
  the figures of docs/performance.md     benchmark all --output results/benchmark
  one of them, on one thread             benchmark loss --threads 1
  the page made from the records         benchmark report --input results/benchmark --output docs
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run cases and write their records, or the report; returns 0, 2 (a mistake of the user) or 130 (Ctrl-C)."""
    args = _parser().parse_args(argv)
    return exit_status(lambda: _report(args) if args.cases == ["report"] else _run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="+", metavar="CASE", help=f"{', '.join(CASES)}; all; or report")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, to see that it works")
    parser.add_argument("--rounds", type=int, help="samples of each variant, taken in turn (9; 3 with --quick)")
    parser.add_argument("--threads", type=int, help="of the CPU (PyTorch's own number)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="folder of the records or of the report's page")
    parser.add_argument("--input", type=Path, default=Path("results/benchmark"), help="records of a report")
    return parser


def _run(args: argparse.Namespace) -> None:
    import torch

    from .measurement import Settings

    names = list(CASES) if "all" in args.cases else args.cases
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise SetupError(f"unknown case {unknown[0]!r}: known are {', '.join(CASES)}, all and report.")
    rounds = args.rounds if args.rounds is not None else (3 if args.quick else 9)
    for option, value in (("--rounds", rounds), ("--threads", args.threads)):
        if value is not None and value < 1:
            raise SetupError(f"{option} must be >= 1, got {value}.")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SetupError("--device cuda: no GPU is there; leave it out to measure the CPU.")
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = Settings(args.device, args.quick, rounds)
    for name in names:
        measurements = []
        for measurement in importlib.import_module(f".{CASES[name]}", __package__).measure(settings):
            print(_line(measurement), flush=True)
            measurements.append(measurement.as_dict())
            if args.output:  # after each: a case that is stopped keeps what it has
                _write_record(args.output, name, measurements, settings)


def _line(measurement) -> str:
    """What a terminal shows of one comparison."""
    parameters = ", ".join(f"{key} {value}" for key, value in measurement.parameters.items() if value != "")
    lines = [f"{measurement.case}: {measurement.what} ({parameters})"]
    for name, seconds in measurement.seconds.items():
        ratio = measurement.speedup.get(name)
        peak = measurement.peak_bytes.get(name)
        lines.append(
            f"  {name:28} {1000 * seconds['median']:10.2f} ms  [{1000 * seconds['q1']:.2f}, {1000 * seconds['q3']:.2f}]"
            + ("" if peak is None else f"  {peak / 2**20:9.1f} MiB")
            + ("" if ratio is None else f"  ours is {ratio['median']:.2f} x as fast")
        )
    for kind in ("limits", "equality", "figures"):
        lines += [f"  {kind}: {key} {value:.4g}" if isinstance(value, float) else f"  {kind}: {key} {value}"
                  for key, value in getattr(measurement, kind).items()]  # fmt: skip
    return "\n".join(lines)


def _write_record(folder: Path, name: str, measurements: list[dict], settings) -> None:
    from retina_plugin.files import write_whole
    from retina_plugin.run_record import git_state, hardware, versions

    record = {
        "case": name,
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "git": git_state(),
        "versions": versions(),
        "hardware": hardware(),
        "rounds": settings.rounds,
        "quick": settings.quick,
        "measurements": measurements,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")


def _report(args: argparse.Namespace) -> None:
    from .report import write_report

    for path in write_report(args.input, args.output or Path("docs")):
        print(path)
