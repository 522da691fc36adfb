"""Classification losses by name (``MODEL.RETINANET.CLS_LOSS_NAME``): each is a term of x_t, summed over all anchors."""

import math

from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from .. import ops
from ..errors import require, require_one_of, require_retina_config
from .mining import HardExampleMiner

__all__ = [
    "CLASSIFICATION_LOSS_REGISTRY", "ClassificationLoss", "CrossEntropyLoss", "FocalLoss", "FocalLossStar", "OHEMLoss",
    "build_classification_loss",
]  # fmt: skip

CLASSIFICATION_LOSS_REGISTRY = Registry("CLASSIFICATION_LOSS")
CLASSIFICATION_LOSS_REGISTRY.__doc__ = """
Classification losses of dense detectors, chosen by ``MODEL.RETINANET.CLS_LOSS_NAME``.

A registered class is a :class:`ClassificationLoss` and is called as ``cls(cfg)``.
"""


class ClassificationLoss(nn.Module):
    """A loss of the signed logit x_t, summed over all (anchor, class) pairs that are not ignored.

    A subclass defines :meth:`value`, and autograd gives the gradient; or it sets ``term``, whose gradient has a closed
    form.
    """

    term: ops.FocalTerm | None = None
    miner: HardExampleMiner | None = None  # chooses the anchors that both losses see; None: all

    @configurable
    def __init__(self, *, alpha: float | None):
        """
        Args:
            alpha: weight of the foreground in [0, 1], background getting ``1 - alpha``; None for no balancing.
        """
        super().__init__()
        require(
            alpha is None or 0 <= alpha <= 1,
            "MODEL.RETINANET.FOCAL_LOSS_ALPHA",
            "in [0, 1], or negative (in code: None) for no balancing",
            alpha,
        )
        self.alpha = alpha

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        alpha = cfg.MODEL.RETINANET.FOCAL_LOSS_ALPHA
        return {"alpha": None if alpha < 0 else alpha}

    def value(self, x_t: Tensor) -> Tensor:
        """Compute the loss elementwise.

        Args:
            x_t: the logit of the labelled class, minus the logit of every other class.
        """
        if self.term is None:
            raise NotImplementedError(f"{type(self).__name__} must define value(x_t)")
        return self.term(x_t)

    def forward(self, logits: Tensor, labels: Tensor, divisor: Tensor | None = None) -> Tensor:
        """Sum the loss and divide it: see :func:`retina_plugin.ops.dense_classification_loss`.

        Args:
            logits: (..., K). labels: (...) in [0, K), K for background, negative for ignored. divisor: 0-dim or None.

        Returns:
            0-dim tensor.
        """
        # A subclass that overrides `value` must not get the closed-form gradient of its parent's term.
        has_own_value = type(self).value is not ClassificationLoss.value
        term = self.value if has_own_value or self.term is None else self.term
        return ops.dense_classification_loss(logits, labels, term, alpha=self.alpha, divisor=divisor)


@CLASSIFICATION_LOSS_REGISTRY.register()
class CrossEntropyLoss(ClassificationLoss):
    """Binary cross entropy, plain (alpha None) or alpha-balanced (paper Sec. 3.1, Table 1a)."""

    term = ops.FocalTerm()


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
        require(0 <= gamma < math.inf, "MODEL.RETINANET.FOCAL_LOSS_GAMMA", "in [0, inf)", gamma)
        self.gamma = gamma

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {**super().from_config(cfg), "gamma": cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA}

    @property
    def term(self) -> ops.FocalTerm:
        return ops.FocalTerm(gamma=self.gamma)


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
        require(0 < gamma < math.inf, "MODEL.RETINANET.FOCAL_STAR.GAMMA", "in (0, inf)", gamma)
        require(math.isfinite(beta), "MODEL.RETINANET.FOCAL_STAR.BETA", "in (-inf, inf)", beta)
        self.gamma = gamma
        self.beta = beta

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        star = cfg.MODEL.RETINANET.FOCAL_STAR
        return {**super().from_config(cfg), "gamma": star.GAMMA, "beta": star.BETA}

    @property
    def term(self) -> ops.FocalTerm:
        return ops.FocalTerm(scale=self.gamma, shift=self.beta)


@CLASSIFICATION_LOSS_REGISTRY.register()
class OHEMLoss(CrossEntropyLoss):
    """Cross entropy over the minibatch of hardest examples, with or without 1:3 (paper Sec. 5.1, Table 1d)."""

    @configurable
    def __init__(self, *, miner: HardExampleMiner, alpha: float | None):
        """
        Args:
            miner: chooses the examples.
            alpha: see :class:`ClassificationLoss`.
        """
        super().__init__(alpha=alpha)
        self.miner = miner

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {**super().from_config(cfg), "miner": HardExampleMiner(cfg)}


def build_classification_loss(cfg: CfgNode) -> ClassificationLoss:
    """Build the loss that ``MODEL.RETINANET.CLS_LOSS_NAME`` names.

    Raises:
        SetupError: unknown name, or a value outside its range.
        TypeError: the registered class is not a ClassificationLoss.
    """
    require_retina_config(cfg)
    name = cfg.MODEL.RETINANET.CLS_LOSS_NAME
    known = sorted(key for key, _ in CLASSIFICATION_LOSS_REGISTRY)
    require_one_of(name, "MODEL.RETINANET.CLS_LOSS_NAME", known)
    loss = CLASSIFICATION_LOSS_REGISTRY.get(name)(cfg)
    if not isinstance(loss, ClassificationLoss):
        raise TypeError(f"classification loss {name} must be a retina_plugin.ClassificationLoss, got {type(loss)}")
    return loss
