"""The divisor of both losses (paper Sec. 4.1) and how it survives a restart."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from detectron2.config import CfgNode, configurable
from detectron2.utils import comm
from torch import Tensor, nn

from ..errors import require, require_one_of, require_retina_config

__all__ = ["LossNormalizer", "TrainingState"]

NAMES = ("ema", "batch")
# Ends the name of a normalizer in a checkpoint: the averages of all processes, where each counts alone.
OF_PROCESSES = "/of_processes"


class LossNormalizer(nn.Module):
    """Turns the number of examples of a batch into the divisor of its losses.

    "batch" divides by the count itself, as the paper does; "ema" by its moving average, as Detectron2 does, since a
    count is noisy at one image a worker. Both are at least 1.
    """

    @configurable
    def __init__(self, *, name: str, momentum: float, initial: float, sync: bool):
        """
        Args:
            name: "ema" or "batch".
            momentum: share of the old value that a step keeps, in [0, 1). "ema" only.
            initial: value before the first step, > 0. "ema" only.
            sync: average the count over all workers (where torch.distributed is initialised).
        """
        super().__init__()
        require_one_of(name, "MODEL.RETINANET.NORMALIZER.NAME", NAMES)
        require(0 <= momentum < 1, "MODEL.RETINANET.NORMALIZER.MOMENTUM", "in [0, 1)", momentum)
        require(0 < initial < float("inf"), "MODEL.RETINANET.NORMALIZER.INITIAL", "in (0, inf)", initial)
        self.name = name
        self.momentum = momentum
        self.sync = sync
        # Not persistent: the model's state dict has to keep the keys of Detectron2's RetinaNet. TrainingState saves it.
        self.register_buffer("average", torch.tensor(float(initial)), persistent=False)
        self._counts: list[Tensor] | None = None  # of as_sums

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
        """0-dim divisor, fp32, for a 0-dim count. In training mode "ema" takes a step; in eval mode it does not."""
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
    """Training state outside the model's state dict; Detectron2's checkpointer saves and loads it.

    ``DetectionCheckpointer(model, ..., training_state=TrainingState(model))`` saves and restores it.
    """

    def __init__(self, model: nn.Module):
        """
        Args:
            model: any model, also wrapped in DistributedDataParallel; its LossNormalizers are what is kept.
        """
        model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        self._normalizers = {name: m for name, m in model.named_modules() if isinstance(m, LossNormalizer)}

        self._of_processes: dict[str, Tensor] = {}

    def gather(self) -> None:
        """Gather the averages of all processes for the next ``state_dict``. Call it in each before one saves."""
        averages = {name: normalizer.average.item() for name, normalizer in self._normalizers.items()}
        gathered = comm.all_gather(averages)
        self._of_processes = {name: torch.tensor([one[name] for one in gathered]) for name in averages}

    def forget(self) -> None:
        """Drop the gathered averages, which are out of date."""
        self._of_processes = {}

    def state_dict(self) -> dict[str, Tensor]:
        """By name the average of this process, and those of all where they were gathered, (num_processes,)."""
        state = {name: normalizer.average.clone() for name, normalizer in self._normalizers.items()}
        return state | {name + OF_PROCESSES: averages for name, averages in self._of_processes.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Each process takes its own average; of another number of processes, the mean of theirs."""
        for name, normalizer in self._normalizers.items():
            averages = state.get(name + OF_PROCESSES)
            if averages is not None:
                same = len(averages) == comm.get_world_size()
                normalizer.average.copy_(averages[comm.get_rank()] if same else averages.mean())
            elif name in state:
                normalizer.average.copy_(state[name])
