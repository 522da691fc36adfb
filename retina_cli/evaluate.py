"""``retina evaluate``: a detector's scores and errors, as one page and as files of figures."""

import argparse
import logging
import re
import shlex
from pathlib import Path

from . import UsageError, check_image_folder, leading_path

INTERMIXED = True
COCO_LIMIT = 100  # detections of an image
SAMPLES = 1000  # of the bootstrap; other seeds move the ends by 5 % of its width (measured on 72 images, 6 seeds)
CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")

EXAMPLES = """
Examples:
  a run on its test set                retina evaluate output/mine --output output/evaluation
  a checkpoint on another folder       retina evaluate model_final.pth other_folder
  another test set                     retina evaluate model_final.pth DATASETS.VAL_JSON val.json \\
                                                  DATASETS.VAL_IMAGES images
  predictions of any detector          retina evaluate --predictions coco_instances_results.json \\
                                                  --ground-truth val.json --images images
  detections of retina predict         retina evaluate --predictions predictions/predictions.json \\
                                                  --ground-truth val.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights", nargs="?", default="", metavar="WEIGHTS",
        help="checkpoint or folder of a run (MODEL.WEIGHTS of --config-file)",
    )  # fmt: skip
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML (the description in WEIGHTS)")
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE", help="COCO results, or a .json or .csv file of retina predict"
    )
    parser.add_argument("--ground-truth", type=Path, metavar="FILE", help="COCO JSON that the predictions are for")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images, for pictures")
    parser.add_argument(
        "--output", type=Path, default=Path("output/evaluation"), metavar="DIR", help="folder of the page (%(default)s)"
    )
    parser.add_argument("--title", default="", help="title of the page")
    parser.add_argument(
        "--score-threshold", type=float, metavar="S", help="least score in pictures and confusion (that of the best F1)"
    )
    parser.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="most detections of an image (COCO's 100; for a model TEST.DETECTIONS_PER_IMAGE)",
    )
    parser.add_argument(
        "--pictures", type=int, default=12, metavar="N", help="pictures of the worst images (%(default)s)"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys")


def run(args: argparse.Namespace) -> None:
    """Write the page and the files; their paths and the main figures go to the screen."""
    if CONFIG_KEY.fullmatch(args.weights) and not Path(args.weights).exists():  # MODEL.WEIGHTS of --config-file
        args.weights, args.opts = "", [args.weights, *args.opts]
    folder, args.opts = leading_path(args.opts)
    if folder:
        args.opts = ["DATASETS.VAL_PATH", folder, *args.opts]
    _check(args)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    if args.predictions:
        from retina_plugin.evaluation.boxes import read_truth
        from retina_plugin.evaluation.predictions import read_detections

        truth = read_truth(args.ground_truth, args.images or "")
        found = read_detections(args.predictions, truth)
        name = f"{args.predictions.name} against {args.ground_truth.name}"
        _write(args, truth, found, args.images, args.output, name, args.max_detections or COCO_LIMIT)
        sides = shlex.join([str(args.predictions), "OTHER.json", "--ground-truth", str(args.ground_truth)])
        print(f"Next: look at {args.output / 'index.html'}; against another detector: retina compare {sides}")
        return
    from retina_plugin.apps.evaluate.model_run import run_model

    runs = run_model(args.config_file, args.weights, args.output, args.opts)
    for run in runs:
        folder = args.output / run.dataset_name if len(runs) > 1 else args.output
        name = f"{Path(args.weights or args.config_file).name} on {run.dataset_name}"
        evaluation = _write(args, run.truth, run.found, run.image_root, folder, name, args.max_detections or run.limit)
    use = ["retina", "predict", run.weights, "PHOTOS", "--score", f"{evaluation.threshold:.2g}"]
    print(f"Next: look at {folder / 'index.html'}; on pictures of your own: {shlex.join(use)}")


def _check(args: argparse.Namespace) -> None:
    if bool(args.predictions) == bool(args.weights or args.config_file):
        raise UsageError("give either WEIGHTS, a checkpoint, or --predictions with --ground-truth.")
    if args.predictions and not args.ground_truth:
        raise UsageError(f"--predictions {args.predictions} needs --ground-truth: the COCO JSON file of the boxes.")
    if args.predictions and args.opts:
        raise UsageError(f"config keys ({args.opts[0]}) say nothing to --predictions: leave them out.")
    if not args.predictions and (args.ground_truth or args.images):
        raise UsageError("--ground-truth and --images go with --predictions; a model is evaluated on DATASETS.TEST.")
    check_image_folder(args.images)
    if args.score_threshold is not None and not 0 <= args.score_threshold <= 1:
        raise UsageError(f"--score-threshold must be in [0, 1], got {args.score_threshold}.")
    if args.max_detections is not None and args.max_detections < 1:
        raise UsageError(f"--max-detections must be at least 1, got {args.max_detections}.")
    if args.pictures < 0:
        raise UsageError(f"--pictures must be at least 0, got {args.pictures}.")


def _write(args, truth, found, image_root, folder: Path, name: str, limit: int):
    """Measure, write and print the results of one set; return the ``Evaluation``."""
    from retina_plugin.apps.evaluate.page import evaluation_page
    from retina_plugin.apps.report.files import write_page
    from retina_plugin.apps.report.pages import number
    from retina_plugin.evaluation.evaluate import evaluate_detections, write_evaluation

    evaluation = evaluate_detections(truth, found, limit=limit, threshold=args.score_threshold, samples=SAMPLES)
    root = None if image_root is None else str(image_root)
    page = evaluation_page(evaluation, title=args.title or name, image_root=root, pictures=args.pictures)
    folder.mkdir(parents=True, exist_ok=True)
    write_page(folder, page, "evaluation.json")
    paths = write_evaluation(evaluation, folder)
    summary = evaluation.scores.summary
    line = ", ".join(f"{key} {number(summary[key])}" for key in ("AP", "AP50", "AP75", "APs", "APm", "APl"))
    if bounds := evaluation.intervals.get("AP"):
        line += f"; 95 % interval of AP {number(bounds[0])} to {number(bounds[1])}"
    print(line)
    errors = evaluation.errors
    if errors.ap50 is not None:
        parts = ", ".join(f"{key} {number(value)} ({errors.counts[key]})" for key, value in errors.lost.items())
        print(f"AP50 lost (errors): {parts}; to all false positives {number(errors.false_positives)}, "
              f"to all misses {number(errors.false_negatives)}")  # fmt: skip
    if evaluation.point:
        point = evaluation.point
        print(f"best F1 {point.f1:.3f} from score {point.threshold:.3f} on: precision {point.precision:.3f}, "
              f"recall {point.recall:.3f}")  # fmt: skip
    print(f"{folder / 'index.html'}, and the same numbers in {', '.join(path.name for path in paths)}")
    return evaluation
