"""``python -m retina_plugin.apps.export.measure``: AP, time and size of exported files beside their model."""

import argparse
import importlib.metadata
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...errors import SetupError, exit_status

__all__ = ["main"]

# What an export promises of the same weights in fp32: pixels and score.
MAX_BOX, MAX_SCORE = 0.05, 1e-4
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
EXAMPLES = """
Example:
  python -m retina_plugin.apps.export.measure output/model_final.pth detector.onnx half.onnx int8.onnx \\
      --output results/export/mine.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Score files on the config's test set and write the record; returns 0, 2 or 130 as ``retina export``."""
    args = _parser().parse_intermixed_args(argv)
    return exit_status(lambda: _work(args))


def _work(args: argparse.Namespace) -> None:
    missing = [path for path in args.files if not path.is_file()]
    if missing:
        raise SetupError(f"{missing[0]} is not there: export it first with `retina export`.")
    if not args.output.parent.is_dir():
        raise SetupError(f"--output {args.output}: the folder {args.output.parent} is not there. Make it first.")
    _measure(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m retina_plugin.apps.export.measure",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("weights", metavar="WEIGHTS", help="checkpoint that the files were exported from")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".onnx, .pt or .pt2")
    parser.add_argument("--config-file", default="", metavar="FILE", help="(config.yaml beside WEIGHTS)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON record to write")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="config keys, such as DATASETS.TEST")
    return parser


def _measure(args: argparse.Namespace) -> None:
    from ...files import write_whole
    from ...run_record import git_state, hardware, versions
    from .command import load_model
    from .scoring import score_detectors

    cfg, model, _ = load_model(args.config_file, args.weights, args.opts)
    with tempfile.TemporaryDirectory() as folder:
        rows = score_detectors(cfg, model, args.files, Path(folder), max_box=MAX_BOX, max_score=MAX_SCORE)
    record = {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "git": git_state(),
        "versions": {**versions(), **{package: importlib.metadata.version(package) for package in PACKAGES}},
        "hardware": hardware(),
        "seed": cfg.SEED,
        "data": list(cfg.DATASETS.TEST),
        "tolerance": {"box_pixels": MAX_BOX, "score": MAX_SCORE},
        "rows": rows,
    }
    write_whole(args.output, json.dumps(record, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['name']:24} AP {_text(row['AP'])}  AP50 {_text(row['AP50'])}  {row['ms_per_image']:7.1f} ms  "
            f"{row['megabytes']:6.1f} MB  same detections on {row['images_equal']} of {row['images']} images"
        )


def _text(metric: float | None) -> str:
    return "  n/a" if metric is None else f"{metric:5.2f}"


if __name__ == "__main__":
    sys.exit(main())
