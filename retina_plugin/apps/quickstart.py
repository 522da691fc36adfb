"""``make quickstart``: from nothing to a trained, evaluated and drawn detector on the built-in sample set."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..config.load import config_difference, load_base_config, load_config
from ..config.shipped import CONFIGS
from ..data.sample.catalog import default_sample_root, register_sample_datasets
from ..data.sample.files import make_sample_dataset
from ..errors import SetupError, print_error
from ..evaluation.predictions import read_coco_results
from ..training import run as cli
from .report.pictures import write_prediction_sheet

__all__ = ["main"]

CONFIG = CONFIGS / "quickstart.yaml"
VAL_SET = "retina_sample_val"
# Pairs of pictures on the sheet: one screen.
NUM_PICTURES = 12
# Keys that `train_net.py` fits to the machine.
OF_THE_MACHINE = {"MODEL.DEVICE", "DATALOADER.NUM_WORKERS"}
# Detections below it are not drawn. Scores of a focal-loss detector are low by design, so it is below 0.5.
DRAWN_SCORE = 0.4


def main(argv: Sequence[str] | None = None) -> int:
    """Build the sample set, train, evaluate, draw; the return value is the exit status, as ``train_net.py``'s."""
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except SetupError as error:
        print_error(error)
        return cli.EXIT_SETUP


def _run(args: argparse.Namespace) -> int:
    opts = ["OUTPUT_DIR", str(args.output), "SEED", str(args.seed), *args.opts]
    _refuse_other_run(args.output, opts)
    start = time.monotonic()
    root = make_sample_dataset(args.data)
    register_sample_datasets(root)
    made = time.monotonic()
    # As it is called from here, for the record, which names no folder of the machine.
    config = CONFIG.relative_to(Path.cwd()) if CONFIG.is_relative_to(Path.cwd()) else CONFIG
    # A second call goes on with, or only evaluates, what the first one left.
    status = cli.main(["--config-file", str(config), "--resume", *opts])
    if status:
        return status
    done = time.monotonic()
    sheet = _draw(args.output)
    record = _record(args.output)
    # null in the record: nothing was detected
    ap50, ap = (record["results"]["bbox"][metric] or 0.0 for metric in ("AP50", "AP"))
    trained = record["iterations"] - record["start_iteration"]
    print(
        f"\nsample set   {root}  ({made - start:.0f} s)\n"
        f"AP50 {ap50:.1f}, AP {ap:.1f} on {record['data']['sets'][VAL_SET]['images']} held-out images, "
        f"seed {args.seed}  ({done - made:.0f} s for {trained} iterations and the evaluation)\n"
        f"pictures     {sheet}  (ground truth left, predictions right)\n"
        f"checkpoint   {args.output / 'model_final.pth'}\n"
        f"record       {args.output / 'run_record.json'}\n"
        f"curves       tensorboard --logdir {args.output}\n"
        'Next: your own images, in README.md under "Your own data".'
    )
    return 0


def _refuse_other_run(output: Path, opts: list[str]) -> None:
    """An earlier run of other settings would be taken for this one's result."""
    earlier = _record(output)
    if earlier is None:
        return
    wanted = config_difference(load_config(str(CONFIG), opts), load_base_config(str(CONFIG)))
    before, now = earlier["difference_from_base"], {key: value for key, (_, value) in wanted.items()}
    keys = {*before, *now} - OF_THE_MACHINE
    changed = sorted(key for key in keys if json.dumps(before.get(key)) != json.dumps(now.get(key)))
    if changed:
        raise SetupError(
            f"{output} holds a run with other settings ({', '.join(changed)}). "
            "Give --output another folder, or delete it."
        )


def _record(output: Path) -> dict | None:
    path = output / "run_record.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _draw(output: Path) -> Path:
    records = DatasetCatalog.get(VAL_SET)[:NUM_PICTURES]
    results = read_coco_results(output / "inference" / VAL_SET / "coco_instances_results.json", VAL_SET, records)
    sheet = output / "predictions.jpg"
    write_prediction_sheet(
        sheet, records, results, MetadataCatalog.get(VAL_SET).thing_classes, score_thresh=DRAWN_SCORE
    )
    return sheet


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m retina_plugin.apps.quickstart", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=default_sample_root(), help="folder of the sample set (%(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/quickstart"), help="folder of the run (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that override the config")
    return parser


if __name__ == "__main__":
    sys.exit(main())
