"""``retina train``, ``train_net.py``: train a detector, or score a checkpoint."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from . import UsageError, leading_path
from .streams import guard_streams

INTERMIXED = True
STOPPED = "stopped; go on with --resume from the last checkpoint"
EXAMPLES = """
Examples:
  a folder of your own images        retina train my_folder
  with changes                       retina train my_folder OUTPUT_DIR output/longer SOLVER.MAX_ITER 3000
  a config of your own               retina train --config-file my.yaml
  train the paper's detector         retina train --config-file configs/retina_R101_FPN.yaml --num-gpus 8
  score a checkpoint                 retina train --config-file configs/retina_R101_FPN.yaml --eval-only \\
                                         MODEL.WEIGHTS output/model_final.pth
  go on after an interruption        the same command with --resume
  on 8 GPUs, started again when one  torchrun --nproc-per-node 8 --max-restarts 3 \\
  of the processes dies                  train_net.py --config-file configs/retina_R101_FPN.yaml --resume
  train on your own COCO-format set  retina train --config-file configs/retina_R50_FPN.yaml \\
                                         DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images \\
                                         DATASETS.VAL_JSON val.json DATASETS.VAL_IMAGES images \\
                                         MODEL.RETINANET.NUM_CLASSES 0

A folder alone gets a config that fits its images and this machine; it is printed, and kept as OUTPUT_DIR/chosen.yaml.
"""

# Detectron2's rule: a port of the dynamic range (49152 to 65535) that is the same for each call of a user.
FIRST_PORT, NUM_PORTS = 2**15 + 2**14, 2**14

CHOSEN = "chosen.yaml"  # in OUTPUT_DIR: the config of a folder that was given alone
DIST_TIMEOUT = 1800  # Detectron2's half an hour


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Detectron2's arguments, written out so that ``--help`` need not import it, and three of our own."""
    user = os.getuid() if hasattr(os, "getuid") else 1
    address = f"tcp://127.0.0.1:{FIRST_PORT + user % NUM_PORTS}"
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML, such as configs/retina_R50_FPN.yaml")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="score MODEL.WEIGHTS, train nothing")
    parser.add_argument("--verbose", action="store_true", help="all of log.txt on the terminal too")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs of each machine (%(default)s)")
    parser.add_argument("--num-machines", type=int, default=1, help="machines that share the run (%(default)s)")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine, from 0 (%(default)s)")
    parser.add_argument("--dist-url", default=address, help="where the processes meet (%(default)s)")
    parser.add_argument(
        "--num-processes", type=int, default=0, help="processes of each machine, on the CPU in place of GPUs"
    )
    parser.add_argument(
        "--dist-timeout",
        type=float,
        default=DIST_TIMEOUT,
        metavar="SECONDS",
        help="time until a process gives up waiting for the others; longer than an evaluation (%(default)s)",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="[FOLDER] KEY VALUE", help="folder of boxes; config keys, last of all"
    )


def choose_for_folder(args: argparse.Namespace) -> bool:
    """Put a folder among the words of the command line in its key; without a config file, choose the config for it.

    Returns:
        True if a config was chosen; ``args.chosen`` is its text.
    """
    folder, opts = leading_path(args.opts)
    args.chosen = ""
    if not folder:
        if not args.config_file:
            raise UsageError(
                "give a folder of images with boxes, or --config-file FILE, such as configs/retina_R50_FPN.yaml."
            )
        return False
    if not os.path.exists(folder):
        raise UsageError(f"{folder} does not exist: give a folder of images with boxes, or KEY VALUE pairs.")
    if args.config_file:
        args.opts = ["DATASETS.TRAIN_PATH", folder, *opts]
        return False
    if "OUTPUT_DIR" not in opts[::2]:
        place = Path(folder).resolve()
        opts = ["OUTPUT_DIR", os.path.join("output", (place if place.is_dir() else place.parent).name), *opts]
    from retina_plugin.config.load import load_config
    from retina_plugin.starting_config import SMALL, choose_config

    earlier = Path(load_config(SMALL, opts).OUTPUT_DIR, CHOSEN)
    if getattr(args, "resume", False) and earlier.is_file():
        args.config_file, args.opts = str(earlier), opts
        return False
    chosen = choose_config(folder, opts)
    args.chosen = chosen.as_yaml()
    args.config_file, args.opts = chosen.base, [*chosen.opts, *opts]
    return True


def train_here(args: argparse.Namespace) -> None:
    """Be one process of a training; a spawned one has streams of its own to guard."""
    guard_streams()
    from retina_plugin.training.run import run as train

    train(args)


def run(args: argparse.Namespace) -> None:
    from retina_plugin.errors import SetupError
    from retina_plugin.training.processes import start
    from retina_plugin.weights.files import DISK_FULL

    if choose_for_folder(args):
        print(args.chosen)
    args.command = shlex.join(["python", *sys.orig_argv[1:]])  # for the run record; a spawned process has another one
    try:
        start(train_here, args)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise SetupError(f"{error}. Free space, and go on with --resume.") from error
