"""An analysis of two tiny images by a tiny model: ``pytest_plugins = ("tiny_sets", "tiny_analysis")``."""

import json

import pytest
import torch
from tiny_coco import make_coco

from retina_cli.main import build_parser
from retina_plugin.training.trainer import RetinaTrainer


@pytest.fixture
def config_file(tmp_path, register, tiny_cfg):
    """The YAML file of ``tiny_cfg`` with the tiny set for training and test."""
    register(make_coco())
    tiny_cfg.MODEL.RETINANET.NUM_CLASSES = 2
    tiny_cfg.DATASETS.TRAIN = tiny_cfg.DATASETS.TEST = ("tiny_train",)
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = [60, 90, 120]
    tiny_cfg.INPUT.MIN_SIZE_TEST = 60
    tiny_cfg.INPUT.RANDOM_FLIP = "none"
    tiny_cfg.MODEL.WEIGHTS = ""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_cfg.dump())
    return path


@pytest.fixture
def weights(tmp_path, config_file, tiny_cfg):
    """A checkpoint of the model as it is initialised."""
    model = RetinaTrainer.build_model(tiny_cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    return tmp_path / "model.pth"


@pytest.fixture
def run_analysis(tmp_path, config_file, monkeypatch):
    """run_analysis(module, words) runs a command with ``--output`` and gives its JSON; pictures on demand."""
    # Its handler would keep the stream of one test and write to it in the next.
    monkeypatch.setattr("retina_plugin.apps.analysis.model_inputs.setup_logger", lambda name: None)

    def run(module, *words, pictures=False):
        if not pictures:  # they take a second
            monkeypatch.setattr(module, "save_figure", lambda figure, stem: None)
        output = tmp_path / "out"
        name = module.__name__.rsplit(".", 1)[1].replace("_", "-")
        options = ["--config-file", str(config_file), "--output", str(output), *map(str, words)]
        module.run(build_parser("analyze").parse_args([name, *options]))
        return json.loads(next(output.glob("*.json")).read_text())

    return run
