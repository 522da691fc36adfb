"""`make quickstart`, shortened: every stage runs, and a second call keeps what the first one made."""

import json
import logging

import cv2
import pytest
from detectron2.utils.logger import setup_logger

from retina_cli.main import main
from retina_plugin.data.sample import files
from retina_plugin.data.sample.files import make_sample_dataset, register_sample_datasets

SHORT = [
    "SOLVER.MAX_ITER",
    "2",
    "INPUT.MIN_SIZE_TRAIN",
    "64",
    "INPUT.MIN_SIZE_TEST",
    "64",
]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    # A smaller set than the command's own; everything else is as in the command.
    monkeypatch.setattr(files, "make_sample_dataset", lambda root: make_sample_dataset(root, num_train=16, num_val=14))
    yield ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    register_sample_datasets()
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "retina_plugin"):
        logging.getLogger(name).handlers.clear()


def test_quickstart_trains_evaluates_and_draws(folders, tmp_path, capsys):
    assert main(["quickstart", *folders, "--seed", "3", *SHORT]) == 0
    said = capsys.readouterr().out
    assert "on 14 held-out images, seed 3" in said and "2 iterations" in said
    for path in ("predictions.jpg", "model_final.pth", "run_record.json"):
        assert (tmp_path / "out" / path).is_file() and path in said
    assert cv2.imread(str(tmp_path / "out/predictions.jpg")).shape[0] > 1000, "twelve pairs of pictures"
    record = json.loads((tmp_path / "out/run_record.json").read_text())
    assert record["seed"] == 3 and record["iterations"] == 2

    assert main(["quickstart", *folders, "--seed", "3", *SHORT]) == 0, "a second call evaluates what is there"
    assert json.loads((tmp_path / "out/run_record.json").read_text())["start_iteration"] == 2

    for changed in (["--seed", "4", *SHORT], ["--seed", "3", *SHORT, "MODEL.RETINANET.CLS_LOSS_NAME", "OHEMLoss"]):
        assert main(["quickstart", *folders, *changed]) == 2, "another run's result must not be taken for this one's"
        assert "holds a run with other settings" in capsys.readouterr().err


def test_quickstart_passes_a_mistake_on(folders):
    assert main(["quickstart", *folders, *SHORT, "SOLVER.BASE_LR", "fast"]) == 2
