"""The arguments of ``train_net.py``: Detectron2's, defined without it, so that ``--help`` need not import torch."""

import argparse
import os

__all__ = ["argument_parser"]

EXAMPLES = """
Examples:
  train the paper's detector        train_net.py --config-file configs/retina_R101_FPN.yaml --num-gpus 8
  score a checkpoint                train_net.py --config-file configs/retina_R101_FPN.yaml --eval-only \\
                                        MODEL.WEIGHTS output/model_final.pth
  go on after an interruption       the same command with --resume
  on 8 GPUs, started again when one  torchrun --nproc-per-node 8 --max-restarts 3 \\
  of the processes dies                 train_net.py --config-file configs/retina_R101_FPN.yaml --resume
  train on your own COCO-format set train_net.py --config-file configs/retina_R50_FPN.yaml \\
                                        DATASETS.TRAIN_JSON train.json DATASETS.TRAIN_IMAGES images \\
                                        DATASETS.VAL_JSON val.json DATASETS.VAL_IMAGES images \\
                                        MODEL.RETINANET.NUM_CLASSES 0
  on a VOC, YOLO, LabelMe or CSV folder train_net.py --config-file configs/retina_R50_FPN.yaml \\
                                        DATASETS.TRAIN_PATH farm DATASETS.VAL_FRACTION 0.2 \\
                                        MODEL.RETINANET.NUM_CLASSES 0
"""

# Detectron2's rule: a port of the dynamic range (49152 to 65535) that is the same for each call of a user.
FIRST_PORT, NUM_PORTS = 2**15 + 2**14, 2**14

DIST_TIMEOUT = 1800  # Detectron2's half an hour


def argument_parser(program: str = "train_net.py") -> argparse.ArgumentParser:
    """Detectron2's ``default_argument_parser``, with two options for processes and ``--verbose``.

    The help names ``program``.
    """
    user = os.getuid() if hasattr(os, "getuid") else 1
    address = f"tcp://127.0.0.1:{FIRST_PORT + user % NUM_PORTS}"
    examples = EXAMPLES.replace("train_net.py", program)
    parser = argparse.ArgumentParser(
        prog=program, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML, such as configs/retina_R50_FPN.yaml")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="score MODEL.WEIGHTS, train nothing")
    parser.add_argument("--verbose", action="store_true", help="all of log.txt on the terminal too")
    parser.add_argument("--num-gpus", type=int, default=1, help="of each machine (%(default)s)")
    parser.add_argument("--num-machines", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, from 0 (%(default)s)")
    parser.add_argument("--dist-url", default=address, help="where the processes meet (%(default)s)")
    parser.add_argument("--num-processes", type=int, default=0, help="of each machine, on the CPU in place of GPUs")
    parser.add_argument(
        "--dist-timeout",
        type=float,
        default=DIST_TIMEOUT,
        metavar="SECONDS",
        help="after which a process gives up waiting for the others; longer than an evaluation (%(default)s)",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, last of all")
    return parser
