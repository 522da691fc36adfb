"""``retina convert-weights``: torchvision's RetinaNet weights as a checkpoint of Detectron2's keys."""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from ...errors import SetupError, exit_status, first_line
from ...files import write_whole

__all__ = ["main"]

EXAMPLES = """
Examples:
  retina convert-weights retinanet_resnet50_fpn_coco-eeacb38b.pth output/torchvision_r50.pth
  retina convert-weights mine.pth output/mine.pth --num-classes 3

The checkpoint is for configs/retina_R50_FPN_torchvision.yaml. Converting is not needed to train or to evaluate:
MODEL.WEIGHTS may name torchvision's file itself. It is for code that uses Detectron2 alone.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the return value is the exit status: 0, or 2 for a mistake to mend."""
    parser = argparse.ArgumentParser(
        prog="retina convert-weights", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("source", type=Path, help="state dict of torchvision's retinanet_resnet50_fpn, .pth")
    parser.add_argument("output", type=Path, help=".pth to write")
    parser.add_argument("--num-classes", type=int, help="keep so many; one more in the file is a background, left out")
    args = parser.parse_args(argv)
    return exit_status(lambda: convert_file(args.source, args.output, args.num_classes))


def convert_file(source: Path, output: Path, num_classes: int | None) -> None:
    """Write ``output`` for ``source``.

    Raises:
        SetupError: ``source`` is no state dict of a RetinaNet of torchvision's, or ``output`` cannot be written.
    """
    import torch

    from ...weights.read import read_weights
    from ...weights.torchvision import convert_torchvision, is_torchvision

    try:
        state = read_weights(str(source))["model"]
    except SetupError:
        raise
    except Exception as error:  # unpickling a file that is none raises whatever its bytes ask for
        raise SetupError(
            f"{source} cannot be read as weights ({first_line(error)}). Give a .pth file of torchvision."
        ) from error
    if not isinstance(state, dict) or not is_torchvision(state):
        raise SetupError(f"{source} has not the keys of torchvision's retinanet_resnet50_fpn. Give its state dict.")
    model, manifest = convert_torchvision(state, num_classes)
    content = io.BytesIO()
    torch.save({"model": model, "manifest": manifest, "__author__": "torchvision"}, content)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, content.getvalue())
    except OSError as error:
        raise SetupError(f"{output} cannot be written ({error.strerror}). Name another file.") from error
    kept = len(model["head.cls_score.bias"]) * 4 // len(model["head.bbox_pred.bias"])
    print(f"{output}: {kept} classes, for configs/retina_R50_FPN_torchvision.yaml")
