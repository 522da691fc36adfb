"""``retina export``: a checkpoint as a file that runs without Detectron2, image to final boxes."""

import argparse
import importlib.util
from pathlib import Path

from . import UsageError

INTERMIXED = True
# Format -> suffix of its file, packages it is written with.
FORMATS = {
    "onnx": (".onnx", ("onnx", "onnxscript", "onnxruntime")),
    "torchscript": (".pt", ()),
    "torch-export": (".pt2", ()),
    "safetensors": (".safetensors", ("safetensors",)),
}
EXAMPLES = """
Examples:
  ONNX, with a script to run it     retina export output/model_final.pth --output detector.onnx
  in half precision                 retina export output/model_final.pth --output half.onnx --half
  in 8-bit integers                 retina export output/model_final.pth --output int8.onnx \\
                                        --int8 --calibration datasets/mine/images
  for LibTorch, for torch.export    retina export output/model_final.pth --output detector.pt   (or .pt2)
  the weights alone                 retina export output/model_final.pth --output detector.safetensors
  a checkpoint of Detectron2's own  retina export model.pkl --config-file configs/retina_R50_FPN.yaml \\
                                        --output detector.onnx MODEL.RETINANET.SCORE_THRESH_TEST 0.3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", metavar="WEIGHTS", help="checkpoint, .pth or .pkl, or the folder of a run")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument("--format", help=f"{', '.join(FORMATS)} (by the suffix of FILE)")
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML (the description in WEIGHTS)")
    parser.add_argument(
        "--classes", metavar="A,B,...", help="names of the classes (the checkpoint's, or its data set's)"
    )
    parser.add_argument("--input-type", default="uint8", help="type of the images: uint8 or float32 (%(default)s)")
    parser.add_argument("--half", action="store_true", help="ONNX: the network in fp16")
    parser.add_argument("--int8", action="store_true", help="ONNX: the network in 8-bit integers")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="--int8: images like those to come, 50 or so")
    parser.add_argument(
        "--max-images", type=int, default=100, metavar="N", help="most images to take from --calibration (%(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="write over FILE")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys")


def run(args: argparse.Namespace) -> None:
    check_arguments(args)
    from retina_plugin.apps.export.command import export

    export(args)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what can be refused without torch, and fill in ``format``.

    Raises:
        UsageError: with the option, the rule, the value and the remedy.
    """
    args.format = _find_format(args.format, args.output)
    if args.input_type not in ("uint8", "float32"):
        raise UsageError(f"--input-type must be uint8 or float32, got {args.input_type!r}.")
    _check_precision(args)
    if "://" not in args.weights and not Path(args.weights).exists():
        raise UsageError(f"{args.weights} is not there: give the path of a .pth or .pkl checkpoint.")
    if not args.output.parent.is_dir():
        raise UsageError(f"--output {args.output}: the folder {args.output.parent} is not there. Make it first.")
    if args.output.exists() and not args.force:
        raise UsageError(f"--output {args.output} is there already. Add --force to write over it, or another name.")
    missing = [package for package in FORMATS[args.format][1] if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(
            f"--format {args.format} needs {', '.join(missing)}, which is not installed: "
            "pip install 'retina_plugin[export]', or pip install -e '.[export]' in the plugin's folder."
        )


def _find_format(name: str | None, output: Path) -> str:
    by_suffix = {suffix: known for known, (suffix, _) in FORMATS.items()}
    if name is None and output.suffix not in by_suffix:
        raise UsageError(f"--output {output}: the suffix must be one of {', '.join(by_suffix)}, or give --format.")
    name = name or by_suffix[output.suffix]
    if name not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got {name!r}.")
    if output.suffix != FORMATS[name][0]:
        raise UsageError(f"--output {output}: a file of --format {name} ends in {FORMATS[name][0]}.")
    return name


def _check_precision(args: argparse.Namespace) -> None:
    chosen = [flag for flag in ("half", "int8") if getattr(args, flag)]
    if len(chosen) > 1:
        raise UsageError("--half and --int8 exclude each other: give one, and export twice for both.")
    if chosen and args.format != "onnx":
        raise UsageError(f"--{chosen[0]} is for --format onnx, got {args.format}.")
    if args.int8 and args.calibration is None:
        raise UsageError("--int8 needs --calibration DIR: a folder of images like those that the detector will see.")
    if args.calibration is not None and not args.int8:
        raise UsageError("--calibration is for --int8: add --int8, or leave it out.")
    if args.calibration is not None and not args.calibration.is_dir():
        raise UsageError(f"--calibration {args.calibration} is not a folder. Give one that holds images.")
    if args.max_images < 1:
        raise UsageError(f"--max-images must be >= 1, got {args.max_images}.")
