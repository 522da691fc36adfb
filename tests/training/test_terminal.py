"""What a training says on the terminal, and what in its log file alone."""

import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.logger import _LOG_COUNTER, setup_logger

from retina_cli.main import main
from retina_plugin import get_retina_cfg
from retina_plugin.data.sample.files import make_sample_dataset
from retina_plugin.training.terminal import DUMPS, describe_training

# Of each dump that a run on the sample set makes, the beginning, or a line from its middle.
LONG = (
    "Rank of current process", "Environment info:", "Command line arguments:", "Contents of args.config_file=",
    "Running with full config:", "PIXEL_MEAN", "Full config saved to", "Model:", "(bbox_subnet): Sequential",
    "Distribution of instances", "Serializing", "Serialized dataset", "Loaded 4 images",
    "Category ids in annotations are not in [1, #categories]!",
)  # fmt: skip
MOST_LINES = 40  # before the first losses: a screen


@pytest.fixture
def arguments(tmp_path):
    _LOG_COUNTER.clear()  # of what Detectron2 says once in a process
    root = make_sample_dataset(tmp_path / "set", num_train=4, num_val=2)
    yield [
        "--config-file", "configs/quickstart.yaml",
        "DATASETS.TRAIN_JSON", str(root / "annotations/train.json"),
        "DATASETS.TRAIN_IMAGES", str(root / "images/train"), "DATASETS.TEST", "()",
        "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MIN_SIZE_TEST", "64",
        "SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "1", "VIS_PERIOD", "0", "OUTPUT_DIR", str(tmp_path / "run"),
    ]  # fmt: skip
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.remove("custom_train")
    setup_logger.cache_clear()  # its handlers write to the output of this test
    for name in ("detectron2", "fvcore", "retina_plugin"):
        logging.getLogger(name).handlers.clear()


@pytest.mark.parametrize("verbose", [False, True])
def test_the_terminal_has_the_essentials_and_the_file_everything(arguments, tmp_path, capsys, verbose):
    path = tmp_path / "set/annotations/train.json"
    data = json.loads(path.read_text())
    for record, key in (*((c, "id") for c in data["categories"]), *((a, "category_id") for a in data["annotations"])):
        record[key] -= 1  # Detectron2 warns of ids that do not count from 1
    path.write_text(json.dumps(data))
    assert main(["train", *(["--verbose"] if verbose else []), *arguments]) == 0
    said, written = capsys.readouterr().out, (tmp_path / "run" / "log.txt").read_text()
    assert [text for text in LONG if text not in written] == []
    assert [text for text in LONG if (text in said) != verbose] == []
    (first_losses,) = [i for i, line in enumerate(said.splitlines()) if "total_loss" in line]
    assert (first_losses < MOST_LINES) != verbose
    assert f"{tmp_path / 'run' / 'log.txt'} has the environment" in said or verbose
    for text in (
        "custom_train: 4 images, 4 of them with annotations",
        "training: 1 iterations of 1 images (0.25 epochs); shorter side 64 px (longer: at most 240 px), in tests 64 px",
        "WARMUP_ITERS 50 is above SOLVER.MAX_ITER 1",
    ):
        assert said.count(text) == 1, text
    logger = logging.getLogger(next(name for name in DUMPS if name.endswith("build")))
    logger.warning("Distribution of instances: a warning")
    logger.info("Removed 1 images")
    said = capsys.readouterr().out
    assert "a warning" in said and "Removed 1 images" in said


def test_an_evaluation_says_its_scores_in_a_few_lines(arguments, tmp_path, capfd):
    root = tmp_path / "set"
    evaluated = ["DATASETS.VAL_JSON", str(root / "annotations/val.json"), "DATASETS.VAL_IMAGES",
                 str(root / "images/val"), "TEST.EVAL_PERIOD", "1", "SOLVER.MAX_ITER", "2", "TEST.BEST_METRIC",
                 "bbox/AP50", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.0"]  # fmt: skip
    assert main(["train", *arguments, *evaluated]) == 0
    said, written = capfd.readouterr(), (tmp_path / "run" / "log.txt").read_text()
    assert said.err == ""
    lines = said.out.splitlines()
    starts = [i for i, line in enumerate(lines) if "Start inference" in line]
    ends = [i for i, line in enumerate(lines) if "custom_val: bbox AP by class, worst first:" in line]
    assert len(starts) == len(ends) == 2 and all(0 < end - start < 8 for start, end in zip(starts, ends, strict=True))
    assert "custom_val: bbox AP " in lines[starts[0] + 1]
    for text in ("copypaste", "Average Precision", "Total inference", "[DatasetMapper]", "Per-category"):
        assert text in written and text not in said.out, text
    assert f"next: retina evaluate {tmp_path / 'run'} for" in lines[-1]
    MetadataCatalog.remove("custom_val")
    DatasetCatalog.remove("custom_val")


def test_two_trainings_of_one_process_have_a_log_each(arguments, tmp_path, capsys):
    setup_logger()  # as in a notebook
    for name in ("first", "second"):
        assert main(["train", *arguments, "OUTPUT_DIR", str(tmp_path / name)]) == 0
        said = capsys.readouterr().out.splitlines()
        assert len([line for line in said if "total_loss" in line]) == 1
        assert len([line for line in said if f"Saving checkpoint to {tmp_path / name}" in line]) == 1
    assert "second/" not in (tmp_path / "first" / "log.txt").read_text()
    assert "second/model_final.pth" in (tmp_path / "second" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("sides", "test", "empty", "text"),
    [
        (
            (640, 672, 800),
            800,
            True,
            r"(2 epochs); shorter side 640 to 800 px (longer: at most 1333 px), in tests 800 px",
        ),
        ((0,), 0, False, "(1.6 epochs); shorter side as it is (longer: at most 1333 px), in tests as it is"),
        ((0, 90), 90, True, "shorter side as it is to 90 px"),
    ],
)
def test_describe_training(sides, test, empty, text):
    cfg = get_retina_cfg()
    cfg.DATASETS.TRAIN, cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH = ("a", "b"), 10, 16
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = sides, test
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = empty
    counts = {"images": 50, "images_with_annotations": 40}
    said = describe_training(cfg, {"sets": {"a": counts, "b": counts, "val": counts}})
    assert said.startswith("training: 10 iterations of 16 images") and text in said
