"""The README keeps its word: its Python runs as printed, and the files and commands it names are there."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer

import retina_plugin
from retina_plugin import CLASSIFICATION_LOSS_REGISTRY, FocalRetinaNet, get_retina_cfg
from retina_plugin.config.load import config_difference
from retina_plugin.modeling import build_classification_loss

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_six_lines_build_the_paper_s_detector(monkeypatch):
    monkeypatch.chdir(ROOT)
    (snippet,) = [s for s in SNIPPETS if "build_model" in s]
    assert len(snippet.strip().splitlines()) == 6
    names = {}
    exec(snippet, names)
    assert isinstance(names["model"], FocalRetinaNet)


def test_a_trainer_of_ones_own_takes_the_hooks_and_the_optimizer(tiny_cfg):
    (snippet,) = [s for s in SNIPPETS if "DefaultTrainer" in s]
    assert len(snippet.strip().splitlines()) == 3
    names = {"DefaultTrainer": DefaultTrainer, "retina_plugin": retina_plugin}
    exec(snippet, names)
    tiny_cfg.SOLVER.OPTIMIZER = "AdamW"
    optimizer = names["Trainer"].build_optimizer(tiny_cfg, torch.nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert "build_hooks" in vars(names["Trainer"])


def test_own_loss_is_chosen_by_name():
    (snippet,) = [s for s in SNIPPETS if "CLASSIFICATION_LOSS_REGISTRY" in s]
    try:
        exec(snippet, {})
        cfg = get_retina_cfg()
        cfg.MODEL.RETINANET.CLS_LOSS_NAME = "HingeLoss"
        loss = build_classification_loss(cfg)
    finally:
        CLASSIFICATION_LOSS_REGISTRY._obj_map.pop("HingeLoss", None)
    logits = torch.tensor([[0.5, -3.0]], requires_grad=True)
    value = loss(logits, torch.tensor([0]))
    # alpha = 0.25: 0.25 * (1 - 0.5) for the labelled class; the other has x_t = 3 > 1.
    torch.testing.assert_close(value, torch.tensor(0.125))
    value.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.0]]))


def test_files_that_it_names_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r"(configs/[\w./-]+\.(?:yaml|py))", README)
    assert len(links) > 8
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_it_is_short_and_names_the_two_commands():
    assert len(README.splitlines()) < 130
    assert "make quickstart" in README and "make test" in README


@pytest.mark.parametrize("key", sorted(set(re.findall(r"\b((?:MODEL|TEST|DATASETS|SOLVER)\.[A-Z_.]*[A-Z])\b", README))))
def test_keys_that_it_names_exist(key):
    node = get_retina_cfg()
    for part in key.split("."):
        assert part in node, key
        node = node[part]


def test_page_of_keys_has_every_key_that_the_plugin_adds():
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    # "KEY" as in the table; a key that Detectron2 has is not ours to tell.
    named = set(re.findall(r"`((?:[A-Z0-9_]+\.)+[A-Z0-9_]+)`", page))
    added = set(config_difference(get_retina_cfg(), get_cfg()))
    assert named == added
