"""``loss``: classification loss, forward and backward, beside fvcore's and torchvision's."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from retina_plugin.modeling import FocalLoss

from .limits import copy_bandwidth
from .measurement import Measurement, Settings, compare

__all__ = ["HELP", "measure"]

HELP = "classification loss, forward and backward, time and peak memory"

ALPHA, GAMMA = 0.25, 2.0  # paper Sec. 5.1
# Of a 512 x 512 image's 9 x (64^2 + 32^2 + 16^2 + 8^2 + 4^2) = 49,104 anchors, times a batch of 2; and COCO's classes.
ANCHORS, CLASSES = 98_208, 80
POSITIVE_SHARE, IGNORED_SHARE = 0.001, 0.001  # 1,000 negatives to a positive (paper Sec. 3)
SWEEPS = {"anchors": (12_276, 24_552, 49_104, 98_208, 196_416, 392_832), "classes": (80, 365, 1203)}


def measure(settings: Settings) -> Iterator[Measurement]:
    """The paper's size and gamma; CE and gamma 0.5; then more anchors and more classes (COCO, Objects365, LVIS).

    Quick: an eighth of the anchors, and no sweeps.
    """
    anchors = ANCHORS // 8 if settings.quick else ANCHORS
    for gamma in (GAMMA, 0.0, 0.5):
        yield _measure(settings, anchors, CLASSES, gamma=gamma, sweep="")
    if settings.quick:
        return
    for anchors in SWEEPS["anchors"]:
        yield _measure(settings, anchors, CLASSES, gamma=GAMMA, sweep="anchors")
    for classes in SWEEPS["classes"]:
        yield _measure(settings, ANCHORS // 8, classes, gamma=GAMMA, sweep="classes")


def _measure(settings: Settings, anchors: int, classes: int, *, gamma: float, sweep: str) -> Measurement:
    logits, labels = _inputs(anchors, classes, settings.device)
    ours = FocalLoss(gamma=gamma, alpha=ALPHA)
    losses = {
        "retina_plugin": lambda: ours(logits, labels),
        "fvcore jit (Detectron2)": lambda: _detectron2(logits, labels, sigmoid_focal_loss_jit, gamma),
        "torchvision": lambda: _detectron2(logits, labels, sigmoid_focal_loss, gamma),
    }
    gradients = {name: torch.autograd.grad(loss(), logits)[0] for name, loss in losses.items()}
    our_gradient = gradients["retina_plugin"]
    work = {name: (lambda loss=loss: torch.autograd.grad(loss(), logits)) for name, loss in losses.items()}
    nbytes = logits.nbytes
    return compare(
        "loss", "classification loss, forward + backward", work, ours="retina_plugin", settings=settings, memory=True,
        parameters={"anchors": anchors, "classes": classes, "gamma": gamma, "sweep": sweep},
        equality={f"gradient, {name}": (our_gradient - x).abs().max().item() for name, x in gradients.items()},
        # The logits are read and the gradient is written, once each.
        limits={"read logits, write gradient": 2 * nbytes / copy_bandwidth(settings.device)},
        figures={"bytes of the logits": nbytes},
    )  # fmt: skip


def _inputs(anchors: int, classes: int, device: str) -> tuple[Tensor, Tensor]:
    """Logits (anchors, classes) that want a gradient, and labels (anchors,)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(anchors, classes, generator=generator) - 4
    labels = torch.full((anchors,), classes)
    chance = torch.rand(anchors, generator=generator)
    positive = chance < POSITIVE_SHARE
    labels[positive] = torch.randint(classes, (int(positive.sum()),), generator=generator)
    labels[chance > 1 - IGNORED_SHARE] = -1
    return logits.to(device).requires_grad_(), labels.to(device)


def _detectron2(logits: Tensor, labels: Tensor, loss, gamma: float) -> Tensor:
    """The call of Detectron2's RetinaNet: one-hot targets, the ignored anchors left out."""
    valid = labels >= 0
    targets = F.one_hot(labels[valid], num_classes=logits.shape[1] + 1)[:, :-1]
    return loss(logits[valid], targets.to(logits.dtype), alpha=ALPHA, gamma=gamma, reduction="sum")
