"""The spread of a classification loss over the examples: the cumulative curves of paper Figure 4 (Sec. 5.1).

An example is one binary term of the loss, given by its x_t (see ``terms.py``). A loss that falls with x_t ranks the
examples as -x_t does, for every gamma. So one histogram of x_t with the sum of each loss per bin holds every
curve, exactly at the edges of the bins, in memory that does not grow with the number of examples.
"""

from collections.abc import Hashable, Iterable, Mapping

import torch
from torch import Tensor

from .dense_loss import CHUNK_ELEMENTS, Elementwise
from .terms import FocalTerm

__all__ = ["LossCDF", "focal_loss_cdf", "negative_terms", "positive_terms"]

# Within a bin FL changes by a factor of at most exp((gamma + 1) / 64), 5 % for gamma = 2; a curve is drawn straight
# there. Beyond 40 a float32 sigmoid is 0 or 1. 5120 bins of 64-bit numbers are 41 kB a loss.
BINS_PER_LOGIT = 64
MAX_LOGIT = 40


class LossCDF:
    """Cumulative share of one or several losses over examples that come in pieces.

    Memory: the bins and the temporaries of one chunk, for any number of examples.
    """

    def __init__(self, losses: Mapping[Hashable, Elementwise]):
        """
        Args:
            losses: functions of x_t by any key, elementwise, >= 0 and nowhere rising.
        """
        self._losses = dict(losses)
        num_bins = 2 * MAX_LOGIT * BINS_PER_LOGIT + 2  # the first and the last hold what lies beyond +-MAX_LOGIT
        self._counts = torch.zeros(num_bins, dtype=torch.int64)
        self._sums = {key: torch.zeros(num_bins, dtype=torch.float64) for key in self._losses}

    @property
    def num_examples(self) -> int:
        return int(self._counts.sum())

    def total(self, key: Hashable) -> float:
        """Sum a loss over all examples; 0 for none."""
        return float(self._sums[key].sum())

    def update(self, x_t: Tensor) -> None:
        """Add examples.

        Args:
            x_t: logits of any shape, float type and device, finite; may be empty.

        Raises:
            ValueError: an example is not finite; nothing is added then.
        """
        x_t = x_t.detach().flatten()
        if not torch.isfinite(x_t).all():
            raise ValueError("x_t must be finite: the model's logits hold NaN or infinity")
        if x_t.device.type == "mps":  # has no float64
            x_t = x_t.cpu()
        num_bins = len(self._counts)
        for chunk in x_t.split(CHUNK_ELEMENTS):
            chunk = chunk.double()
            bins = ((chunk + MAX_LOGIT) * BINS_PER_LOGIT).floor().clamp(-1, num_bins - 2).long() + 1
            self._counts += torch.bincount(bins, minlength=num_bins).cpu()
            for key, loss in self._losses.items():
                self._sums[key] += torch.bincount(bins, weights=loss(chunk), minlength=num_bins).cpu()

    def curve(self, key: Hashable) -> tuple[Tensor, Tensor]:
        """Compute the CDF of a loss, easiest examples first, as in Figure 4.

        Returns:
            fraction of the examples and share of the loss that they hold: (B + 1,) float64 each for B filled bins,
            from (0, 0) to (1, 1). Without examples only (0, 0). If every loss is 0, the diagonal: all are equal.
        """
        filled = self._counts.nonzero().squeeze(1).flip(0)  # from high x_t to low: the loss rises
        counts, sums = self._counts[filled].double(), self._sums[key][filled]
        if sums.sum() == 0:
            sums = counts
        return _running_share(counts), _running_share(sums)

    def share_of_hardest(self, key: Hashable, fraction: float) -> float | None:
        """Compute the share of the loss in the ``fraction`` of the examples with the highest loss, in [0, 1].

        Between the edges of a bin the share is interpolated linearly: a part of one example counts as that part.

        Args:
            fraction: in [0, 1].

        Returns:
            at least ``fraction``, or None without examples.

        Raises:
            ValueError: fraction outside [0, 1].
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be in [0, 1], got {fraction}")
        examples, loss = self.curve(key)
        if len(examples) == 1:
            return None
        start = torch.tensor(1 - fraction, dtype=torch.float64)
        i = int(torch.searchsorted(examples, start).clamp(1, len(examples) - 1))
        inside = (start - examples[i - 1]) / (examples[i] - examples[i - 1])
        return 1 - float(loss[i - 1] + inside * (loss[i] - loss[i - 1]))


def focal_loss_cdf(gammas: Iterable[float]) -> LossCDF:
    """Build a :class:`LossCDF` of the focal loss with one curve for each gamma >= 0, which is its key.

    Alpha cancels: it is one factor for all positives and another for all negatives, and a curve is divided by its
    group's sum.
    """
    return LossCDF({gamma: FocalTerm(gamma=gamma) for gamma in gammas})


def positive_terms(logits: Tensor, labels: Tensor) -> Tensor:
    """Collect x_t of the positive terms: the logit of each positive anchor's class.

    Args:
        logits: (R, K). labels: (R,) in [0, K), K for background, negative for ignored.

    Returns:
        (P,) for P positive anchors; P may be 0.
    """
    anchor = _positive_anchors(logits, labels)
    return logits[anchor, labels[anchor].long()]


def negative_terms(logits: Tensor, labels: Tensor, *, hardest_class_only: bool = False) -> Tensor:
    """Collect x_t of the negative terms: minus the logit of every (anchor, class) neither positive nor ignored.

    As in the loss, the other classes of a positive anchor count.

    Args:
        logits, labels: see :func:`positive_terms`.
        hardest_class_only: take background anchors alone, each with its highest logit.

    Returns:
        (num_valid * K - P,), or (num_background,) with ``hardest_class_only``.
    """
    num_classes = logits.shape[1]
    if hardest_class_only:
        return -logits[labels == num_classes].amax(dim=1)
    mask = (labels >= 0).unsqueeze(1).expand_as(logits).clone()
    anchor = _positive_anchors(logits, labels)
    mask[anchor, labels[anchor].long()] = False
    return -logits[mask]


def _positive_anchors(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.nonzero((labels >= 0) & (labels < logits.shape[1])).squeeze(1)


def _running_share(values: Tensor) -> Tensor:
    """Divide the running sum of n values by their sum: (n + 1,) from 0 to exactly 1."""
    running = torch.cat([values.new_zeros(1), values.cumsum(0)])
    return running / running[-1] if len(values) else running
