"""``retina quickstart``, ``make quickstart``: a trained, evaluated and drawn detector on the built-in sample set."""

import argparse
import json
import time
from pathlib import Path

from .main import main

EXAMPLES = """
Examples:
  all of it, in minutes on a CPU    retina quickstart
  another seed, to another folder   retina quickstart --seed 1 --output output/quickstart_1
  longer                            retina quickstart --output output/longer SOLVER.MAX_ITER 1000
"""
VAL_SET = "retina_sample_val"
NUM_PICTURES = 12  # pairs of pictures on the sheet: one screen
DRAWN_SCORE = 0.4  # scores of a focal-loss detector are low by design, so it is below 0.5
# Keys that a training fits to the machine.
OF_THE_MACHINE = {"MODEL.DEVICE", "DATALOADER.NUM_WORKERS"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the sample set ($DETECTRON2_DATASETS/retina_sample)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/quickstart"), metavar="DIR", help="of the run (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys, last of all")


def run(args: argparse.Namespace) -> int:
    """Build the sample set, train, evaluate, draw; the exit status is that of the training."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from retina_plugin.apps.report.pictures import write_prediction_sheet
    from retina_plugin.config.load import config_difference, load_base_config, load_config
    from retina_plugin.config.shipped import CONFIGS
    from retina_plugin.data.sample.catalog import default_sample_root, register_sample_datasets
    from retina_plugin.data.sample.files import make_sample_dataset
    from retina_plugin.errors import SetupError
    from retina_plugin.evaluation.predictions import read_coco_results

    config = CONFIGS / "quickstart.yaml"
    opts = ["OUTPUT_DIR", str(args.output), "SEED", str(args.seed), *args.opts]
    record_file = args.output / "run_record.json"
    if record_file.is_file():  # an earlier run of other settings would be taken for this one's result
        wanted = config_difference(load_config(str(config), opts), load_base_config(str(config)))
        before = json.loads(record_file.read_text(encoding="utf-8"))["difference_from_base"]
        now = {key: value for key, (_, value) in wanted.items()}
        keys = {*before, *now} - OF_THE_MACHINE
        if changed := sorted(key for key in keys if json.dumps(before.get(key)) != json.dumps(now.get(key))):
            raise SetupError(
                f"{args.output} holds a run with other settings ({', '.join(changed)}). "
                "Give --output another folder, or delete it."
            )
    start = time.monotonic()
    root = make_sample_dataset(args.data or default_sample_root())
    register_sample_datasets(root)
    made = time.monotonic()
    if config.is_relative_to(Path.cwd()):  # for the record, which names no folder of the machine
        config = config.relative_to(Path.cwd())
    # A second call goes on with, or only evaluates, what the first one left.
    if status := main(["train", "--config-file", str(config), "--resume", *opts]):
        return status
    done = time.monotonic()
    records = DatasetCatalog.get(VAL_SET)[:NUM_PICTURES]
    results = read_coco_results(args.output / "inference" / VAL_SET / "coco_instances_results.json", VAL_SET, records)
    sheet = args.output / "predictions.jpg"
    write_prediction_sheet(
        sheet, records, results, MetadataCatalog.get(VAL_SET).thing_classes, score_thresh=DRAWN_SCORE
    )
    record = json.loads(record_file.read_text(encoding="utf-8"))
    # null in the record: nothing was detected
    ap50, ap = (record["results"]["bbox"][metric] or 0.0 for metric in ("AP50", "AP"))
    print(
        f"\nsample set   {root}  ({made - start:.0f} s)\n"
        f"AP50 {ap50:.1f}, AP {ap:.1f} on {record['data']['sets'][VAL_SET]['images']} held-out images, "
        f"seed {args.seed}  ({done - made:.0f} s for {record['iterations'] - record['start_iteration']} iterations "
        "and the evaluation)\n"
        f"pictures     {sheet}  (ground truth left, predictions right)\n"
        f"checkpoint   {args.output / 'model_final.pth'}\n"
        f"record       {record_file}\n"
        f"curves       tensorboard --logdir {args.output}\n"
        'Next: your own images, in README.md under "Your own images".'
    )
    return 0
