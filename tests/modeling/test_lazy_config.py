"""``configs/lazy/retina_R50_FPN.py`` describes the same training as ``configs/retina_R50_FPN.yaml``."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from retina_plugin.config.load import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def lazy():
    return LazyConfig.load(str(CONFIGS / "lazy" / "retina_R50_FPN.py"))


@pytest.fixture(scope="module")
def cfg():
    return load_config(str(CONFIGS / "retina_R50_FPN.yaml"), ["MODEL.DEVICE", "cpu"])


@pytest.fixture(scope="module")
def models(cfg, lazy):
    return build_model(cfg), instantiate(lazy.model)


def loss_of(model, seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, 64, 96), generator=generator, dtype=torch.uint8)
    # The second box of 18 x 26 lies in the middle of anchors of area 32 x 32: IoU 468 / 1024 = 0.46, between the
    # thresholds, so that the matcher's low-quality rule takes part.
    boxes = Boxes(torch.tensor([[8.0, 8.0, 56.0, 60.0], [63.0, 19.0, 81.0, 45.0]]))
    instances = Instances((64, 96), gt_boxes=boxes, gt_classes=torch.tensor([3, 79]))
    with EventStorage():
        return model.train()([{"image": image, "instances": instances}])


def test_lazy_model_has_the_same_parameters(models):
    from_yaml, from_lazy = models
    assert {name: value.shape for name, value in from_lazy.state_dict().items()} == {
        name: value.shape for name, value in from_yaml.state_dict().items()
    }
    assert {name: value.requires_grad for name, value in from_lazy.named_parameters()} == {
        name: value.requires_grad for name, value in from_yaml.named_parameters()
    }


def test_lazy_model_has_the_same_loss(models):
    from_yaml, from_lazy = models
    from_lazy.load_state_dict(from_yaml.state_dict())
    expected = loss_of(from_yaml, seed=0)
    assert set(expected) == {"loss_cls", "loss_box_reg"} and all(value > 0 for value in expected.values())
    torch.testing.assert_close(loss_of(from_lazy, seed=0), expected, rtol=0, atol=0)


def test_lazy_model_has_the_same_inference_settings(models):
    from_yaml, from_lazy = models
    for name in ("test_score_thresh", "test_topk_candidates", "test_nms_thresh", "max_detections_per_image"):
        assert getattr(from_lazy, name) == getattr(from_yaml, name), name


def test_lazy_optimizer_and_schedule_are_the_same(cfg, lazy, models):
    def groups(optimizer):
        settings = ("lr", "momentum", "weight_decay", "nesterov")
        return sorted(
            (sum(p.numel() for p in group["params"]), *(group[name] for name in settings))
            for group in optimizer.param_groups
        )

    lazy.optimizer.params.model = models[0]
    expected, optimizer = build_optimizer(cfg, models[0]), instantiate(lazy.optimizer)
    assert groups(optimizer) == groups(expected)

    max_iter = lazy.train.max_iter
    assert max_iter == cfg.SOLVER.MAX_ITER
    multiplier = instantiate(lazy.lr_multiplier)
    expected_multiplier = build_lr_scheduler(cfg, expected)._multiplier
    for iteration in (0, 250, 499, 500, 59999, 60000, 79999, 80000, 89999):
        where = iteration / max_iter
        assert multiplier(where) == pytest.approx(expected_multiplier(where), rel=1e-12), iteration


def test_lazy_data_is_the_same(cfg, lazy):
    train, test = lazy.dataloader.train, lazy.dataloader.test
    assert (train.dataset.names,) == cfg.DATASETS.TRAIN
    assert (test.dataset.names,) == cfg.DATASETS.TEST
    assert train.total_batch_size == cfg.SOLVER.IMS_PER_BATCH
    assert train.mapper.image_format == test.mapper.image_format == cfg.INPUT.FORMAT
    for mapper, sizes, max_size in (
        (train.mapper, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN),
        (test.mapper, (cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST),
    ):
        assert (mapper.augmentations[0].short_edge_length,) == sizes
        assert mapper.augmentations[0].max_size == max_size
    assert lazy.train.init_checkpoint == cfg.MODEL.WEIGHTS


def test_lazy_training_is_shortened_by_its_number_of_iterations_alone():
    config = LazyConfig.load(str(CONFIGS / "lazy" / "retina_R50_FPN.py"))
    config = LazyConfig.apply_overrides(config, ["train.max_iter=3"])
    multiplier = instantiate(config.lr_multiplier)
    # Drops after 60,000 and 80,000 of 90,000 iterations, 2/3 and 8/9 of the run: before the third of three.
    assert [multiplier(i / config.train.max_iter) for i in (1, 2)] == pytest.approx([1.0, 0.1])
