"""The registry of classification losses and the four of the paper: adapters between the config and ``ops``."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from .. import ops

__all__ = [
    "CLASSIFICATION_LOSS_REGISTRY",
    "ClassificationLoss",
    "CrossEntropyLoss",
    "DensePredictions",
    "FocalLoss",
    "FocalLossStar",
    "OHEMLoss",
    "build_classification_loss",
]

CLASSIFICATION_LOSS_REGISTRY = Registry("CLASSIFICATION_LOSS")
CLASSIFICATION_LOSS_REGISTRY.__doc__ = """
Classification losses of dense detectors, chosen by ``MODEL.RETINANET.CLS_LOSS_NAME``.

A registered class is a :class:`ClassificationLoss` and is called as ``cls(cfg)``.
"""


@dataclass
class DensePredictions:
    """What the model predicts for a batch, for losses that choose among the anchors.

    N images, R anchors of an image over all levels, K classes.
    """

    logits: Tensor  # (N, R, K)
    deltas: Tensor  # (N, R, 4)
    anchors: Tensor  # (R, 4) XYXY, pixels of the padded input
    gt_boxes: Tensor  # (N, R, 4) XYXY, meaningful where an anchor is positive
    decode: Callable[[Tensor, Tensor], Tensor]  # (R, 4) deltas, (R, 4) anchors -> (R, 4) XYXY boxes
    box_losses: Callable[["DensePredictions", Tensor], Tensor]  # (N, R) mask of P anchors -> (P,) box losses


class ClassificationLoss(nn.Module):
    """A loss of the signed logit x_t, summed over all (anchor, class) pairs that are not ignored.

    A subclass says what the loss is in :meth:`value`. Everything else has a default: the derivative comes from
    autograd, no anchor is left out, and the divisor counts the positive anchors.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # A new value, or closed form, makes those that are inherited the ones of another loss.
        if "value" in vars(cls) and "background_loss" not in vars(cls):
            cls.background_loss = ClassificationLoss.background_loss
        if {"value", "background_loss"} & vars(cls).keys() and "kernel" not in vars(cls):
            cls.kernel = ClassificationLoss.kernel

    @configurable
    def __init__(self, *, alpha: float | None):
        """
        Args:
            alpha: weight of the foreground in [0, 1], background getting ``1 - alpha``; None for no balancing.
        """
        super().__init__()
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha (MODEL.RETINANET.FOCAL_LOSS_ALPHA) must be in [0, 1] or None, got {alpha}")
        self.alpha = alpha

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        alpha = cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA
        return {"alpha": None if alpha < 0 else alpha}

    def value(self, x_t: Tensor) -> Tensor:
        """The loss at each x_t, elementwise: x_t is the logit of the labelled class, minus the logit of the others."""
        raise NotImplementedError(f"{type(self).__name__} must define value(x_t)")

    def background_loss(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """``value(-logits)`` and its derivative by the logits, elementwise, in new tensors.

        A closed form that shares work between the two is faster than this.
        """
        with torch.enable_grad():
            logits = logits.detach().requires_grad_()
            value = self.value(-logits)
            (derivative,) = torch.autograd.grad(value.sum(), logits)
        return value.detach(), derivative

    def kernel(self) -> dict | None:
        """What makes ``ops.focal_loss_triton.sum_and_gradient`` this loss; None, the default, where nothing does."""
        return None

    def forward(self, logits: Tensor, labels: Tensor, divisor: Tensor | None = None) -> Tensor:
        """Sum of the loss over ``divisor``: see :func:`retina_plugin.ops.dense_classification_loss`.

        Args:
            logits: (..., K). labels: (...) in [0, K), K for background, negative for ignored. divisor: 0-dim or None.
        """
        return ops.dense_classification_loss(
            logits, labels, background_loss=self.background_loss, alpha=self.alpha, divisor=divisor,
            kernel=self.kernel(),
        )  # fmt: skip

    def select_examples(self, labels: Tensor, predictions: DensePredictions) -> Tensor:
        """Labels (N, R) with -1 for the anchors that neither loss shall see. Default: all stay."""
        return labels

    def count_examples(self, labels: Tensor, num_classes: int) -> Tensor:
        """0-dim count by which the losses are divided. Default: positive anchors (paper Sec. 4.1)."""
        return ((labels >= 0) & (labels != num_classes)).sum()


@CLASSIFICATION_LOSS_REGISTRY.register()
class CrossEntropyLoss(ClassificationLoss):
    """Binary cross entropy, plain (alpha None) or alpha-balanced (paper Sec. 3.1, Table 1a)."""

    def value(self, x_t: Tensor) -> Tensor:
        return ops.cross_entropy(x_t)

    def background_loss(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return ops.background_focal(logits, 0.0)

    def kernel(self) -> dict:
        return {"gamma": 0.0}


@CLASSIFICATION_LOSS_REGISTRY.register()
class FocalLoss(ClassificationLoss):
    """Focal loss, plain or alpha-balanced (paper Sec. 3.2, eq. 4 and 5, Table 1b)."""

    @configurable
    def __init__(self, *, gamma: float, alpha: float | None):
        """
        Args:
            gamma: focusing, finite and >= 0; 0 is cross entropy.
            alpha: see :class:`ClassificationLoss`.
        """
        super().__init__(alpha=alpha)
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"gamma (MODEL.RETINANET.FOCAL_LOSS_GAMMA) must be finite and >= 0, got {gamma}")
        self.gamma = gamma

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {**super().from_config(cfg), "gamma": cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA}

    def value(self, x_t: Tensor) -> Tensor:
        return ops.focal(x_t, self.gamma)

    def background_loss(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return ops.background_focal(logits, self.gamma)

    def kernel(self) -> dict:
        return {"gamma": self.gamma}


@CLASSIFICATION_LOSS_REGISTRY.register()
class FocalLossStar(ClassificationLoss):
    """FL*, alpha-balanced as in the paper's runs (appendix A, eq. 7 and 8, Table 3)."""

    @configurable
    def __init__(self, *, gamma: float, beta: float, alpha: float | None):
        """
        Args:
            gamma: steepness, finite and > 0.
            beta: shift, finite.
            alpha: see :class:`ClassificationLoss`.
        """
        super().__init__(alpha=alpha)
        if not 0 < gamma < float("inf"):
            raise ValueError(f"gamma (MODEL.RETINANET.FOCAL_STAR.GAMMA) must be finite and > 0, got {gamma}")
        if not abs(beta) < float("inf"):
            raise ValueError(f"beta (MODEL.RETINANET.FOCAL_STAR.BETA) must be finite, got {beta}")
        self.gamma = gamma
        self.beta = beta

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        star = cfg.MODEL.RETINANET.FOCAL_STAR
        return {**super().from_config(cfg), "gamma": star.GAMMA, "beta": star.BETA}

    def value(self, x_t: Tensor) -> Tensor:
        return ops.focal_star(x_t, self.gamma, self.beta)

    def background_loss(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return ops.background_focal_star(logits, self.gamma, self.beta)

    def kernel(self) -> dict:
        return {"gamma": 0.0, "star": (self.gamma, self.beta)}


@CLASSIFICATION_LOSS_REGISTRY.register()
class OHEMLoss(CrossEntropyLoss):
    """Cross entropy over the minibatch of hardest examples, with or without 1:3 (paper Sec. 5.1, Table 1d).

    Unselected anchors are ignored by both losses, and the divisor counts the selected ones, as in the OHEM paper's
    code, where a minibatch is averaged.
    """

    @configurable
    def __init__(
        self, *, batch_size: int, nms_thresh: float, neg_pos_ratio: float | None, score: str, nms_boxes: str,
        scope: str, alpha: float | None,
    ):  # fmt: skip
        """
        Args:
            batch_size: examples kept, >= 1, per image or per batch (``scope``).
            nms_thresh: in (0, 1].
            neg_pos_ratio: negatives per positive, > 0; None for no ratio.
            score: "cls" ranks examples by classification loss, "total" by that plus the box loss.
            nms_boxes: "anchors", or "decoded" for the predicted boxes.
            scope: "image" or "batch".
            alpha: see :class:`ClassificationLoss`.
        """
        super().__init__(alpha=alpha)
        if batch_size < 1:
            raise ValueError(f"batch_size (MODEL.RETINANET.OHEM.BATCH_SIZE) must be >= 1, got {batch_size}")
        if not 0 < nms_thresh <= 1:
            raise ValueError(f"nms_thresh (MODEL.RETINANET.OHEM.NMS_THRESH) must be in (0, 1], got {nms_thresh}")
        if neg_pos_ratio is not None and not neg_pos_ratio > 0:
            raise ValueError(f"neg_pos_ratio (MODEL.RETINANET.OHEM.NEG_POS_RATIO) must be > 0, got {neg_pos_ratio}")
        for key, option, known in (
            ("SCORE", score, ("cls", "total")),
            ("NMS_BOXES", nms_boxes, ("anchors", "decoded")),
            ("SCOPE", scope, ("image", "batch")),
        ):
            if option not in known:
                raise ValueError(f"MODEL.RETINANET.OHEM.{key} must be one of {known}, got {option!r}")
        self.mining = {"batch_size": batch_size, "nms_thresh": nms_thresh, "neg_pos_ratio": neg_pos_ratio}
        self.score = score
        self.nms_boxes = nms_boxes
        self.scope = scope

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        ohem = cfg.MODEL.RETINANET.OHEM
        return {
            **super().from_config(cfg),
            "batch_size": ohem.BATCH_SIZE,
            "nms_thresh": ohem.NMS_THRESH,
            "neg_pos_ratio": ohem.NEG_POS_RATIO or None,
            "score": ohem.SCORE,
            "nms_boxes": ohem.NMS_BOXES,
            "scope": ohem.SCOPE,
        }

    @torch.no_grad()
    def select_examples(self, labels: Tensor, predictions: DensePredictions) -> Tensor:
        scores = self._scores(labels, predictions)
        boxes = self._boxes(predictions)
        num_classes = predictions.logits.shape[-1]
        if self.scope == "image":
            masks = [
                ops.select_hard_examples(scores[i], labels[i], boxes[i], num_classes=num_classes, **self.mining)
                for i in range(len(labels))
            ]
            selected = torch.stack(masks)
        else:
            image = torch.arange(len(labels), device=labels.device).unsqueeze(1).expand_as(labels)
            selected = ops.select_hard_examples(
                scores.flatten(), labels.flatten(), boxes.flatten(0, 1), num_classes=num_classes,
                groups=image.flatten(), **self.mining,
            ).view_as(labels)  # fmt: skip
        return labels.masked_fill(~selected, -1)

    def count_examples(self, labels: Tensor, num_classes: int) -> Tensor:
        return (labels >= 0).sum()

    def _scores(self, labels: Tensor, predictions: DensePredictions) -> Tensor:
        """(N, R) loss of each anchor, summed over its K outputs."""
        scores = ops.anchor_losses(predictions.logits, labels, value=self.value, alpha=self.alpha)
        if self.score == "total":
            pos_mask = (labels >= 0) & (labels < predictions.logits.shape[-1])
            scores[pos_mask] += predictions.box_losses(predictions, pos_mask).to(scores.dtype)
        return scores

    def _boxes(self, predictions: DensePredictions) -> Tensor:
        """(N, R, 4) boxes that NMS compares."""
        if self.nms_boxes == "decoded":
            return torch.stack([predictions.decode(deltas, predictions.anchors) for deltas in predictions.deltas])
        return predictions.anchors.expand(len(predictions.logits), -1, -1)


def build_classification_loss(cfg: CfgNode) -> ClassificationLoss:
    """The loss that ``MODEL.RETINANET.CLS_LOSS_NAME`` names."""
    name = cfg.MODEL.RETINANET.CLS_LOSS_NAME
    if name not in CLASSIFICATION_LOSS_REGISTRY:
        known = sorted(key for key, _ in CLASSIFICATION_LOSS_REGISTRY)
        raise ValueError(f"MODEL.RETINANET.CLS_LOSS_NAME must be one of {known}, got {name!r}")
    loss = CLASSIFICATION_LOSS_REGISTRY.get(name)(cfg)
    if not isinstance(loss, ClassificationLoss):
        raise TypeError(f"classification loss {name} must be a retina_plugin.ClassificationLoss, got {type(loss)}")
    return loss
