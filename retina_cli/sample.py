"""``retina sample``: write the built-in sample set in COCO format."""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

EXAMPLES = """
Examples:
  the set of make quickstart             retina sample
  a small one, for a try                 retina sample /tmp/set --num-train 20 --num-val 10
  the set of the small studies           retina sample datasets/retina_sparse --num-train 1600 --num-val 150 \\
                                             --max-objects 1 --one-class
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", nargs="?", type=Path, help="folder ($DETECTRON2_DATASETS/retina_sample)")
    parser.add_argument("--num-train", type=int, default=800, help="training images (%(default)s)")
    parser.add_argument("--num-val", type=int, default=100, help="validation images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--max-objects", type=int, default=20, help="objects of an image at most (%(default)s)")
    parser.add_argument("--one-class", action="store_true", help="annotate every digit as a digit")
    parser.add_argument(
        "--style", choices=("crowded", "plain"), default="plain", help="number, size and clutter of objects (plain)"
    )


def run(args: argparse.Namespace) -> None:
    from retina_plugin.data.sample.catalog import default_sample_root
    from retina_plugin.data.sample.files import make_sample_dataset

    settings = {name: value for name, value in vars(args).items() if name != "root"}
    start = time.perf_counter()
    root = make_sample_dataset(args.root or default_sample_root(), **settings)
    print(f"{root}: ready after {time.perf_counter() - start:.1f} s")
    for split in ("train", "val"):
        record = json.loads((root / "annotations" / f"{split}.json").read_text())
        counts = Counter(annotation["category_id"] for annotation in record["annotations"])
        classes = ", ".join(f"{category['name']} {counts[category['id']]}" for category in record["categories"])
        print(f"{split}: {len(record['images'])} images, {len(record['annotations'])} objects ({classes})")
