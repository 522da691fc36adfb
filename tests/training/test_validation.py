"""Losses on the test sets: the paper's divisor over the whole set, and a model that does not notice."""

import json
from functools import partial

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tiny_coco import make_coco
from torch import nn

from retina_plugin.training.hooks.validation import ValidationLossHook, build_validation_loader, validation_losses
from retina_plugin.training.trainer import RetinaTrainer

pytest_plugins = ("tiny_sets",)


@pytest.fixture
def model(tiny_cfg):
    tiny_cfg.MODEL.RESNETS.NORM = tiny_cfg.MODEL.RETINANET.NORM = "BN"
    tiny_cfg.VIS_PERIOD = 1
    return build_model(tiny_cfg).train()


@pytest.fixture
def images(make_batch):
    return make_batch((96, 96, 3), (96, 96, 0), (96, 96, 4))


def test_losses_are_sums_over_all_positives(tiny_cfg, images):
    """The value of one big batch with the paper's divisor, however the set is cut into batches."""
    tiny_cfg.MODEL.RETINANET.NORMALIZER.NAME = "batch"
    model = build_model(tiny_cfg).train()  # frozen norms: evaluation and training give the same
    with EventStorage(1), torch.no_grad():
        expected = {name: loss.item() for name, loss in model(images).items()}
    expected["total_loss"] = sum(expected.values())
    for loader in ([images], [images[:1], images[1:]], [[image] for image in images]):
        assert validation_losses(model, loader) == pytest.approx(expected, rel=1e-5)


def test_divisor_of_the_training_does_not_enter(model, images):
    expected = validation_losses(model, [images])
    model.loss_normalizer.average.fill_(7e6)
    assert validation_losses(model, [images]) == expected


def test_model_does_not_notice(model, images):
    model.backbone.bottom_up.eval()  # someone froze it
    before = {key: value.clone() for key, value in [*model.state_dict().items(), *model.named_buffers()]}
    modes = [module.training for module in model.modules()]
    with EventStorage() as storage:
        validation_losses(model, [images])
    assert storage.latest() == {} and storage._vis_data == []
    after = dict([*model.state_dict().items(), *model.named_buffers()])
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert [module.training for module in model.modules()] == modes
    assert model.vis_period == 1 and model.loss_normalizer(torch.tensor(1e6)) > 1


def test_norms_take_no_step(model, images):
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    validation_losses(model, [images])
    assert all(norm.num_batches_tracked == 0 for norm in norms)


def test_empty_set_has_no_loss(model):
    assert validation_losses(model, []) == {}


def test_loader_keeps_images_without_boxes(tiny_cfg, register):
    content = make_coco()
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 1]
    register(content)
    tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.RANDOM_FLIP = 60, "horizontal"
    tiny_cfg.DATALOADER.NUM_WORKERS = 0
    (one,), (two,) = build_validation_loader(tiny_cfg, "tiny_train")
    assert one["image"].shape == two["image"].shape == (3, 60, 80)
    assert one["instances"].gt_boxes.tensor[0].tolist() == [2, 4, 22, 20]  # [1, 2, 11, 10] of 40 x 30, never mirrored
    assert len(two["instances"]) == 0


@pytest.mark.parametrize(("num_sets", "prefix"), [(1, "validation/"), (2, "validation/tiny_train/")])
def test_hook_puts_them_once_a_period_and_at_the_end(tiny_cfg, register, num_sets, prefix):
    register(make_coco())
    names = ["tiny_train"]
    if num_sets == 2:
        register(make_coco(), "tiny_other")
        names.append("tiny_other")
    tiny_cfg.DATALOADER.NUM_WORKERS = 0
    tiny_cfg.INPUT.MIN_SIZE_TEST = 32
    model = RetinaTrainer.build_model(tiny_cfg)

    class Still(SimpleTrainer):
        def run_step(self):
            pass

    trainer = Still(model, [], torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks(
        [ValidationLossHook(2, {name: partial(build_validation_loader, tiny_cfg, name) for name in names})]
    )
    trainer.train(0, 5)
    histories = trainer.storage.histories()
    assert [iteration for _, iteration in histories[f"{prefix}total_loss"].values()] == [1, 3, 4]
    assert {name for name in histories if name.startswith(prefix)} == {
        f"{prefix}{name}" for name in ("loss_cls", "loss_box_reg", "total_loss")
    }
    assert json.dumps(DatasetCatalog.get("tiny_train"))  # the set's records are plain still
