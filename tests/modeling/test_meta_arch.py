"""``FocalRetinaNet``: a drop-in for Detectron2's RetinaNet, and what it does where Detectron2's goes wrong."""

import math

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.retinanet import RetinaNet, RetinaNetHead
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import nn
from torch.testing import assert_close

from retina_plugin import (
    CrossEntropyLoss,
    FocalLoss,
    FocalRetinaNet,
    LossNormalizer,
    OctaveAnchorGenerator,
    OHEMLoss,
    SafeMatcher,
)
from retina_plugin.errors import SetupError
from retina_plugin.modeling import HardExampleMiner, build_classification_loss


def build(cfg, name="FocalRetinaNet"):
    cfg = cfg.clone()
    cfg.MODEL.META_ARCHITECTURE = name
    return build_model(cfg)


def build_pair(cfg):
    """Detectron2's RetinaNet and ours with the same weights, whose class layer tells anchors and classes apart."""
    theirs, ours = build(cfg, "RetinaNet"), build(cfg)
    assert type(theirs) is RetinaNet and type(ours) is FocalRetinaNet
    nn.init.normal_(theirs.head.cls_score.weight, std=0.2)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def training_step(model, batch, context=None):
    """Losses of a batch and the gradient of every parameter that has one."""
    model.zero_grad()
    with context or torch.enable_grad():
        losses = model(batch)
    sum(losses.values()).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, grads


def assert_same_steps(theirs, ours, batches, context=None):
    with EventStorage() as storage:
        for batch in batches:
            (their_losses, their_grads), (losses, grads) = (training_step(m, batch, context) for m in (theirs, ours))
            assert losses.keys() == their_losses.keys() == {"loss_cls", "loss_box_reg"}
            assert_close(losses, their_losses, rtol=1e-5, atol=0)
            assert losses["loss_cls"] > 0
            assert grads.keys() == their_grads.keys() and len(grads) > 20
            gradient, their_gradient = (torch.cat([g.flatten() for g in gs.values()]) for gs in (grads, their_grads))
            assert (gradient - their_gradient).norm() <= 1e-5 * their_gradient.norm()
            for name, grad in grads.items():
                their_grad = their_grads[name]
                # fvcore squares a 1 - p_t that it takes as 1 - 0.99 for background at the prior: off by 6e-8 / 0.01.
                atol = 2e-5 * their_grad.abs().max().item()
                assert_close(grad, their_grad, rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}")
    return storage


# --- Parity with Detectron2 ---


def test_state_dict_has_the_keys_and_shapes_of_detectron2(tiny_cfg):
    theirs, ours = build(tiny_cfg, "RetinaNet").state_dict(), build(tiny_cfg).state_dict()
    assert len(ours) > 100 and list(ours) == list(theirs)
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_training_equals_detectron2(tiny_cfg, make_batch, seed):
    torch.manual_seed(seed)
    theirs, ours = build_pair(tiny_cfg)
    batches = [
        make_batch((96, 128, 3), (80, 90, 0), (128, 70, 2)),
        make_batch((64, 64, 0), (64, 96, 0)),  # nothing to regress
        make_batch((100, 100, 6)),
    ]
    assert_same_steps(theirs, ours, batches)
    # The moving average has taken its steps, or the divisor would not be tested.
    assert ours.loss_normalizer.average.item() == pytest.approx(theirs.loss_normalizer, rel=1e-6)
    assert abs(theirs.loss_normalizer - 100) > 1


@pytest.mark.parametrize("loss_type, beta", [("smooth_l1", 0.11), ("giou", 0.0), ("diou", 0.0), ("ciou", 0.0)])
def test_training_with_other_box_losses_equals_detectron2(tiny_cfg, batch, make_batch, loss_type, beta):
    tiny_cfg.MODEL.RETINANET.BBOX_REG_LOSS_TYPE = loss_type
    tiny_cfg.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA = beta
    assert_same_steps(*build_pair(tiny_cfg), [batch, make_batch((64, 64, 0))])


def test_training_with_one_class_and_other_keys_equals_detectron2(tiny_cfg, make_batch):
    retinanet = tiny_cfg.MODEL.RETINANET
    retinanet.NUM_CLASSES = 1
    retinanet.FOCAL_LOSS_GAMMA, retinanet.FOCAL_LOSS_ALPHA = 1.0, 0.6
    retinanet.IOU_THRESHOLDS = [0.3, 0.6]
    retinanet.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    (image,) = make_batch((90, 70, 3))
    image["instances"].gt_classes[:] = 0
    assert_same_steps(*build_pair(tiny_cfg), [[image]])


def test_training_reports_the_positive_anchors_as_detectron2(tiny_cfg, batch):
    theirs, ours = build_pair(tiny_cfg)
    reported = []
    for model in (theirs, ours):
        with EventStorage() as storage:
            model(batch)
        reported.append(storage.latest()["num_pos_anchors"][0])
    assert reported[0] == reported[1] > 1


def test_training_in_bfloat16_equals_detectron2_and_is_near_fp32(tiny_cfg, batch):
    theirs, ours = build_pair(tiny_cfg)
    with EventStorage():
        in_fp32, _ = training_step(ours, batch)
        ours.loss_normalizer.average.fill_(100.0)
        (their_losses, their_grads), (losses, grads) = (
            training_step(m, batch, torch.autocast("cpu", torch.bfloat16)) for m in (theirs, ours)
        )
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert_close(losses, their_losses, rtol=1e-5, atol=0)
    # bf16 keeps 8 bits, 0.4 percent, through about 25 layers.
    assert_close(losses, in_fp32, rtol=0.03, atol=0)
    for name, grad in grads.items():
        # One rounding of the logits' gradient, that may go the other way, and its way through the layers.
        assert grad.isfinite().all()
        assert_close(grad, their_grads[name], rtol=0, atol=0.02 * their_grads[name].abs().max().item())


@pytest.mark.parametrize("score_thresh, topk", [(0.02, 1000), (0.02, 5), (0.0, 50)])
def test_inference_equals_detectron2(tiny_cfg, make_batch, score_thresh, topk):
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = score_thresh
    tiny_cfg.MODEL.RETINANET.TOPK_CANDIDATES_TEST = topk
    theirs, ours = (model.eval() for model in build_pair(tiny_cfg))
    batch = make_batch((96, 128, 1), (96, 128, 2))  # of one size, in units of FPN's 32: nothing is padded
    batch[0].update(height=192, width=256)  # the output is scaled back
    with torch.no_grad():
        for expected, found in zip(theirs(batch), ours(batch), strict=True):
            expected, found = expected["instances"], found["instances"]
            assert len(expected) > 10 and len(expected.pred_classes.unique()) > 1
            assert found.image_size == expected.image_size
            assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
            assert torch.equal(found.scores, expected.scores)
            assert torch.equal(found.pred_classes, expected.pred_classes)


def test_inference_above_every_score_finds_nothing(tiny_cfg, batch):
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 1.0
    assert [len(result["instances"]) for result in build_pair(tiny_cfg)[1].eval()(batch)] == [0, 0, 0]


def test_no_detection_comes_from_an_anchor_in_the_padding(tiny_cfg):
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = tiny_cfg.MODEL.RETINANET.TOPK_CANDIDATES_TEST = 10_000
    tiny_cfg.MODEL.RETINANET.NMS_THRESH_TEST = 1.0  # so that every anchor is a detection
    model = build_pair(tiny_cfg)[1].eval()
    num_anchors, num_classes = model.anchor_generator.num_anchors[0], model.num_classes
    images = ImageList(torch.zeros(2, 3, 64, 128), [(64, 128), (40, 72)])
    features = [torch.zeros(2, 1, -(-64 // stride), -(-128 // stride)) for stride in model.anchor_generator.strides]
    maps = [feature.shape[2:] for feature in features]
    logits = [torch.full((2, num_anchors * num_classes, *size), -9.0) for size in maps]
    for level in logits:
        level[:, ::num_classes] = 1.0  # class 0
    deltas = [torch.zeros(2, num_anchors * 4, *size) for size in maps]
    whole, padded = model.forward_inference(images, features, [logits, deltas])
    # Centres lie at multiples of the stride: of 64 x 128, 8 x 16 on P3, 4 x 8, 2 x 4, 1 x 2, 1 x 1 on P7; of 40 x 72,
    # 5 x 9, 3 x 5 (at 0, 16, 32 and 0 ... 64), 2 x 3, 1 x 2, 1 x 1.
    assert len(whole) == num_anchors * (128 + 32 + 8 + 2 + 1)
    assert len(padded) == num_anchors * (45 + 15 + 6 + 2 + 1)


def test_inference_in_bfloat16_decodes_in_fp32(tiny_cfg, make_batch):
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.02
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        (result,) = build_pair(tiny_cfg)[1].eval()(make_batch((96, 128, 1)))
    found = result["instances"]
    assert len(found) > 10
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32


def test_inference_of_an_image_alone_and_in_a_batch(tiny_cfg, make_batch):
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.02
    model = build_pair(tiny_cfg)[1].eval()
    images = make_batch((96, 128, 1), (96, 128, 2))  # of one size: padding is another input to the convolutions
    with torch.no_grad():
        together = model(images)
        for image, result in zip(images, together, strict=True):
            (alone,) = model([image])
            assert len(alone["instances"]) > 10
            assert_close(alone["instances"].scores, result["instances"].scores, rtol=1e-4, atol=1e-6)


# --- Wiring ---


def test_pyramid_is_p3_to_p7_with_p6_from_res5(tiny_cfg):
    backbone = build(tiny_cfg).backbone
    assert {name: shape.stride for name, shape in backbone.output_shape().items()} == {
        "p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128,
    }  # fmt: skip
    top = backbone.top_block
    assert top.in_feature == "res5" and top.p6.in_channels == 512 and top.p6.stride == (2, 2)  # C5 of R-18, not P5's 32
    c5 = torch.randn(1, 512, 4, 4)
    p6, p7 = top(c5)
    assert torch.equal(p6, top.p6(c5))
    assert torch.equal(p7, top.p7(p6.relu()))  # Sec. 4: ReLU before P7, none on P6
    assert (p6 < 0).any()


@pytest.mark.parametrize(
    "use_prior, prior_prob, bias",
    # -log((1 - 0.01) / 0.01) = -4.59512 (Sec. 3.3 and 4.1); -log(0.95 / 0.05) = -2.94444.
    [(True, 0.01, -4.59512), (True, 0.05, -2.94444), (False, 0.01, 0.0)],
)
def test_head_initialisation(tiny_cfg, use_prior, prior_prob, bias):
    tiny_cfg.MODEL.RETINANET.USE_PRIOR = use_prior
    tiny_cfg.MODEL.RETINANET.PRIOR_PROB = prior_prob
    head = build(tiny_cfg).head
    assert_close(head.cls_score.bias, torch.full_like(head.cls_score.bias, bias), rtol=1e-5, atol=0)
    convs = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 2 + 2 + 2
    for conv in convs:
        # Sec. 4.1: Gaussian, 0.01. The smallest layer has 7,776 weights: its std is within 5 * 0.8 percent.
        assert_close(conv.weight.std().item(), 0.01, rtol=0.04, atol=0)
        assert abs(conv.weight.mean().item()) < 0.01 * 5 / math.sqrt(conv.weight.numel())
        assert conv is head.cls_score or (conv.bias == 0).all()


def test_config_reaches_loss_matcher_and_normalizer(tiny_cfg):
    retinanet = tiny_cfg.MODEL.RETINANET
    retinanet.CLS_LOSS_NAME = "CrossEntropyLoss"
    retinanet.ALLOW_LOW_QUALITY_MATCHES = False
    retinanet.LOW_QUALITY_MIN_IOU = 0.4
    retinanet.NORMALIZER.NAME = "batch"
    model = build(tiny_cfg)
    assert type(model.cls_loss) is CrossEntropyLoss and model.cls_loss.alpha == 0.25
    assert model.anchor_matcher.allow_low_quality_matches is False
    assert model.anchor_matcher.low_quality_min_iou == 0.4
    assert model.loss_normalizer.name == "batch"


def test_unknown_box_loss_is_refused(tiny_cfg):
    tiny_cfg.MODEL.RETINANET.BBOX_REG_LOSS_TYPE = "iou"
    with pytest.raises(ValueError, match=r"BBOX_REG_LOSS_TYPE must be one of 'smooth_l1', .*'ciou', got 'iou'"):
        build(tiny_cfg)


class TwoLevels(Backbone):
    """Two convolutions with strides 8 and 16."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(3, 16, 9, stride=8, padding=4)
        self.coarse = nn.Conv2d(16, 16, 3, stride=2, padding=1)

    def forward(self, x):
        fine = self.fine(x).relu()
        return {"fine": fine, "coarse": self.coarse(fine).relu()}

    def output_shape(self):
        return {"fine": ShapeSpec(channels=16, stride=8), "coarse": ShapeSpec(channels=16, stride=16)}

    @property
    def size_divisibility(self):
        return 16


def build_from_arguments(cls_loss, normalizer="batch", num_classes=3):
    """The detector put together without a config."""
    backbone = TwoLevels()
    shapes = list(backbone.output_shape().values())
    anchors = OctaveAnchorGenerator(
        base_size=3.0, scales_per_octave=1, aspect_ratios=[[0.5, 1.0, 2.0]], strides=[8, 16], offset=0.5
    )
    head = RetinaNetHead(
        input_shape=shapes, num_classes=num_classes, num_anchors=anchors.num_anchors[0], conv_dims=[16, 16]
    )
    matcher = SafeMatcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True, low_quality_min_iou=0.0)
    return FocalRetinaNet(
        cls_loss=cls_loss,
        loss_normalizer=LossNormalizer(name=normalizer, momentum=0.9, initial=100.0, sync=False),
        backbone=backbone,
        head=head,
        head_in_features=["fine", "coarse"],
        anchor_generator=anchors,
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        anchor_matcher=matcher,
        num_classes=num_classes,
        box_reg_loss_type="smooth_l1",
        smooth_l1_beta=0.0,
        pixel_mean=[127.5] * 3,
        pixel_std=[64.0] * 3,
    )


def test_detector_from_arguments_learns_one_image(make_batch):
    model = build_from_arguments(FocalLoss(gamma=2.0, alpha=0.25))
    batch = make_batch((48, 64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    totals = []
    with EventStorage():
        for _ in range(60):
            loss = sum(model(batch).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            totals.append(loss.item())
    # At the prior a positive costs 1.13 and an L1 of some tenths; a net that learns nothing stays there.
    assert 1.1 < totals[0] < 4 and totals[-1] < 0.25 * totals[0]
    result = model.eval()(batch)[0]["instances"]
    truth = batch[0]["instances"]
    assert set(result.pred_classes[:2].tolist()) == set(truth.gt_classes.tolist())


def test_initial_class_loss_is_that_of_the_prior(make_batch):
    # Sec. 3.3: p = 0.01 everywhere. A positive anchor costs 1.1283818 and two negatives, any other 3 negatives, of
    # 7.5377519e-07 each. The weights are 0.01 * noise, worth some percent.
    model = build_from_arguments(FocalLoss(gamma=2.0, alpha=0.25))
    with EventStorage() as storage:
        loss = model(make_batch((48, 64, 3)))["loss_cls"]
    assert storage.latest()["num_pos_anchors"][0] >= 3
    assert loss.item() == pytest.approx(1.1283818, rel=0.05)


def label(model, batch):
    """The arguments of ``model.losses`` for random predictions."""
    images = model.preprocess_image(batch)
    features = [model.backbone(images.tensor)[name] for name in model.head_in_features]
    anchors = model.anchor_generator(features)
    gt_labels, gt_boxes = model.label_anchors(anchors, [image["instances"] for image in batch])
    logits = [torch.randn(len(batch), len(boxes), model.num_classes, requires_grad=True) for boxes in anchors]
    deltas = [torch.randn(len(batch), len(boxes), 4, requires_grad=True) for boxes in anchors]
    return anchors, logits, gt_labels, deltas, gt_boxes


def test_losses_are_sums_over_positives_and_valid_anchors_divided_by_the_count(make_batch):
    model = build_from_arguments(FocalLoss(gamma=2.0, alpha=0.25))
    anchors, logits, gt_labels, deltas, gt_boxes = label(model, make_batch((48, 64, 3), (32, 40, 0), (64, 64, 2)))
    with EventStorage():
        losses = model.losses(anchors, logits, gt_labels, deltas, gt_boxes)
    labels, all_logits, all_deltas = torch.stack(gt_labels), torch.cat(logits, dim=1), torch.cat(deltas, dim=1)
    pos_mask = (labels >= 0) & (labels < 3)
    assert pos_mask.sum() > 5 and (labels == -1).any() and not pos_mask[1].any()
    expected_cls = expected_box = 0.0
    for image, anchor in pos_mask.nonzero().tolist():
        target = model.box2box_transform.get_deltas(
            Boxes.cat(anchors).tensor[anchor][None], gt_boxes[image][anchor][None]
        )
        expected_box += (all_deltas[image, anchor] - target).abs().sum().item()
    for image, anchor in (labels >= 0).nonzero().tolist():
        for k in range(3):
            p = torch.sigmoid(all_logits[image, anchor, k]).item()
            if labels[image, anchor] == k:
                expected_cls -= 0.25 * (1 - p) ** 2 * math.log(p)
            else:
                expected_cls -= 0.75 * p**2 * math.log(1 - p)
    assert losses["loss_cls"].item() == pytest.approx(expected_cls / pos_mask.sum().item(), rel=1e-4)
    assert losses["loss_box_reg"].item() == pytest.approx(expected_box / pos_mask.sum().item(), rel=1e-4)


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_ohem_leaves_unselected_anchors_out_of_both_losses_and_the_divisor(make_batch, scope):
    miner = HardExampleMiner(
        batch_size=6, nms_thresh=0.7, neg_pos_ratio=1.0, score="total", nms_boxes="decoded", scope=scope
    )
    model = build_from_arguments(OHEMLoss(miner=miner, alpha=None))
    anchors, logits, gt_labels, deltas, gt_boxes = label(model, make_batch((48, 64, 3), (64, 64, 3)))
    with EventStorage() as storage:
        losses = model.losses(anchors, logits, gt_labels, deltas, gt_boxes)
    sum(losses.values()).backward()
    labels = torch.stack(gt_labels)
    pos_mask = (labels >= 0) & (labels < 3)
    cls_mask = torch.cat([x.grad for x in logits], dim=1).abs().sum(dim=2) > 0
    box_mask = torch.cat([x.grad for x in deltas], dim=1).abs().sum(dim=2) > 0
    # Three of each kind, an image or altogether; there are more positives than that.
    count = 12 if scope == "image" else 6
    assert cls_mask.sum() == count and (pos_mask & cls_mask).sum() == count / 2 < pos_mask.sum()
    assert torch.equal(box_mask, pos_mask & cls_mask)
    assert storage.latest()["num_pos_anchors"][0] == count / 4, "half of the selected, of two images"
    expected = CrossEntropyLoss(alpha=None)(torch.cat(logits, dim=1), labels.masked_fill(~cls_mask, -1)) / count
    assert_close(losses["loss_cls"], expected)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "FocalLossStar", "OHEMLoss"])
def test_every_loss_trains_with_and_without_objects(tiny_cfg, batch, make_batch, name):
    tiny_cfg.MODEL.RETINANET.CLS_LOSS_NAME = name
    model = build(tiny_cfg)
    with EventStorage():
        for images in (batch, make_batch((64, 64, 0))):
            losses, grads = training_step(model, images)
            assert losses["loss_cls"] > 0 and all(grad.isfinite().all() for grad in grads.values())
            assert grads["head.cls_score.weight"].abs().sum() > 0
            assert grads.keys() >= {"head.bbox_pred.weight", "backbone.fpn_lateral3.weight"}  # DDP waits for every one
    assert losses["loss_box_reg"] == 0


# --- Ground truth that is wrong ---


@pytest.mark.parametrize("gt_class", [3, -1, 80])
def test_class_outside_the_range_names_the_file(make_batch, gt_class):
    model = build_from_arguments(FocalLoss(gamma=2.0, alpha=0.25))
    batch = make_batch((48, 64, 1), (48, 60, 2))
    batch[1]["instances"].gt_classes[1] = gt_class
    with pytest.raises(
        ValueError, match=rf"class {gt_class} of 60.jpg is outside \[0, 3\): set MODEL.RETINANET.NUM_CL"
    ):
        model(batch)
    assert len(model.eval()(batch)) == 2  # inference does not look at it


def test_training_without_instances_names_the_file(make_batch):
    model = build_from_arguments(FocalLoss(gamma=2.0, alpha=0.25))
    batch = make_batch((48, 64, 1), (48, 60, 2))
    del batch[1]["instances"]
    with pytest.raises(ValueError, match="60.jpg comes without 'instances'"):
        model(batch)


@pytest.mark.parametrize(
    "box, most_positives",
    [
        ((20.0, 20.0, 20.0, 40.0), 0),  # no width
        ((30.0, 30.0, 20.0, 20.0), 0),  # corners swapped
        ((5000.0, 5000.0, 5050.0, 5050.0), 0),  # outside
        ((math.nan, 0.0, 10.0, 10.0), 0),
        ((0.0, 0.0, math.inf, math.inf), 0),
        # A hundredth of a pixel: the 24 px anchors around it tie, 3 * 3 cells of the fine level and 3 ratios.
        ((20.0, 20.0, 20.01, 20.01), 27),
    ],
    ids=["flat", "swapped", "outside", "nan", "inf", "tiny"],
)
def test_impossible_box_makes_few_anchors_positive(make_batch, box, most_positives):
    model = build_from_arguments(FocalLoss(gamma=2.0, alpha=0.25))
    (image,) = make_batch((48, 64, 2))
    image["instances"].gt_boxes.tensor[0] = torch.tensor([8.0, 8.0, 32.0, 32.0])
    anchors, _, (alone,), _, _ = label(model, [{**image, "instances": image["instances"][:1]}])
    image["instances"].gt_boxes.tensor[1] = torch.tensor(box)
    _, _, (labels,), _, _ = label(model, [image])
    num_alone, num_pos = (((x >= 0) & (x < 3)).sum().item() for x in (alone, labels))
    assert 0 < num_alone <= num_pos <= num_alone + most_positives < sum(map(len, anchors)) / 2
    with EventStorage():
        losses, grads = training_step(model, [image])
    assert all(value.isfinite() for value in (*losses.values(), *(grad.sum() for grad in grads.values())))


# --- VIS_PERIOD ---


@pytest.fixture
def bn_cfg(tiny_cfg):
    """Batch norm that learns: its statistics change with every forward in training mode."""
    tiny_cfg.MODEL.RESNETS.NORM = "BN"
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT = 0
    tiny_cfg.VIS_PERIOD = 2
    return tiny_cfg


@pytest.mark.parametrize("first_boxes", [2, 0])
def test_vis_period_draws_and_changes_nothing(bn_cfg, make_batch, first_boxes):
    drawing = build(bn_cfg)
    bn_cfg.VIS_PERIOD = 0
    plain = build(bn_cfg)
    plain.load_state_dict(drawing.state_dict())
    batch = make_batch((96, 128, first_boxes), (64, 80, 1))
    images, losses = {}, {}
    for model in (plain, drawing):
        with EventStorage() as storage:
            for iteration in range(3):
                storage.iter = iteration
                losses[model] = model(batch)
        images[model] = storage._vis_data
    assert images[plain] == []
    assert [iteration for _, _, iteration in images[drawing]] == [0, 2]
    assert images[drawing][0][1].shape[0] == 3 and images[drawing][0][1].ndim == 3
    assert drawing.training and all(module.training for module in drawing.modules())
    assert_close(losses[drawing], losses[plain], rtol=0, atol=0)
    moved = [name for name in plain.state_dict() if name.endswith("running_mean")]
    assert moved and plain.state_dict()[moved[0]].abs().sum() > 0
    assert_close(drawing.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert drawing.loss_normalizer.average == plain.loss_normalizer.average != 100


def test_vis_period_leaves_a_frozen_part_in_eval_mode(bn_cfg, batch):
    model = build(bn_cfg)
    model.backbone.bottom_up.eval()
    with EventStorage() as storage:
        model(batch)
    assert len(storage._vis_data) == 1
    assert model.training and model.backbone.training and not model.backbone.bottom_up.training
    assert not any(module.training for module in model.backbone.bottom_up.modules())


def test_vis_period_leaves_a_loss_that_is_not_finite_to_the_trainer(bn_cfg, batch):
    model = build(bn_cfg)
    with torch.no_grad():
        model.head.bbox_pred.bias.fill_(float("inf"))
    with EventStorage() as storage:
        losses = model(batch)
    assert not torch.isfinite(losses["loss_box_reg"])
    assert storage._vis_data == []


def test_a_model_without_classes_is_refused(tiny_cfg):
    tiny_cfg.MODEL.RETINANET.NUM_CLASSES = 0
    with pytest.raises(ValueError, match="NUM_CLASSES must be >= 1 to build a model, got 0"):
        build(tiny_cfg)


@pytest.mark.parametrize(
    "build_part",
    [
        lambda cfg: build_model(cfg),
        lambda cfg: build_classification_loss(cfg),
        lambda cfg: LossNormalizer(cfg),
        lambda cfg: OctaveAnchorGenerator(cfg, [ShapeSpec(stride=8)]),
    ],
    ids=["model", "loss", "normalizer", "anchors"],
)
def test_a_config_without_the_plugins_keys_names_the_call_that_adds_them(build_part):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "FocalRetinaNet"
    with pytest.raises(SetupError, match=r"call retina_plugin.add_retina_config\(cfg\) right after get_cfg\(\)"):
        build_part(cfg)


def test_matcher_that_overrides_the_call_is_the_one_that_labels(tiny_cfg):
    class NothingMatches(SafeMatcher):
        def __call__(self, match_quality_matrix):
            matches, labels = super().__call__(match_quality_matrix)
            return matches, torch.zeros_like(labels)

    model = build_model(tiny_cfg)
    instances = Instances((64, 96), gt_boxes=Boxes(torch.tensor([[8.0, 8, 40, 40]])), gt_classes=torch.tensor([1]))
    anchors = model.anchor_generator(
        [torch.zeros(1, 1, -(-64 // stride), -(-96 // stride)) for stride in (8, 16, 32, 64, 128)]
    )
    assert (model.label_anchors(anchors, [instances])[0][0] < model.num_classes).any()
    model.anchor_matcher = NothingMatches(
        [0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True, low_quality_min_iou=0.0
    )
    assert (model.label_anchors(anchors, [instances])[0][0] == model.num_classes).all()
