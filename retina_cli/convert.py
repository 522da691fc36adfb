"""``retina convert``: boxes in any of the known formats to COCO JSON, with counts, and notes on omissions."""

import argparse
import json
import os
from pathlib import Path

from . import UsageError

EXAMPLES = """
Examples:
  Pascal VOC, found out by itself     retina convert VOC2007 --output voc.json
  YOLO with a fifth for validation    retina convert farm/data.yaml --output farm.json --split 0.2 --seed 0
                                               writes farm_train.json and farm_val.json
  images of one place stay together   retina convert farm --output farm.json --split 0.2 --group folder
  images elsewhere, classes in order  retina convert xml --images photos --classes names.txt --output set.json

Formats: coco, voc (Pascal VOC XML), yolo (txt), labelme (JSON), csv (path,x1,y1,x2,y2,class).
Nothing is written where a file has a mistake; the message names file and line.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help="folder or file of the annotations")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--force", action="store_true", help="replace an output that is not COCO JSON; never the input")
    parser.add_argument("--format", default="auto", help="auto, coco, voc, yolo, labelme or csv (%(default)s)")
    parser.add_argument("--images", type=Path, help="folder of the images, if it is not the format's usual one")
    parser.add_argument("--classes", type=Path, help="file of class names in their order, one a line (or data.yaml)")
    parser.add_argument("--subset", default="", help="train or val, if the data set itself says which is which (all)")
    parser.add_argument(
        "--split", type=float, default=0.0, metavar="PART", help="share of the images for validation, like 0.2"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (%(default)s)")
    parser.add_argument(
        "--allow-outside", action="store_true", help="take images that the annotations name outside their folder"
    )
    parser.add_argument("--group", default="", help="images to keep in one part: folder, column:NAME or regex:PATTERN")


def run(args: argparse.Namespace) -> None:
    """Read, split, write, and print the counts of each class."""
    from retina_plugin.data.formats import read_boxes, say_options
    from retina_plugin.data.formats.box_set import summarise_remarks
    from retina_plugin.data.formats.detect import kind_of_json
    from retina_plugin.data.formats.files import read_names
    from retina_plugin.data.split import split_set
    from retina_plugin.errors import SetupError, count, printable
    from retina_plugin.files import write_whole

    names = [args.output]
    if args.split:
        names = [args.output.with_name(f"{args.output.stem}_{part}{args.output.suffix}") for part in ("train", "val")]
    for path in names:
        if path.exists() and args.input.exists() and {path.resolve(), *path.resolve().parents} & {args.input.resolve()}:
            raise UsageError(f"--output {path} would overwrite what is read, or part of it: give another name.")
        if path.exists() and not args.force and not (path.is_file() and kind_of_json(path) == "coco"):
            raise UsageError(
                f"--output {path} is there, and is no COCO JSON. Add --force to replace it, or another name."
            )
    if args.subset not in ("", "train", "val"):
        raise SetupError(f"--subset must be train or val, got {args.subset!r}.")
    classes = read_names(args.classes) if args.classes else None
    with say_options():
        whole = read_boxes(
            args.input, args.format, images=args.images, subset=args.subset, classes=classes,
            allow_outside=args.allow_outside,
        )  # fmt: skip
    split = split_set(whole, args.split, args.seed, args.group) if args.split else (whole,)
    parts = dict(zip(names, split, strict=True))
    for path, part in parts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(part.to_coco(whole.class_names)))
        except OSError as error:
            raise SetupError(f"{path} cannot be written: {error.strerror}.") from error
    for path, part in parts.items():
        empty = sum(not image.boxes for image in part.images)
        num_boxes = part.class_counts.total()
        print(f"{path}: {count(len(part.images), 'image')} ({empty} without objects), {count(num_boxes, 'box')}")
    width = max((len(printable(name)) for name in whole.class_names), default=0)
    for name in whole.class_names:
        counts = "".join(f"  {part.class_counts[name]:7}" for part in parts.values())
        print(f"  {printable(name):{width}}{counts}")
    for sentence in summarise_remarks([remark for part in parts.values() for remark in part.remarks]):
        print(f"note: {printable(sentence)}")
    print(f"images: {os.path.relpath(next(iter(parts.values())).root)}")
