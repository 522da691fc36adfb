"""Whether the rows of a study begin alike: the tensors of a row's first weights that differ from the reference row's.

And whether the images come in the same order. For one seed.

``python tools/row_pairing.py gamma ohem --config-file configs/study/power.yaml --output FILE.json SEED 0 ...``
"""

import argparse
import hashlib
import json
import sys
from itertools import islice
from pathlib import Path

import torch
from detectron2.utils.env import seed_all_rng

from retina_plugin.data.datasets import fill_num_classes, register_config_datasets
from retina_plugin.data.train_order import build_train_order
from retina_plugin.engine.checkpoint import build_checkpointer
from retina_plugin.engine.config_file import load_config
from retina_plugin.engine.trainer import RetinaTrainer
from retina_plugin.study.index import load_studies

NUM_IMAGES = 800  # a hundred iterations of eight


def start_of(config_file: str, opts: list[str]) -> tuple[dict[str, torch.Tensor], str]:
    """The weights that a run begins with, and a digest of the order of its images."""
    cfg = load_config(config_file, opts)
    register_config_datasets(cfg)
    fill_num_classes(cfg)
    seed_all_rng(cfg.SEED)
    model = RetinaTrainer.build_model(cfg)
    build_checkpointer(cfg, model).load(cfg.MODEL.WEIGHTS)
    _, order = build_train_order(cfg)
    return model.state_dict(), hashlib.sha256(str(list(islice(order, NUM_IMAGES))).encode()).hexdigest()[:16]


def main(argv: list[str] | None = None) -> int:
    """Command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python tools/row_pairing.py", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", help="studies")
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--opts", nargs="*", default=[], help="KEY VALUE pairs for all rows")
    args = parser.parse_args(argv)
    found = {}
    for study in load_studies(args.names).values():
        starts = {}
        for row in study.rows:
            changes = [str(item) for pair in row.changes.items() for item in pair]
            starts[row.name] = start_of(args.config_file, [*changes, *args.opts])
        weights, images = starts[study.reference]
        found[study.name] = {
            name: {
                "tensors": len(state),
                "differ": [key for key in state if not (key in weights and torch.equal(weights[key], state[key]))],
                "same_images": digest == images,
            }
            for name, (state, digest) in starts.items()
        }
    result = {"command": " ".join(["python", *sys.orig_argv[1:]]), "images": NUM_IMAGES, "against_reference": found}
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
