"""``retina convert-weights``: torchvision's RetinaNet weights as a checkpoint of Detectron2's keys."""

import argparse
import io
from pathlib import Path

EXAMPLES = """
Examples:
  retina convert-weights retinanet_resnet50_fpn_coco-eeacb38b.pth output/torchvision_r50.pth
  retina convert-weights mine.pth output/mine.pth --num-classes 3

The checkpoint is for configs/retina_R50_FPN_torchvision.yaml. Converting is not needed to train or to evaluate:
MODEL.WEIGHTS may name torchvision's file itself. It is for code that uses Detectron2 alone.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="state dict of torchvision's retinanet_resnet50_fpn, .pth")
    parser.add_argument("output", type=Path, help=".pth to write")
    parser.add_argument("--num-classes", type=int, help="keep so many; one more in the file is a background, left out")


def run(args: argparse.Namespace) -> None:
    """Write ``output`` for ``source``."""
    import torch

    from retina_plugin.errors import SetupError, first_line
    from retina_plugin.files import write_whole
    from retina_plugin.weights.read import read_weights
    from retina_plugin.weights.torchvision import convert_torchvision, is_torchvision

    try:
        state = read_weights(str(args.source))["model"]
    except SetupError:
        raise
    except Exception as error:  # unpickling a file that is not a checkpoint can raise anything
        raise SetupError(
            f"{args.source} cannot be read as weights ({first_line(error)}). Give a .pth file of torchvision."
        ) from error
    if not isinstance(state, dict) or not is_torchvision(state):
        raise SetupError(
            f"{args.source} has not the keys of torchvision's retinanet_resnet50_fpn. Give its state dict."
        )
    model, manifest = convert_torchvision(state, args.num_classes)
    content = io.BytesIO()
    torch.save({"model": model, "manifest": manifest, "__author__": "torchvision"}, content)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(args.output, content.getvalue())
    except OSError as error:
        raise SetupError(f"{args.output} cannot be written ({error.strerror}). Name another file.") from error
    kept = len(model["head.cls_score.bias"]) * 4 // len(model["head.bbox_pred.bias"])
    print(f"{args.output}: {kept} classes, for configs/retina_R50_FPN_torchvision.yaml")
