"""From a folder in each format to a trained and evaluated model; images without objects; rare classes more often."""

import json
import logging
from itertools import islice

import pytest
import torch
from detectron2.utils.logger import setup_logger
from own_folders import SCENES, WRITERS, write_coco, write_csv

from retina_cli.main import build_parser, main
from retina_plugin.data.order import build_train_order
from retina_plugin.modeling import FocalRetinaNet
from retina_plugin.training import run as cli

pytest_plugins = ("tiny_sets",)

# A detector that trains for two steps in a second, and detects something.
TINY = [
    "--config-file", "configs/quickstart.yaml",
    "MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", "18", "MODEL.FPN.OUT_CHANNELS", "64",
    "MODEL.RETINANET.NUM_CONVS", "1", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.0",
    "MODEL.RETINANET.NUM_CLASSES", "0", "DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TRAIN", "48",
    "INPUT.MIN_SIZE_TEST", "48", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "0",
    "SEED", "1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def clean(clean_catalog):
    """Detectron2 keeps a logger's first output stream, which pytest closes after each test."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "retina_plugin"):
        logging.getLogger(name).handlers.clear()


def run(output, *words) -> dict:
    """Train with further words on the command line; the run record."""
    assert main(["train", *TINY, *map(str, words), "OUTPUT_DIR", str(output)]) == 0
    return json.loads((output / "run_record.json").read_text())


@pytest.mark.parametrize("kind", WRITERS)
def test_folder_trains_and_evaluates(tmp_path, kind):
    root = WRITERS[kind](tmp_path / "set")
    record = run(tmp_path / "run", "DATASETS.TRAIN_PATH", root, "DATASETS.VAL_FRACTION", 0.4)
    assert record["status"] == "finished" and record["iterations"] == 2
    assert {name: s["images"] for name, s in record["data"]["sets"].items()} == {"custom_train": 3, "custom_val": 2}
    assert record["results"]["bbox"].keys() >= {"AP", "AP50", "AP-dog", "AP-cat"}
    assert (tmp_path / "run/inference/custom_val/coco_instances_results.json").is_file()
    categories = json.loads((tmp_path / "run/datasets/custom_val.json").read_text())["categories"]
    assert categories[0]["id"] == (3 if kind == "coco" else 1)  # the ids of a COCO file stay
    assert torch.load(tmp_path / "run/model_final.pth", weights_only=True)["model"]


def test_run_in_a_used_folder_leaves_the_sets_of_the_first(tmp_path, capsys):
    root = write_csv(tmp_path / "set")
    run(tmp_path / "run", "DATASETS.TRAIN_PATH", root, "DATASETS.VAL_FRACTION", 0.4)
    before = (tmp_path / "run/datasets/custom_val.json").read_bytes()
    words = ["DATASETS.TRAIN_PATH", str(root), "DATASETS.VAL_FRACTION", "0.2", "OUTPUT_DIR", str(tmp_path / "run")]
    assert main(["train", *TINY, *words]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (tmp_path / "run/datasets/custom_val.json").read_bytes() == before


@pytest.mark.parametrize("keep", [True, False])
def test_images_without_objects_are_trained_on_where_they_are_kept(tmp_path, monkeypatch, keep):
    scenes = [SCENES[0], *[(f"empty{i}.png", (64, 48), []) for i in range(5)]]
    root = write_csv(tmp_path / "set", scenes)
    seen = set()
    forward = FocalRetinaNet.forward

    def note_images(model, batch):
        seen.update(image["file_name"].rsplit("/", 1)[1] for image in batch)
        return forward(model, batch)

    monkeypatch.setattr(FocalRetinaNet, "forward", note_images)
    words = ["DATASETS.TRAIN_PATH", root, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", not keep, "SOLVER.MAX_ITER", 3]
    record = run(tmp_path / "run", *words, "DATASETS.TEST", "()")
    assert all(torch.isfinite(torch.tensor(loss)) for loss in record["losses"].values())
    assert seen == {name for name, _, _ in scenes} if keep else seen == {"a.png"}


def test_rare_classes_come_more_often_and_a_resumed_order_goes_on(tmp_path):
    scenes = [(f"{i:02}.png", (64, 48), [(4, 4, 40, 40, "dog")]) for i in range(15)]
    scenes.append(("rare.png", (64, 48), [(4, 4, 40, 40, "cat")]))
    words = ["DATASETS.TRAIN_PATH", write_coco(tmp_path / "set", scenes), "DATASETS.TEST", "()",
             "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", 1.0]  # fmt: skip
    args = build_parser("train").parse_args([*TINY, *map(str, words), "OUTPUT_DIR", str(tmp_path / "run")])
    args.command = "test"
    cfg, _, _ = cli.set_up(args)

    def names_from(iteration: int, count: int) -> list[str]:
        dataset, order = build_train_order(cfg)
        order.start_iteration = iteration
        return [dataset[code]["file_name"].rsplit("/", 1)[1] for code in islice(order, count)]

    names = names_from(0, 190)
    # 1 image of 16 has the cat: sqrt(16 / 1) = 4 times a round; the others sqrt(16 / 15) = 1.03 times: 4 of 19.5.
    assert 35 <= names.count("rare.png") <= 43
    assert names_from(7, 40) == names[14:54]
    run(tmp_path / "trained", *words)
