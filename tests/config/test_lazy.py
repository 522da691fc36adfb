"""A LazyConfig beside weights is read as config keys; nothing in it is called."""

import os
import re
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from retina_plugin.config.lazy import read_lazy_config
from retina_plugin.config.load import load_saved_config
from retina_plugin.errors import SetupError
from retina_plugin.training.trained_model import describe_model, open_model
from retina_plugin.weights.manifest import anchors_of

LAZY = str(Path(__file__).parents[2] / "configs/lazy/retina_R50_FPN.py")


@pytest.fixture
def saved(tmp_path):
    """The config.yaml that ``lazyconfig_train_net.py`` leaves, of a small model."""
    cfg = LazyConfig.load(LAZY)
    cfg.model.num_classes = 2
    cfg.model.test_nms_thresh = 0.6
    cfg.model.anchor_generator.scales_per_octave, cfg.model.head.num_anchors = 2, 6
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    assert "!!python/object" in (tmp_path / "config.yaml").read_text()
    return tmp_path / "config.yaml"


def test_weights_of_a_lazy_config_are_the_same_model(saved):
    cfg = LazyConfig.load(LAZY)
    cfg.model.num_classes, cfg.model.test_nms_thresh = 2, 0.6
    cfg.model.anchor_generator.scales_per_octave, cfg.model.head.num_anchors = 2, 6
    model = instantiate(cfg.model).eval()
    torch.save({"model": model.state_dict()}, saved.with_name("model_final.pth"))
    ours = open_model(saved.parent, None, ["MODEL.DEVICE", "cpu"]).model
    assert anchors_of(ours) == anchors_of(model) and ours.test_nms_thresh == 0.6
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = [list(net.backbone(image).values()) for net in (ours, model)]
        found = [net.head(levels) for net, levels in zip((ours, model), features, strict=True)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_other_configs_are_not_lazy(saved):
    saved.write_text("MODEL:\n  DEVICE: cpu\n")
    assert read_lazy_config(saved) is None
    assert load_saved_config(saved, lambda key: True) == {"MODEL.DEVICE": "cpu"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("detectron2.modeling.FPN", "my.FPN2", "model.backbone._target_ is my.FPN2"),
        ("detectron2.modeling.FPN", "os.system", "model.backbone._target_ is os.system"),
        ("freeze_at: 2", "freeze_at: 2\n      dilate: 2", "model.backbone.bottom_up.dilate is 2"),
        ("offset: 0.0", "offset: ${..x}", "anchor_generator.offset is ${..x}"),
        ("conv_dims: [256, 256, 256, 256]", "conv_dims: [256, 128]", "the head has [256, 128] channels"),
        ("conv_dims: [256, 256, 256, 256]", "conv_dims: [[1], {a: 2}]", "unhashable"),
        ("test_nms_thresh: 0.6", "test_nms_thresh: 0.6\n  input_size: 5", "model.input_size is 5"),
        (
            "max_size: 1333, short_edge_length: 800",
            "max_size: 1333, short_edge_length: [800]",
            "one ResizeShortestEdge",
        ),
    ],
)
def test_what_config_keys_cannot_say_is_refused(saved, old, new, said):
    text = saved.read_text()
    assert old in text
    saved.write_text(text.replace(old, new))
    with pytest.raises(SetupError, match=re.escape(said)) as error:
        read_lazy_config(saved)
    assert "--config-file" in str(error.value)


def test_objects_in_it_are_not_created(saved, tmp_path):
    mark = tmp_path / "mark"
    saved.write_text(saved.read_text() + f"more: !!python/object/apply:os.system ['touch {mark}']\n")
    torch.save({"model": {"a": torch.zeros(1)}}, saved.with_name("model_final.pth"))
    describe_model(saved.parent)
    assert not os.path.exists(mark)
