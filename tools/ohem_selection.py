"""What each row of Table 1d selects on the same real batches: positives, negatives, and whether two rows are one run.

``python tools/ohem_selection.py --config-file configs/study/power.yaml --output FILE.json MODEL.WEIGHTS ...`` lays the
rows over the config, one forward pass a batch for all of them. Two rows whose selections agree on every batch would be
the same training.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import torch
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from retina_plugin.analysis.model_inputs import load_analysis_config
from retina_plugin.engine.checkpoint import build_checkpointer
from retina_plugin.engine.trainer import RetinaTrainer
from retina_plugin.modeling.losses import OHEMLoss, build_classification_loss
from retina_plugin.study.index import load_studies

SCOPES = ("image", "batch")


def count_selected(cfg, num_batches: int) -> dict:
    """Means over the first batches of the training order; pairs of rows that selected the same on all of them."""
    seed_all_rng(max(cfg.SEED, 0))
    model = RetinaTrainer.build_model(cfg).train()
    build_checkpointer(cfg, model).load(cfg.MODEL.WEIGHTS)
    losses = {}
    for row in load_studies(["ohem"])["ohem"].rows:
        for scope in SCOPES:
            changed = cfg.clone()
            for key, value in {**row.changes, "MODEL.RETINANET.OHEM.SCOPE": scope}.items():
                changed.merge_from_list([key, str(value)])
            loss = build_classification_loss(changed)
            if isinstance(loss, OHEMLoss):
                losses[scope, row.name] = loss
    found = {key: [] for key in losses}
    totals = []

    def look(labels, predictions):
        for key, loss in losses.items():
            found[key].append(loss.select_examples(labels, predictions))
        totals.append(labels)
        return labels

    model.cls_loss.select_examples = look
    batches = iter(RetinaTrainer.build_train_loader(cfg))
    with EventStorage(), torch.no_grad():
        for _ in range(num_batches):
            model(next(batches))
    num_classes = cfg.MODEL.RETINANET.NUM_CLASSES

    def means(labels: list) -> dict[str, float]:
        pos = sum(int(((x >= 0) & (x < num_classes)).sum()) for x in labels) / len(labels)
        neg = sum(int((x == num_classes).sum()) for x in labels) / len(labels)
        return {"positives": round(pos, 1), "negatives": round(neg, 1)}

    rows = {scope: {name: means(found[s, name]) for s, name in losses if s == scope} for scope in SCOPES}
    same = {
        scope: [
            [a, b]
            for a, b in itertools.combinations(rows[scope], 2)
            if all(torch.equal(x, y) for x, y in zip(found[scope, a], found[scope, b], strict=True))
        ]
        for scope in SCOPES
    }
    return {"labelled": means(totals), "rows": rows, "rows_that_are_one": same}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python tools/ohem_selection.py", description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--batches", type=int, default=10, help="of training (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    args = parser.parse_args(argv)
    args.split, args.max_images = "train", 0
    cfg, _ = load_analysis_config(args, runs_network=True)
    result = {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "weights": cfg.MODEL.WEIGHTS,
        "batches": args.batches,
        "images_per_batch": cfg.SOLVER.IMS_PER_BATCH,
        **count_selected(cfg, args.batches),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
