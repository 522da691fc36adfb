"""What an export takes from a checkpoint: the model in fp32, the names of its classes, the config beside it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_export import CLASSES

from retina_cli.main import main
from retina_plugin.apps.export import command

pytest_plugins = ("tiny_export",)

NAMES = ["red", "blue", "green", "black"]


@pytest.mark.parametrize("precision", ["winograd", "bf16"])
def test_export_is_of_fp32_whatever_the_config_says(checkpoint, precision):
    trained = command.load_model("", str(checkpoint), ["MODEL.PRECISION", precision])
    assert trained.cfg.MODEL.PRECISION == "fp32" and not trained.model.training


def test_class_names_come_from_the_checkpoint(checkpoint, tmp_path):
    content = torch.load(checkpoint) | {"manifest": {"classes": NAMES}}
    torch.save(content, tmp_path / "named.pth")
    config = ["--config-file", str(checkpoint.with_name("config.yaml"))]
    assert main(["export", str(tmp_path / "named.pth"), "--output", str(tmp_path / "a.safetensors"), *config]) == 0
    assert _classes_in(tmp_path / "a.safetensors") == NAMES
    # Nothing names them: their numbers.
    assert main(["export", str(checkpoint), "--output", str(tmp_path / "b.safetensors"), *config]) == 0
    assert _classes_in(tmp_path / "b.safetensors") == [str(k) for k in range(CLASSES)]


def _classes_in(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["classes"])
