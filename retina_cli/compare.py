"""``retina compare``: two detectors on the same images, where one wins and the other loses."""

import argparse
import logging
import shlex
from pathlib import Path

from . import UsageError, check_image_folder

COCO_LIMIT = 100  # detections of an image

EXAMPLES = """
Examples:
  two runs                             retina compare output/first output/second
  two checkpoints, run now             retina compare output/a/model_0000999.pth output/a/model_final.pth
  predictions of any two detectors     retina compare a.json b.json --ground-truth val.json --images images
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "COCO results, a file of retina predict, a run's folder, or weights"
    parser.add_argument("first", type=Path, metavar="A", help=what)
    parser.add_argument("second", type=Path, metavar="B", help="the same of the other side")
    parser.add_argument("--ground-truth", type=Path, metavar="FILE", help="COCO JSON (the test set of the runs)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (the runs')")
    parser.add_argument(
        "--output", type=Path, default=Path("output/comparison"), metavar="DIR", help="folder of the page (%(default)s)"
    )
    parser.add_argument("--title", default="", help="title of the page")
    parser.add_argument(
        "--samples", type=int, default=1000, metavar="N", help="bootstrap samples of the images (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (%(default)s)")
    parser.add_argument(
        "--pictures", type=int, default=6, metavar="N", help="pictures of each side's wins (%(default)s)"
    )
    parser.add_argument(
        "--max-detections",
        type=int,
        default=COCO_LIMIT,
        metavar="N",
        help="most detections of an image (COCO's %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Write the page and the files; their paths and the verdict go to the screen."""
    for name, least in (("samples", 1), ("seed", 0), ("pictures", 0), ("max_detections", 1)):
        if getattr(args, name) < least:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} must be at least {least}, got {getattr(args, name)}.")
    check_image_folder(args.images)
    from retina_plugin.apps.evaluate.compare_page import comparison_page, verdict
    from retina_plugin.apps.evaluate.inputs import (
        check_same_truth,
        different_settings,
        load_detections,
        with_same_classes,
    )
    from retina_plugin.apps.report.files import write_page
    from retina_plugin.evaluation.boxes import read_truth
    from retina_plugin.evaluation.comparison import compare, write_comparison
    from retina_plugin.evaluation.evaluate import evaluate_detections
    from retina_plugin.weights.files import newest_checkpoint

    logging.basicConfig(format="%(levelname)s: %(message)s")
    sides = [
        load_detections(source, ground_truth=args.ground_truth, images=args.images, output=args.output / letter)
        for source, letter in zip((args.first, args.second), "AB", strict=True)
    ]
    reference = read_truth(args.ground_truth, quiet=True) if args.ground_truth else sides[0].truth
    sides = with_same_classes(sides, reference.class_names)
    check_same_truth(sides[0].truth, sides[1].truth, (args.first, args.second))
    evaluations = [evaluate_detections(side.truth, side.found, limit=args.max_detections) for side in sides]
    comparison = compare(*evaluations, samples=args.samples, seed=args.seed)
    settings = different_settings(sides[0].origin, sides[1].origin)
    page = comparison_page(
        comparison,
        title=args.title or " and ".join(different_names(args.first, args.second)),
        sources=(sides[0].source, sides[1].source),
        settings=settings,
        image_root=sides[0].image_root or None,
        pictures=args.pictures,
    )
    args.output.mkdir(parents=True, exist_ok=True)
    write_page(args.output, page, "comparison.json")
    paths = write_comparison(comparison, args.output)
    for line in settings:
        print(line)
    for difference in comparison.overall:
        print(verdict(difference, len(sides[0].truth.image_ids)))
    print(f"{args.output / 'index.html'}, and the same numbers in {', '.join(path.name for path in paths)}")
    better = args.second if (comparison.overall[0].value or 0) >= 0 else args.first
    is_results = better.suffix.lower() in (".json", ".csv")
    words = ["--predictions", str(better), "--ground-truth", sides[0].truth.source] if is_results else [str(better)]
    works = Path(words[-1]).is_file() or (not is_results and newest_checkpoint(better))
    more = f"; all about one side: retina evaluate {shlex.join(words)}" if works else ""
    print(f"Next: look at {args.output / 'index.html'}{more}")


def different_names(first: Path, second: Path) -> tuple[str, str]:
    """Shorten two paths to the parts that differ: runs/a/seed0 and runs/b/seed0 become a and b."""
    parts = [list(path.parts) for path in (first, second)]
    for end in (0, -1):
        while min(map(len, parts)) > 1 and parts[0][end] == parts[1][end]:
            for names in parts:
                names.pop(end)
    return str(Path(*parts[0])), str(Path(*parts[1]))
