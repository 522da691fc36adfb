"""The registry of classification losses, the four in it, and how OHEM chooses among the anchors of a batch."""

import math

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from torch import nn
from torch.testing import assert_close

from retina_plugin import (
    CLASSIFICATION_LOSS_REGISTRY,
    ClassificationLoss,
    CrossEntropyLoss,
    FocalLoss,
    FocalLossStar,
    FocalRetinaNet,
    LossNormalizer,
    OHEMLoss,
)
from retina_plugin.modeling import HardExampleMiner, build_classification_loss
from retina_plugin.modeling.box_loss import box_regression_losses

# --- Registry ---


@pytest.mark.parametrize("cls", [FocalLoss, CrossEntropyLoss, FocalLossStar, OHEMLoss])
def test_build_loss_by_name(tiny_cfg, cls):
    tiny_cfg.MODEL.RETINANET.CLS_LOSS_NAME = cls.__name__
    tiny_cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA = 0.6
    loss = build_classification_loss(tiny_cfg)
    assert type(loss) is cls and loss.alpha == 0.6


def test_build_loss_negative_alpha_is_no_balancing(tiny_cfg):
    tiny_cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA = -1.0
    assert build_classification_loss(tiny_cfg).alpha is None
    tiny_cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA = 0.0  # no weight for the foreground, which is something else
    assert build_classification_loss(tiny_cfg).alpha == 0.0


def test_build_loss_reads_its_own_keys(tiny_cfg):
    retinanet = tiny_cfg.MODEL.RETINANET
    retinanet.FOCAL_LOSS_GAMMA = 0.5
    retinanet.FOCAL_STAR.GAMMA, retinanet.FOCAL_STAR.BETA = 4.0, -1.0
    retinanet.OHEM.BATCH_SIZE, retinanet.OHEM.NMS_THRESH, retinanet.OHEM.NEG_POS_RATIO = 256, 0.7, 3.0
    retinanet.OHEM.SCORE, retinanet.OHEM.NMS_BOXES, retinanet.OHEM.SCOPE = "total", "decoded", "batch"
    assert FocalLoss(tiny_cfg).gamma == 0.5
    assert (FocalLossStar(tiny_cfg).gamma, FocalLossStar(tiny_cfg).beta) == (4.0, -1.0)
    ohem = OHEMLoss(tiny_cfg).miner
    assert ohem.settings == {"batch_size": 256, "nms_thresh": 0.7, "neg_pos_ratio": 3.0}
    assert (ohem.score, ohem.nms_boxes, ohem.scope) == ("total", "decoded", "batch")
    retinanet.OHEM.NEG_POS_RATIO = 0.0
    assert OHEMLoss(tiny_cfg).miner.settings["neg_pos_ratio"] is None


@pytest.fixture
def registry(monkeypatch):
    """The registry, which forgets what a test registers."""
    monkeypatch.setattr(CLASSIFICATION_LOSS_REGISTRY, "_obj_map", dict(CLASSIFICATION_LOSS_REGISTRY._obj_map))
    return CLASSIFICATION_LOSS_REGISTRY


def test_build_loss_of_the_user(tiny_cfg, registry):
    @registry.register()
    class SquaredHinge(ClassificationLoss):
        def value(self, x_t):
            return (1 - x_t).clamp(min=0) ** 2

    tiny_cfg.MODEL.RETINANET.CLS_LOSS_NAME = "SquaredHinge"
    loss = build_classification_loss(tiny_cfg)
    logits = torch.tensor([[0.5, -3.0], [0.0, 2.0]], requires_grad=True)
    value = loss(logits, torch.tensor([0, 2]))
    # Anchor 0 is of class 0: x_t = 0.5 and 3. Anchor 1 is background: x_t = -0 and -2. alpha = 0.25.
    assert_close(value.item(), 0.25 * 0.25 + 0.75 * 0 + 0.75 * (1 + 9))
    value.backward()
    # d = -2 (1 - x_t) d x_t / d logit: 0.25 * -1, 0, 0.75 * 2 and 0.75 * 6.
    assert_close(logits.grad, torch.tensor([[-0.25, 0.0], [1.5, 4.5]]))


def test_build_loss_unknown_name_lists_the_known(tiny_cfg):
    tiny_cfg.MODEL.RETINANET.CLS_LOSS_NAME = "FocalLos"
    names = sorted(name for name, _ in CLASSIFICATION_LOSS_REGISTRY)
    assert {"CrossEntropyLoss", "FocalLoss", "FocalLossStar", "OHEMLoss"} <= set(names)
    known = ", ".join(map(repr, names))
    with pytest.raises(ValueError, match=f"CLS_LOSS_NAME must be one of {known}, got 'FocalLos'"):
        build_classification_loss(tiny_cfg)


def test_build_loss_refuses_what_is_no_classification_loss(tiny_cfg, registry):
    @registry.register()
    class NotALoss:
        def __init__(self, cfg):
            pass

    tiny_cfg.MODEL.RETINANET.CLS_LOSS_NAME = "NotALoss"
    with pytest.raises(TypeError, match="NotALoss must be a retina_plugin.ClassificationLoss, got"):
        build_classification_loss(tiny_cfg)


OHEM = {
    "batch_size": 128,
    "nms_thresh": 0.5,
    "neg_pos_ratio": None,
    "score": "cls",
    "nms_boxes": "anchors",
    "scope": "image",
}
NAN = math.nan


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CrossEntropyLoss(alpha=1.5), r"FOCAL_LOSS_ALPHA must be in \[0, 1\], or negative .* got 1.5"),
        (lambda: CrossEntropyLoss(alpha=-0.1), "FOCAL_LOSS_ALPHA"),
        (lambda: CrossEntropyLoss(alpha=NAN), "FOCAL_LOSS_ALPHA"),
        (lambda: FocalLoss(gamma=-1.0, alpha=None), r"FOCAL_LOSS_GAMMA must be in \[0, inf\), got -1.0"),
        (lambda: FocalLoss(gamma=NAN, alpha=None), "FOCAL_LOSS_GAMMA"),
        (lambda: FocalLoss(gamma=math.inf, alpha=None), "FOCAL_LOSS_GAMMA"),
        (lambda: FocalLossStar(gamma=0.0, beta=1.0, alpha=None), r"FOCAL_STAR.GAMMA must be in \(0, inf\), got 0.0"),
        (lambda: FocalLossStar(gamma=NAN, beta=1.0, alpha=None), "FOCAL_STAR.GAMMA"),
        (
            lambda: FocalLossStar(gamma=1.0, beta=-math.inf, alpha=None),
            r"STAR.BETA must be in \(-inf, inf\), got -inf",
        ),
        (lambda: FocalLossStar(gamma=1.0, beta=NAN, alpha=None), "FOCAL_STAR.BETA"),
        (lambda: HardExampleMiner(**{**OHEM, "batch_size": 0}), r"OHEM.BATCH_SIZE must be in \[1, inf\), got 0"),
        (lambda: HardExampleMiner(**{**OHEM, "nms_thresh": 0.0}), r"OHEM.NMS_THRESH must be in \(0, 1\], got 0.0"),
        (lambda: HardExampleMiner(**{**OHEM, "nms_thresh": NAN}), "OHEM.NMS_THRESH"),
        (
            lambda: HardExampleMiner(**{**OHEM, "neg_pos_ratio": -1.0}),
            r"NEG_POS_RATIO must be in \[0, inf\), .* got -1.0",
        ),
        (lambda: HardExampleMiner(**{**OHEM, "neg_pos_ratio": NAN}), "OHEM.NEG_POS_RATIO"),
        (lambda: HardExampleMiner(**{**OHEM, "score": "box"}), r"OHEM.SCORE must be one of 'cls', 'total', got 'box'"),
        (lambda: HardExampleMiner(**{**OHEM, "nms_boxes": "gt"}), "OHEM.NMS_BOXES must be one of"),
        (lambda: HardExampleMiner(**{**OHEM, "scope": "gpu"}), "OHEM.SCOPE must be one of"),
        (lambda: OHEMLoss(miner=HardExampleMiner(**OHEM), alpha=2.0), "FOCAL_LOSS_ALPHA"),
    ],
)
def test_losses_refuse_impossible_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_build_loss_refuses_alpha_nan(tiny_cfg):
    tiny_cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA = NAN
    with pytest.raises(ValueError, match="FOCAL_LOSS_ALPHA"):
        build_classification_loss(tiny_cfg)


# --- Which anchors count ---


FAR_APART = torch.tensor([[100.0 * i, 0.0, 100.0 * i + 10, 10.0] for i in range(4)])


def model_losses(cls_loss, labels, logits, *, anchors=FAR_APART, deltas=None, gt_boxes=None):
    """The losses of a model whose predictions are given: logits (N, R, K), deltas (N, R, 4), and weights 1 in them."""
    num_images, num_anchors, num_classes = logits.shape
    nothing = nn.Identity()
    model = FocalRetinaNet(
        cls_loss=cls_loss, loss_normalizer=LossNormalizer(name="batch", momentum=0.9, initial=100.0, sync=False),
        backbone=nothing, head=nothing, head_in_features=[], anchor_generator=nothing, anchor_matcher=nothing,
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)), num_classes=num_classes,
        pixel_mean=[0.0], pixel_std=[1.0],
    )  # fmt: skip
    anchors = anchors[:num_anchors]
    deltas = torch.zeros(num_images, num_anchors, 4, requires_grad=True) if deltas is None else deltas
    gt_boxes = anchors.expand(num_images, -1, -1) if gt_boxes is None else gt_boxes
    with EventStorage():
        return model.losses([Boxes(anchors)], [logits], list(labels), [deltas], list(gt_boxes))


def ohem_labels(labels, logits, *, alpha=None, anchors=FAR_APART, deltas=None, gt_boxes=None, **settings):
    """The labels that OHEM leaves to the losses: where the logits have a gradient."""
    logits, labels = logits.detach().requires_grad_(), torch.tensor(labels)
    loss = OHEMLoss(miner=HardExampleMiner(**{**OHEM, **settings}), alpha=alpha)
    losses = model_losses(loss, labels, logits, anchors=anchors, deltas=deltas, gt_boxes=gt_boxes)
    losses["loss_cls"].backward()
    return labels.masked_fill((logits.grad == 0).all(dim=2), -1).tolist()


def test_ohem_ranks_by_the_loss_summed_over_classes():
    # Background anchors, K = 2. CE of a negative at logit x is log(1 + e^x): one entry of 3 costs 3.05, two of 2 cost
    # 4.25, so anchor 1 is the hardest, then 0 (3.05 + 0.0), then 3 (0.69 + 0.69), then 2.
    logits = torch.tensor([[[3.0, -9.0], [2.0, 2.0], [-9.0, -9.0], [0.0, 0.0]]])
    assert ohem_labels([[2, 2, 2, 2]], logits, batch_size=1) == [[-1, 2, -1, -1]]
    assert ohem_labels([[2, 2, 2, 2]], logits, batch_size=2) == [[2, 2, -1, -1]]
    assert ohem_labels([[2, 2, 2, 2]], logits, batch_size=3) == [[2, 2, -1, 2]]


def test_ohem_ranks_with_alpha():
    # Anchor 0 is positive at logit 0, anchor 1 background at logit -1: CE 0.69 and 0.31. With alpha = 0.25: 0.17, 0.23.
    logits = torch.tensor([[[0.0], [-1.0]]])
    assert ohem_labels([[0, 1]], logits, batch_size=1) == [[0, -1]]
    assert ohem_labels([[0, 1]], logits, batch_size=1, alpha=0.25) == [[-1, 1]]


def test_ohem_total_score_adds_the_box_loss_of_positives():
    # Anchor 0, positive: CE 0.69 and, its box off by a fifth of its width, L1 0.2. Anchor 1, background: CE 0.80.
    # Anchor 2 is ignored. Anchor 3, positive: CE 0.70, box exact.
    logits = torch.tensor([[[0.0], [0.2033], [9.0], [-0.0136]]])
    gt_boxes = FAR_APART.clone()[None]
    gt_boxes[0, 0] += torch.tensor([2.0, 0.0, 2.0, 0.0])
    labels = [[0, 1, -1, 0]]
    assert ohem_labels(labels, logits, gt_boxes=gt_boxes, batch_size=1, score="cls") == [[-1, 1, -1, -1]]
    assert ohem_labels(labels, logits, gt_boxes=gt_boxes, batch_size=2, score="cls") == [[-1, 1, -1, 0]]
    assert ohem_labels(labels, logits, gt_boxes=gt_boxes, batch_size=1, score="total") == [[0, -1, -1, -1]]


def test_ohem_nms_on_anchors_or_on_decoded_boxes():
    # Equal anchors 0 and 1 that predict boxes a width apart; anchors 2 and 3 apart that predict the same box.
    anchors = FAR_APART[[0, 0, 2, 3]]
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 1, 0] = 1.0  # 10 px to the right
    deltas[0, 3, 0] = -10.0  # 100 px to the left, onto anchor 2
    logits = torch.tensor([[[0.4], [0.3], [0.2], [0.1]]])
    parts = {"anchors": anchors, "deltas": deltas}
    assert ohem_labels([[1, 1, 1, 1]], logits, **parts, nms_boxes="anchors") == [[1, -1, 1, 1]]
    assert ohem_labels([[1, 1, 1, 1]], logits, **parts, nms_boxes="decoded") == [[1, 1, 1, -1]]


def test_ohem_batch_size_is_of_an_image_or_of_the_batch():
    # Image 0 has the two hardest, image 1 the two easiest. The same anchors in two images do not suppress each other.
    logits = torch.tensor([[[4.0], [3.0]], [[2.0], [1.0]]])
    labels = [[1, 1], [1, 1]]
    assert ohem_labels(labels, logits, batch_size=1, scope="image") == [[1, -1], [1, -1]]
    assert ohem_labels(labels, logits, batch_size=2, scope="batch") == [[1, 1], [-1, -1]]
    assert ohem_labels(labels, logits, batch_size=3, scope="batch") == [[1, 1], [1, -1]]


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_ohem_of_an_image_without_positives_and_of_one_ignored_whole(scope):
    logits = torch.randn(2, 4, 3)
    labels = [[3, 3, 3, 3], [-1, -1, -1, -1]]
    for score in ("cls", "total"):
        assert ohem_labels(labels, logits, scope=scope, score=score) == labels


@pytest.mark.parametrize("scope", ["image", "batch"])
@pytest.mark.parametrize("nms_boxes", ["anchors", "decoded"])
def test_ohem_selection_takes_no_gradient_and_leaves_labels_alone(scope, nms_boxes):
    logits, deltas = torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 4, 4, requires_grad=True)
    labels = torch.tensor([[0, 3, 3, 1], [3, 3, 2, -1]])
    miner = HardExampleMiner(**{**OHEM, "batch_size": 2, "score": "total", "scope": scope, "nms_boxes": nms_boxes})
    before = labels.clone()
    model_losses(OHEMLoss(miner=miner, alpha=None), labels, logits, deltas=deltas)["loss_cls"].backward()
    assert torch.equal(labels, before)
    kept = logits.grad.abs().sum(dim=2) > 0
    assert kept.sum() == (4 if scope == "image" else 2) and (labels[kept] >= 0).all() and deltas.grad is None


def test_a_loss_of_ones_own_ranks_by_its_own_value():
    class Turned(OHEMLoss):
        def value(self, x_t):  # falls where cross entropy rises
            return torch.sigmoid(x_t)

    logits, labels = torch.tensor([[[3.0], [-3.0]]], requires_grad=True), torch.tensor([[1, 1]])
    miner = HardExampleMiner(**{**OHEM, "batch_size": 1})
    model_losses(Turned(miner=miner, alpha=None), labels, logits)["loss_cls"].backward()
    assert (logits.grad.flatten() != 0).tolist() == [False, True]


def test_losses_are_divided_by_the_positives_and_with_ohem_by_the_selected():
    logits, labels = torch.zeros(2, 4, 2), torch.tensor([[0, 1, 2, 2], [-1, -1, 2, 1]])
    ohem = OHEMLoss(miner=HardExampleMiner(**OHEM), alpha=None)
    for loss, divisor in ((FocalLoss(gamma=2.0, alpha=0.25), 3), (ohem, 6)):
        losses = model_losses(loss, labels, logits)
        assert_close(losses["loss_cls"], loss(logits, labels) / divisor)


def test_ohem_loss_is_cross_entropy_of_the_selected():
    logits, labels = torch.randn(2, 4, 3), torch.tensor([[0, 3, -1, 1], [3, -1, 2, -1]])
    expected = CrossEntropyLoss(alpha=0.25)(logits, labels)
    assert_close(OHEMLoss(miner=HardExampleMiner(**OHEM), alpha=0.25)(logits, labels), expected, rtol=0, atol=0)


# --- Box loss ---


def test_box_losses_smooth_l1_is_summed_over_the_deltas():
    # Anchor 10 x 20 at the origin; its box is 1 px right, 2 px down: t = (0.1, 0.1, 0, 0). Prediction 0.
    # L1: 0.2. Knee at 0.2: 2 * 0.5 * 0.1^2 / 0.2 = 0.05. Knee at 0.05: 2 * (0.1 - 0.025) = 0.15.
    anchors, boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[1.0, 2.0, 11.0, 22.0]])
    transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
    for beta, expected in ((0.0, 0.2), (0.2, 0.05), (0.05, 0.15)):
        losses = box_regression_losses(
            torch.zeros(1, 4), anchors, boxes, transform=transform, loss_type="smooth_l1", smooth_l1_beta=beta
        )
        assert_close(losses, torch.tensor([expected]))


@pytest.mark.parametrize("loss_type", ["smooth_l1", "giou", "diou", "ciou"])
def test_box_losses_of_an_exact_prediction_and_of_none(loss_type):
    transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
    anchors, boxes = FAR_APART, FAR_APART + torch.tensor([1.0, 2.0, 5.0, 3.0])
    for count in (4, 0):
        deltas = transform.get_deltas(anchors, boxes)[:count].requires_grad_()
        losses = box_regression_losses(
            deltas, anchors[:count], boxes[:count], transform=transform, loss_type=loss_type, smooth_l1_beta=0.0
        )
        assert_close(losses, torch.zeros(count), rtol=0, atol=1e-5)
        losses.sum().backward()
        assert deltas.grad.shape == (count, 4) and deltas.grad.isfinite().all()
