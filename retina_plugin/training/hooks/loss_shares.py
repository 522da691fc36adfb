"""Writes to TensorBoard which examples carry the classification loss (paper Sec. 3 and 5.1)."""

import torch
from detectron2.engine import HookBase
from detectron2.structures import Boxes
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ... import ops
from ...modeling import ClassificationLoss

__all__ = ["HARDEST_NEGATIVES", "HARDEST_POSITIVES", "LossShareHook", "loss_shares"]

# The paper's "hardest 20 % of the positive samples" (Sec. 5.1, Figure 4); 1 % of the negatives is ours.
HARDEST_POSITIVES, HARDEST_NEGATIVES = 0.2, 0.01


@torch.no_grad()
def loss_shares(cls_loss: ClassificationLoss, logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute the shares of the classification loss of a batch by kind of example, in [0, 1].

    Args:
        cls_loss: a loss whose value does not increase with x_t, like every loss of the paper.
        logits: (N, R, K). labels: (N, R) in [0, K), K for background, negative for ignored.

    Returns:
        ``positives`` and ``negatives`` are shares of the whole loss, alpha included, and add up to 1.
        ``hardest_20pct_positives`` and ``hardest_1pct_negatives`` are shares of their own group's loss. A share of an
        empty group is left out. If a logit is not finite, the result is empty, and the trainer reports the fault.
    """
    positives, negatives = ops.LossCDF({"loss": cls_loss.value}), ops.LossCDF({"loss": cls_loss.value})
    if not torch.isfinite(logits).all():
        return {}
    for logits_i, labels_i in zip(logits, labels, strict=True):  # image by image: the terms of one are a copy
        positives.update(ops.positive_terms(logits_i, labels_i))
        negatives.update(ops.negative_terms(logits_i, labels_i))
    shares = {
        "hardest_20pct_positives": positives.share_of_hardest("loss", HARDEST_POSITIVES),
        "hardest_1pct_negatives": negatives.share_of_hardest("loss", HARDEST_NEGATIVES),
    }
    pos_weight, neg_weight = ops.term_weights(cls_loss.alpha)
    pos_sum, neg_sum = pos_weight * positives.total("loss"), neg_weight * negatives.total("loss")
    if pos_sum + neg_sum > 0:
        shares["positives"] = pos_sum / (pos_sum + neg_sum)
        shares["negatives"] = neg_sum / (pos_sum + neg_sum)
    return {name: share for name, share in shares.items() if share is not None}


class LossShareHook(HookBase):
    """Every ``period`` iterations puts ``cls_share/...`` and ``positives/<level>`` into Detectron2's event storage.

    ``cls_share/...`` are shares of the batch's loss; ``positives/<level>`` is the number of positive anchors per image
    on that level. The hook listens to the model's ``anchor_generator`` and ``cls_loss``, so nothing is computed twice.
    With OHEM only the selected anchors count. With several processes, only the first one's images are measured.
    """

    def __init__(self, period: int):
        """
        Args:
            period: in iterations, >= 1 (ANALYSIS.LOSS_CDF_PERIOD).
        """
        if period < 1:
            raise ValueError(f"period (ANALYSIS.LOSS_CDF_PERIOD) must be >= 1, got {period}")
        self._period = period
        self._listeners = []
        self._level_sizes: list[int] = []  # anchors of each level

    def before_step(self) -> None:
        # The last of each period, as the writers' iterations are: what was put is then what they write.
        if (self.trainer.iter + 1) % self._period == 0 and comm.is_main_process():
            model = getattr(self.trainer.model, "module", self.trainer.model)  # under DistributedDataParallel
            self._levels = model.head_in_features
            self._listeners = [
                model.anchor_generator.register_forward_hook(self._listen_to_anchors),
                model.cls_loss.register_forward_hook(self._listen),
            ]

    def after_step(self) -> None:
        self._stop()

    def after_train(self) -> None:
        self._stop()  # also where a step has failed

    def _listen_to_anchors(self, generator, inputs: tuple, anchors: list[Boxes]) -> None:
        self._level_sizes = [len(level) for level in anchors]

    def _listen(self, cls_loss: ClassificationLoss, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        self._stop()  # once a step
        logits, labels = inputs
        pos_mask = (labels >= 0) & (labels < logits.shape[-1])
        for level, mask in zip(self._levels, pos_mask.split(self._level_sizes, dim=1), strict=True):
            num_pos = mask.sum().item() / len(labels)
            get_event_storage().put_scalar(f"positives/{level}", num_pos, smoothing_hint=False)
        for name, share in loss_shares(cls_loss, *inputs).items():
            # Without "loss" in the name: the record of a run and the console take such a scalar for a loss.
            get_event_storage().put_scalar(f"cls_share/{name}", share, smoothing_hint=False)

    def _stop(self) -> None:
        while self._listeners:
            self._listeners.pop().remove()
