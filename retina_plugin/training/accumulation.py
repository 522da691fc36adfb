"""Gradient accumulation: one iteration in several passes, for a batch that does not fit into memory."""

import time
from contextlib import nullcontext

import torch
from detectron2.engine import AMPTrainer
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor, nn

__all__ = ["AccumulatingTrainer"]


class AccumulatingTrainer(AMPTrainer):
    """Detectron2's ``AMPTrainer``, or ``SimpleTrainer`` without AMP, whose step takes its batch in parts.

    Iterations, schedule, data and checkpoints are those of IMS_PER_BATCH. The gradients equal those of the whole batch
    up to rounding, except where images of a batch interact: batch norms see one part, an image is padded to the largest
    of its part, and OHEM with SCOPE "batch" is refused. Several processes exchange gradients once, with the last part.
    """

    def __init__(
        self, model: nn.Module, data_loader, optimizer: torch.optim.Optimizer, *, num_parts: int, amp: bool
    ):  # fmt: skip
        """
        Args:
            model: a FocalRetinaNet, possibly inside DistributedDataParallel.
            num_parts: number of parts of a process's batch, >= 1 (SOLVER.ACCUMULATION_STEPS).
            amp: mixed precision (SOLVER.AMP.ENABLED).
            data_loader, optimizer: as for ``SimpleTrainer``.
        """
        super().__init__(model, data_loader, optimizer, grad_scaler=torch.amp.GradScaler("cuda", enabled=amp))
        self._num_parts = num_parts
        self._amp = amp

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state; that of a run without accumulation has no scaler, and --resume may add the key."""
        super().load_state_dict({"grad_scaler": self.grad_scaler.state_dict(), **state_dict})

    def run_step(self) -> None:
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        size = -(-len(batch) // self._num_parts)
        losses = self._accumulate([batch[i : i + size] for i in range(0, len(batch), size)])
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _accumulate(self, parts: list[list[dict]]) -> dict[str, Tensor]:
        """Leave the gradients of the batch in the parameters and return its losses.

        The divisor of the batch is known after the forward pass of the last part. Until then losses and gradients are
        sums over a guess of it from the first part, which keeps half precision in range.
        """
        normalizer = getattr(self.model, "module", self.model).loss_normalizer  # under DistributedDataParallel
        totals: dict[str, Tensor] = {}
        counts: list[Tensor] = []
        for i, part in enumerate(parts):
            is_last = i == len(parts) - 1
            # no_sync includes the forward pass, where DDP decides whether backward exchanges gradients.
            with self.model.no_sync() if hasattr(self.model, "no_sync") and not is_last else nullcontext():
                # Record pictures and counts of the first part only: the storage takes one value for each iteration.
                storage = nullcontext() if i == 0 else EventStorage(get_event_storage().iter)
                with storage, torch.autocast("cuda", enabled=self._amp), normalizer.as_sums() as counts_of_part:
                    sums = self.model(part)
                counts += counts_of_part
                if i == 0:
                    divisor = (counts[0] * len(parts)).clamp(min=1)
                if is_last:
                    guess, divisor = divisor, normalizer(torch.stack(counts).sum())
                    correction = guess / divisor
                    for parameter in self.model.parameters():
                        if parameter.grad is not None:
                            parameter.grad *= correction
                    totals = {name: loss * correction for name, loss in totals.items()}
                losses = {name: loss / divisor for name, loss in sums.items()}
                self.grad_scaler.scale(sum(losses.values())).backward()
            totals = {name: totals.get(name, 0) + loss.detach() for name, loss in losses.items()}
        return totals
