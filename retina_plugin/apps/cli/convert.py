"""``retina convert``: boxes in any of the known formats to COCO JSON, with what was found and what was left out."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...errors import SetupError, exit_status, printable
from ...files import write_whole

__all__ = ["main"]


EXAMPLES = """
Examples:
  Pascal VOC, found out by itself     convert VOC2007 --output voc.json
  YOLO with a fifth for validation    convert farm/data.yaml --output farm.json --split 0.2 --seed 0
                                        writes farm_train.json and farm_val.json
  images of one place stay together   convert farm --output farm.json --split 0.2 --group folder
  images elsewhere, classes in order  convert xml --images photos --classes names.txt --output set.json

Formats: coco, voc (Pascal VOC XML), yolo (txt), labelme (JSON), csv (path,x1,y1,x2,y2,class).
Nothing is written where a file has a mistake; the message names file and line.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; the return value is the exit status: 0, 2 (a mistake to mend) or 130 (Ctrl-C)."""
    args = argument_parser().parse_args(argv)
    return exit_status(lambda: convert(args))


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="retina convert",
        description="Write boxes in any of the known formats as COCO JSON.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, help="folder or file of the annotations")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--format", default="auto", help="auto, coco, voc, yolo, labelme or csv (%(default)s)")
    parser.add_argument(
        "--images", type=Path, help="folder of the images, where the format's usual place is not theirs"
    )
    parser.add_argument("--classes", type=Path, help="file of class names in their order, one a line (or data.yaml)")
    parser.add_argument("--subset", default="", help="train or val, where the data set says itself which that is (all)")
    parser.add_argument(
        "--split", type=float, default=0.0, metavar="PART", help="of the images for validation, like 0.2"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (%(default)s)")
    parser.add_argument(
        "--allow-outside", action="store_true", help="take images that the annotations name outside their folder"
    )
    parser.add_argument("--group", default="", help="kept in one part: folder, column:NAME or regex:PATTERN")
    return parser


def convert(args: argparse.Namespace) -> None:
    """Read, split, write and tell.

    Raises:
        SetupError: naming file and line, or the output cannot be written.
    """
    from ...data.formats import read_boxes  # here: --help needs no Pillow
    from ...data.formats.files import read_names
    from ...data.split import split_set

    if args.subset not in ("", "train", "val"):
        raise SetupError(f"--subset must be train or val, got {args.subset!r}.")
    classes = read_names(args.classes) if args.classes else None
    whole = read_boxes(
        args.input, args.format, images=args.images, subset=args.subset, classes=classes,
        allow_outside=args.allow_outside,
    )  # fmt: skip
    parts = {args.output: whole}
    if args.split:
        train, val = split_set(whole, args.split, args.seed, args.group)
        names = [args.output.with_name(f"{args.output.stem}_{part}{args.output.suffix}") for part in ("train", "val")]
        parts = dict(zip(names, (train, val), strict=True))
    for path, part in parts.items():
        _write(path, part.to_coco(whole.class_names))
    _tell(parts, whole.class_names)


def _write(path: Path, content: dict) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content))
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}.") from error


def _tell(parts: dict, class_names: list[str]) -> None:
    from ...data.formats.box_set import summarise_remarks

    counts: list[Counter] = [part.class_counts for part in parts.values()]
    for (path, part), count in zip(parts.items(), counts, strict=True):
        empty = sum(not image.boxes for image in part.images)
        print(f"{path}: {len(part.images)} images ({empty} without objects), {count.total()} boxes")
    width = max((len(printable(name)) for name in class_names), default=0)
    for name in class_names:
        print(f"  {printable(name):{width}}" + "".join(f"  {count[name]:7}" for count in counts))
    remarks = [remark for part in parts.values() for remark in part.remarks]
    for sentence in summarise_remarks(remarks):
        print(f"note: {printable(sentence)}")
    print(f"images: {os.path.relpath(next(iter(parts.values())).root)}")


if __name__ == "__main__":
    sys.exit(main())
