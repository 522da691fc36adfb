"""``retina predict``: a trained detector on images, folders, videos or a camera."""

import argparse
import re
from pathlib import Path

from . import UsageError

CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")

EXIT_NOT_ALL = 1
STOPPED = "stopped: what was found so far is written"
EXAMPLES = """
Examples:
  one image                          retina predict output/mine photo.jpg
  a folder and those inside it       retina predict output/mine photos --recursive --output found
  some of it, sure detections only   retina predict output/mine 'photos/2024-*.jpg' --score 0.7
  a video                            retina predict output/mine clip.mp4 --output found
  the first camera, until Ctrl-C     retina predict output/mine 0 --output found
  boxes alone, on a GPU              retina predict output/mine photos --no-draw --device cuda
  weights of Detectron2's own        retina predict model.pth photos --config-file configs/retina_R50_FPN.yaml

Writes OUTPUT/predictions.json (COCO), OUTPUT/predictions.csv and the drawn pictures and videos in OUTPUT/drawn.
Exit status: 0; 1 if a file could not be read or drawn (the others are done); 2 for a mistake to fix.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", metavar="WEIGHTS", help="checkpoint, or the folder of a run")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image, video, folder, pattern or camera index")
    parser.add_argument("--config-file", metavar="FILE", help="YAML (the description in WEIGHTS)")
    parser.add_argument(
        "--output", type=Path, default=Path("predictions"), metavar="DIR", help="folder to write into (%(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the results that are in DIR")
    parser.add_argument("--score", type=float, default=0.5, help="least score, in [0, 1] (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="images in memory at once (%(default)s)")
    parser.add_argument("--recursive", action="store_true", help="take the folders inside a folder too")
    parser.add_argument("--no-draw", action="store_true", help="write no pictures and videos")
    parser.add_argument("--frames", type=int, metavar="N", help="most frames to read from each video or camera (all)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (the config's, or an available one)")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="config keys, last of all")


def run(args: argparse.Namespace) -> int:
    """Predict; 1 if not every file could be read."""
    for word in args.inputs:
        if CONFIG_KEY.fullmatch(word) and not Path(word).exists():
            raise UsageError(f"{word} is a config key: give KEY VALUE pairs behind --opts.")
    from retina_plugin.apps.predict.run import predict_sources
    from retina_plugin.errors import SetupError

    try:
        all_done = predict_sources(args)
    except OSError as error:  # inputs that cannot be read have been noted: this is the folder that is written into
        what = f"{error.filename or args.output} cannot be written: {error.strerror or error}"
        raise SetupError(what) from error
    return 0 if all_done else EXIT_NOT_ALL
