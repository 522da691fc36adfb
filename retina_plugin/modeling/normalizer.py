"""The divisor of both losses (paper Sec. 4.1) and how it survives a restart."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from ..errors import require, require_retina_config

__all__ = ["LossNormalizer", "TrainingState"]

NAMES = ("ema", "batch")


class LossNormalizer(nn.Module):
    """Turns the number of examples of a batch into the divisor of its losses.

    "batch" divides by the count itself, as the paper does; "ema" by its moving average, as Detectron2 does, since a
    count is noisy at one image a process. Both are at least 1.
    """

    @configurable
    def __init__(self, *, name: str, momentum: float, initial: float, sync: bool):
        """
        Args:
            name: "ema" or "batch".
            momentum: share of the old value that a step keeps, in [0, 1). "ema" only.
            initial: value before the first step, > 0. "ema" only.
            sync: average the count over all processes (where torch.distributed is initialised).
        """
        super().__init__()
        require(name in NAMES, "MODEL.RETINANET.NORMALIZER.NAME", f"one of {NAMES}", name)
        require(0 <= momentum < 1, "MODEL.RETINANET.NORMALIZER.MOMENTUM", "in [0, 1)", momentum)
        require(0 < initial < float("inf"), "MODEL.RETINANET.NORMALIZER.INITIAL", "finite and > 0", initial)
        self.name = name
        self.momentum = momentum
        self.sync = sync
        # Not persistent: the model's state dict has to keep the keys of Detectron2's RetinaNet. TrainingState saves it.
        self.register_buffer("average", torch.tensor(float(initial)), persistent=False)
        self._counts: list[Tensor] | None = None  # in as_sums, the counts so far

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        require_retina_config(cfg)
        normalizer = cfg.MODEL.RETINANET.NORMALIZER
        return {
            "name": normalizer.NAME,
            "momentum": normalizer.MOMENTUM,
            "initial": normalizer.INITIAL,
            "sync": normalizer.SYNC,
        }

    @contextmanager
    def as_sums(self) -> Iterator[list[Tensor]]:
        """Divide by 1 in the block; yield the list of counts, 0-dim each, of its batches. The average takes no step."""
        self._counts = []
        try:
            yield self._counts
        finally:
            self._counts = None

    @torch.no_grad()
    def forward(self, count: Tensor) -> Tensor:
        """Turn a 0-dim count into the 0-dim divisor, fp32. The average takes a step in training mode alone."""
        count = count.to(self.average.dtype)
        if self._counts is not None:
            self._counts.append(count)
            return torch.ones_like(count)
        if self.sync and dist.is_available() and dist.is_initialized():
            count = count.clone()
            dist.all_reduce(count)
            count /= dist.get_world_size()
        count = count.clamp(min=1)
        if self.name == "batch":
            return count
        average = self.momentum * self.average + (1 - self.momentum) * count
        if self.training:
            self.average.copy_(average)
        return average


class TrainingState:
    """The averages of a model's LossNormalizers, which its state dict does not hold, for Detectron2's checkpointer.

    ``DetectionCheckpointer(model, ..., training_state=TrainingState(model))`` saves and restores them. The main process
    saves its own and every process goes on with it: with ``sync`` those of all processes are equal.
    """

    def __init__(self, model: nn.Module):
        """
        Args:
            model: any model, also wrapped in DistributedDataParallel.
        """
        model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        self._normalizers = {name: m for name, m in model.named_modules() if isinstance(m, LossNormalizer)}

    def state_dict(self) -> dict[str, Tensor]:
        """Copy the averages, 0-dim each, by the names of their modules."""
        return {name: normalizer.average.clone() for name, normalizer in self._normalizers.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the averages that ``state`` has; a normalizer without one keeps its own."""
        for name, normalizer in self._normalizers.items():
            if name in state:
                normalizer.average.copy_(state[name])
