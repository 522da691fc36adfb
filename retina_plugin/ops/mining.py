"""Online hard example mining over the anchors of an image (paper Sec. 5.1, Table 1d).

The paper says: score each example by its loss, apply non-maximum suppression, make a minibatch of the highest-loss
examples; the 1:3 variant builds the minibatch with one positive to three negatives. docs/deviations.md lists the
choices that the paper leaves open.
"""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

__all__ = ["select_hard_examples"]

# NMS first sees this many examples of the ranking for each one wanted. Dense anchors overlap about this many times (9
# an anchor point, and its neighbours), so that one pass mostly suffices; otherwise the number is doubled.
PREFIX_PER_EXAMPLE = 32


def select_hard_examples(
    losses: Tensor, labels: Tensor, boxes: Tensor, *, num_classes: int, batch_size: int, nms_thresh: float,
    neg_pos_ratio: float | None = None, groups: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Pick the minibatch of hardest, non-overlapping examples.

    NMS with the loss as score runs within each label, background being one, as in the OHEM authors' code, and within
    each group.

    Args:
        losses: (R,) the score of each example.
        labels: (R,) integers: [0, K) positive, K background, negative ignored (never selected).
        boxes: (R, 4) XYXY boxes that NMS compares.
        num_classes: K.
        batch_size: examples to pick, >= 1. Fewer are picked where fewer survive.
        nms_thresh: an example is dropped if its IoU with a harder one of its label and group is above this.
        neg_pos_ratio: negatives per positive, > 0. Positives then take at most ``batch_size / (1 + ratio)`` places,
            hardest first, and negatives ``ratio`` times as many (without positives, as many as for one).
            None picks the hardest of both kinds together.
        groups: (R,) integers, the image of each example; examples of different groups never suppress each other.
            None: one group.

    Returns:
        (R,) bool mask of the picked examples. All False where there is no example.
    """
    is_pos = (labels >= 0) & (labels < num_classes)
    keys = labels if groups is None else labels + groups * (num_classes + 1)

    def hardest(mask: Tensor, count: int) -> Tensor:
        return _hardest_after_nms(losses, boxes, keys, mask, count, nms_thresh)

    if neg_pos_ratio is None:
        picked = hardest(labels >= 0, batch_size)
    else:
        pos = hardest(is_pos, max(int(batch_size / (1 + neg_pos_ratio)), 1))
        num_neg = min(round(neg_pos_ratio * max(len(pos), 1)), batch_size - len(pos))
        picked = torch.cat([pos, hardest(labels == num_classes, num_neg)])
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[picked] = True
    return mask


def _hardest_after_nms(
    losses: Tensor, boxes: Tensor, keys: Tensor, mask: Tensor, count: int, nms_thresh: float
) -> Tensor:
    """Find the ``count`` hardest examples of ``mask`` that survive NMS, as indices.

    Greedy NMS drops an example because of harder ones alone, so easier examples never change the survivors among the
    hardest m: a growing prefix gives the exact answer without suppressing 100,000 boxes.
    """
    candidates = torch.nonzero(mask).squeeze(1)
    order = candidates[losses[candidates].argsort(descending=True, stable=True)]
    prefix = max(count, 1) * PREFIX_PER_EXAMPLE
    while True:
        head = order[:prefix]
        # Sorted back into the ranking: beyond 1,000 boxes torchvision returns equal scores in any order.
        kept = head[batched_nms(boxes[head].float(), losses[head].float(), keys[head], nms_thresh).sort().values]
        if len(kept) >= count or len(head) == len(order):
            return kept[:count]
        prefix *= 2
