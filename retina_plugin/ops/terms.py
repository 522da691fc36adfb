"""The losses of the paper as one function of the signed logit x_t (Sec. 3, appendix A and B).

x_t is the logit of the labelled class, and minus the logit of every other class; p_t = sigmoid(x_t).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["FocalTerm"]

# exp(88) is below the largest float32, and 1 / (1 + exp(88)) is 0 beside 1.
MAX_EXPONENT = 88.0


@dataclass(frozen=True)
class FocalTerm:
    """-(1 - p)^gamma log(p) / scale with p = sigmoid(scale * x_t + shift).

    ``FocalTerm()`` is cross entropy (eq. 1), ``FocalTerm(gamma=2.0)`` the focal loss (eq. 4) and
    ``FocalTerm(scale=2.0, shift=1.0)`` FL*, whose gamma and beta are the scale and the shift (eq. 7-8).
    """

    gamma: float = 0.0  # >= 0
    scale: float = 1.0  # > 0
    shift: float = 0.0

    def __call__(self, x_t: Tensor) -> Tensor:
        """Compute the loss elementwise, differentiable by autograd.

        In log space, because (1 - p)^gamma has no finite gradient at p = 1 for gamma < 1, the values of Table 1b.
        """
        s = self.scale * x_t + self.shift
        modulator = torch.exp(self.gamma * F.logsigmoid(-s)) if self.gamma != 0 else 1.0  # exp(0 * -inf) is NaN
        return modulator * -F.logsigmoid(s) / self.scale

    def with_slope(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss at x_t = -logits and its derivative by the logits, in new tensors, without autograd.

        One exponential and one logarithm serve both (eq. 10-11): training calls this for 10^7 logits at a time, nearly
        all of them background, where x_t is minus the logit.

        Returns:
            The loss, finite but at +inf, and the derivative, finite at every logit; both NaN at NaN.
        """
        z = logits if (self.scale, self.shift) == (1, 0) else self.scale * logits - self.shift
        beyond = None
        if z.numel() and not z.max() <= MAX_EXPONENT:  # checked first, as clamping costs a pass; NaN stays NaN
            beyond = (z - MAX_EXPONENT).clamp_(min=0)  # from there on the loss is linear
            z = z.clamp(max=MAX_EXPONENT)
        odds = z.exp()  # (1 - p) / p
        one_plus_odds = odds + 1
        p = one_plus_odds.reciprocal()
        miss = odds * p  # 1 - p without cancellation
        # -log p = log1p(odds), as the log of the rounded sum plus the rounding error: 0.7 of torch.log1p's time.
        rounded_off = odds.sub_(one_plus_odds - 1)
        ce = one_plus_odds.log_().addcmul_(rounded_off, p)
        if self.gamma == 0:
            value, slope = ce, miss
        else:
            slope = torch.addcmul(miss, p, ce, value=self.gamma, out=rounded_off)
            modulator = miss if self.gamma == 1 else miss.pow_(self.gamma)
            value, slope = ce.mul_(modulator), slope.mul_(modulator)
        value = value if beyond is None else value.add_(beyond)
        return value if self.scale == 1 else value.div_(self.scale), slope
