"""``retina measure-export``: AP, time and size of exported files beside their model."""

import argparse
from pathlib import Path

from . import UsageError

INTERMIXED = True
EXAMPLES = """
Example:
  retina measure-export output/model_final.pth detector.onnx half.onnx int8.onnx --output results/export/mine.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", metavar="WEIGHTS", help="checkpoint that the files were exported from")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".onnx, .pt or .pt2")
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML (the description in WEIGHTS)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON record to write")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="config keys, such as DATASETS.TEST")


def run(args: argparse.Namespace) -> None:
    missing = [path for path in args.files if not path.is_file()]
    if missing:
        raise UsageError(f"{missing[0]} is not there: export it first with `retina export`.")
    if not args.output.parent.is_dir():
        raise UsageError(f"--output {args.output}: the folder {args.output.parent} is not there. Make it first.")
    from retina_plugin.apps.export.measure import measure

    measure(args)
