"""A checkpoint whose detector finds something in any image: ``pytest_plugins = ("tiny_detector",)``."""

import pytest
import torch
from PIL import Image

from retina_plugin.training.trainer import RetinaTrainer


@pytest.fixture
def run_folder(tmp_path, tiny_cfg):
    """A folder with ``config.yaml`` and ``model_final.pth``, as a training leaves them."""
    tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.MAX_SIZE_TEST = 64, 128
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(tiny_cfg.dump())
    model = RetinaTrainer.build_model(tiny_cfg)
    # Wide logits instead of the prior's: scores from 0 to 1 that depend on the image.
    torch.nn.init.normal_(model.head.cls_score.weight, std=0.1)
    torch.nn.init.constant_(model.head.cls_score.bias, -2.0)
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return folder


@pytest.fixture
def make_picture(tmp_path):
    """make_picture(name, width, height, seed) writes coarse noise into ``tmp_path`` and returns the path."""

    def make(name="image.png", width=80, height=60, seed=0, **options):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randint(0, 256, (8, 8, 3), generator=generator, dtype=torch.uint8).numpy()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).resize((width, height)).save(path, **options)
        return path

    return make
