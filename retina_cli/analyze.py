"""``retina analyze``: losses, imbalance, anchors and checkpoints as figures and numbers (docs/analysis.md)."""

import argparse
import importlib

EXAMPLES = """
Examples:
  do the anchors fit the boxes           retina analyze anchors --config-file my.yaml --output output/anchors
  negatives for each positive            retina analyze imbalance --config-file my.yaml
  the paper's curves of the losses       retina analyze losses --output output/losses
"""
LOSSES_EXAMPLES = """
Examples:
  the paper's curves              retina analyze losses --output output/losses
  a finer look at small gammas    retina analyze losses --gamma 0 0.1 0.2 0.5 --range -8 4 --output output/losses
  FL* alone, three settings       retina analyze losses --gamma 0 --star 2,1 4,0 3,0.5 --output output/star
  as weighted for a positive      retina analyze losses --alpha 0.25 --output output/losses

Writes loss_over_p_t, loss_over_x_t and gradient_over_x_t as PNG, SVG and CSV.
"""
LOSS_CDF_EXAMPLES = """
Examples:
  a trained checkpoint        retina analyze loss-cdf --config-file configs/retina_R101_FPN_600.yaml \\
                                  --weights model_final.pth
  on a set given by path      retina analyze loss-cdf --config-file configs/examples/bccd.yaml \\
                                  --weights model_final.pth --output output/cdf \\
                                  DATASETS.VAL_JSON val.json DATASETS.VAL_IMAGES images
  each anchor counted once    retina analyze loss-cdf --negatives anchors --config-file ... --weights ...

Writes loss_cdf as PNG, SVG, CSV (the curves) and JSON (the numbers).
"""
IMBALANCE_EXAMPLES = """
Examples:
  a registered set              retina analyze imbalance --config-file configs/retina_R50_FPN_600.yaml
  a set given by path           retina analyze imbalance --config-file configs/examples/bccd.yaml \\
                                    DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images
  with crops, flips and scales  retina analyze imbalance --augment --config-file ...
  without the prior             retina analyze imbalance --config-file ... MODEL.RETINANET.USE_PRIOR False

Writes imbalance as PNG, SVG, CSV (counts per level) and JSON.
"""
ANCHORS_EXAMPLES = """
Examples:
  a set given by path      retina analyze anchors --config-file configs/examples/bccd.yaml --output output/anchors \\
                               DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images
  two configs, no fitting  retina analyze anchors --config-file configs/retina_R50_FPN.yaml \\
                               --config-file mine.yaml --no-fit

The KEY VALUE pairs apply to every config; the data set is DATASETS.TRAIN of the first.
"""
ASSIGNMENT_EXAMPLES = """
Examples:
  the first image of a set      retina analyze assignment --config-file configs/examples/bccd.yaml \\
                                    DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images
  some by id, name and place    retina analyze assignment --config-file configs/retina_R50_FPN.yaml \\
                                    --image-id 139 --file-name 000000000285.jpg --index 7

Images are resized as for testing, neither flipped nor cropped; the network does not run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="analysis", required=True)

    def add(name: str, does: str, module: str, examples: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        command.set_defaults(module=f"retina_plugin.apps.analysis.{module}")
        return command

    losses = add(
        "losses", "draw the losses and their gradients (paper Figures 1, 5, 6)", "loss_curves", LOSSES_EXAMPLES
    )
    # The gammas of Figure 1 and the (gamma, beta) of Table 3; both axes of Figures 5 and 6 reach from -5 to 5.
    losses.add_argument(
        "--gamma", nargs="+", default=("0", "0.5", "1", "2", "5"), metavar="G", help="focal losses, >= 0; 0 is CE"
    )
    losses.add_argument("--star", nargs="*", default=("2,1", "4,0"), metavar="G,B", help="FL* by gamma > 0 and beta")
    losses.add_argument("--alpha", type=float, help="weigh every curve by this alpha_t in [0, 1] (default: not)")
    losses.add_argument(
        "--range", type=float, nargs=2, default=(-5.0, 5.0), metavar=("LOW", "HIGH"), help="of x_t (default: -5 5)"
    )
    losses.add_argument("--output", default="output/losses", help="folder (default: %(default)s)")

    cdf = add(
        "loss-cdf", "draw how the focal loss of a checkpoint is spread over the examples (paper Figure 4)",
        "loss_cdf", LOSS_CDF_EXAMPLES,
    )  # fmt: skip
    # 100 images of 600 x 800 and 80 classes hold 7 x 10^8 terms, 70 times the paper's 10^7.
    _add_data_arguments(cdf, split="test", max_images=100, output="output/loss_cdf")
    cdf.add_argument("--weights", default="", metavar="FILE", help="checkpoint (default: MODEL.WEIGHTS)")
    cdf.add_argument(
        "--gamma", nargs="+", default=("0", "0.5", "1", "2"), metavar="G",
        help="focal losses, >= 0 (default: 0 0.5 1 2, as in Figure 4)",
    )  # fmt: skip
    cdf.add_argument(
        "--negatives", choices=("terms", "anchors"), default="terms",
        help="every (anchor, class) term, or each background anchor's most confident class (default: terms)",
    )  # fmt: skip

    imbalance = add(
        "imbalance", "count positives, ignored and negatives of a data set, and their loss before training",
        "imbalance", IMBALANCE_EXAMPLES,
    )  # fmt: skip
    # A mean over 500 images is known to 1 / sqrt(500) = 4.5 % of the spread between images.
    _add_data_arguments(imbalance, split="train", max_images=500, output="output/imbalance")
    imbalance.add_argument(
        "--augment", action="store_true", help="training's augmentation (default: its resizing alone)"
    )

    anchors = add(
        "anchors", "measure which boxes of a data set the anchors reach, at what cost, and fit anchors to it",
        "anchor_coverage", ANCHORS_EXAMPLES,
    )  # fmt: skip
    anchors.add_argument(
        "--config-file", action="append", required=True, metavar="FILE", help="may be given several times"
    )
    anchors.add_argument("--output", default="output/anchors", help="folder of the results (default: %(default)s)")
    anchors.add_argument("--no-fit", action="store_true", help="propose no anchors")
    anchors.add_argument(
        "--objective", choices=("mean-iou", "coverage"), default="mean-iou",
        help="what the proposal maximises: mean best IoU, or the share of boxes with best IoU >= the upper "
        "IOU_THRESHOLDS (default: %(default)s)",
    )  # fmt: skip
    anchors.add_argument(
        "--max-anchors", type=int, help="most anchors a point of the proposal (default: the first config's)"
    )
    anchors.add_argument(
        "--margin", type=float, default=0.01,
        help="least gain of the objective on held-out images for a proposal (default: %(default)s)",
    )  # fmt: skip
    anchors.add_argument("--images", type=int, default=3, help="images to draw; 0 for none (default: %(default)s)")
    anchors.add_argument("--seed", type=int, default=0, help="seed of the division into halves (default: %(default)s)")
    anchors.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides, as for train_net.py")

    assignment = add(
        "assignment", "draw given images with their positive and ignored anchors", "assignment", ASSIGNMENT_EXAMPLES
    )
    assignment.add_argument("--config-file", required=True, metavar="FILE")
    assignment.add_argument(
        "--image-id", action="append", default=[], help="id of an image in the annotations; repeatable"
    )
    assignment.add_argument("--file-name", action="append", default=[], help="name of an image file; repeatable")
    assignment.add_argument(
        "--index", action="append", default=[], type=int, help="place in the set, from 0; repeatable"
    )
    assignment.add_argument(
        "--output", default="output/assignment", help="folder of the results (default: %(default)s)"
    )
    assignment.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides, as for train_net.py")


def _add_data_arguments(parser: argparse.ArgumentParser, *, split: str, max_images: int, output: str) -> None:
    """``--config-file``, ``--split``, ``--max-images``, ``--seed``, ``--output`` and KEY VALUE pairs, with defaults."""
    parser.add_argument("--config-file", required=True, metavar="FILE", help="as for train_net.py")
    parser.add_argument(
        "--split", choices=("train", "test"), default=split,
        help="DATASETS.TRAIN or DATASETS.TEST (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-images", type=int, default=max_images, metavar="N", help="0 for all (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample of images (default: %(default)s)")
    parser.add_argument("--output", default=output, metavar="DIR", help="folder (default: %(default)s)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, last of all")


def run(args: argparse.Namespace) -> None:
    importlib.import_module(args.module).run(args)
