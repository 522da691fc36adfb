"""One iteration in several passes: the gradients of a batch that does not fit into memory at once."""

import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext

import torch
from detectron2.engine import AMPTrainer
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor, nn

from .machine_faults import is_out_of_memory
from .validation import ExampleCounter

__all__ = ["AccumulatingTrainer"]


class AccumulatingTrainer(AMPTrainer):
    """Detectron2's ``AMPTrainer``, or ``SimpleTrainer`` without AMP, whose step takes its batch in parts.

    Iterations, schedule, data and checkpoints stay those of IMS_PER_BATCH. The gradients are those of the whole batch
    up to rounding: each part gives its losses as sums, which the divisor of the whole batch divides before the step.
    That does not hold for what mixes images: batch norms see one part, an image is padded to the largest of its part,
    and OHEM with SCOPE "batch" is refused.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader,
        optimizer: torch.optim.Optimizer,
        *,
        num_parts: int,
        amp: bool,
        before_split: Callable[[BaseException, int], None] | None = None,
    ):
        """
        Args:
            model: a FocalRetinaNet, also in DistributedDataParallel.
            num_parts: of a process's batch, >= 1 (SOLVER.ACCUMULATION_STEPS).
            amp: mixed precision (SOLVER.AMP.ENABLED).
            before_split: a batch for which memory runs out is taken in twice as many parts, down to single images;
                called before, with the error and their number. None lets the error out.
            data_loader, optimizer: as for ``SimpleTrainer``.
        """
        scaler = torch.amp.GradScaler("cuda", enabled=amp)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler)
        self._num_parts = num_parts
        self._amp = amp
        self._before_split = before_split

    def load_state_dict(self, state_dict: dict) -> None:
        """That of a run without parts too, which has no scaler: --resume may come with the key that asks for them."""
        super().load_state_dict({"grad_scaler": self.grad_scaler.state_dict(), **state_dict})

    def run_step(self) -> None:
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        losses = self._accumulate_what_fits(batch)
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _accumulate_what_fits(self, batch: list[dict]) -> dict[str, Tensor]:
        size = -(-len(batch) // self._num_parts)
        while True:
            try:
                return self._accumulate([batch[i : i + size] for i in range(0, len(batch), size)])
            except (RuntimeError, MemoryError) as error:
                if self._before_split is None or size == 1 or not is_out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)  # which hold the activations
                lack = error.with_traceback(None)
            size = -(-size // 2)
            self._before_split(lack, -(-len(batch) // size))

    def _accumulate(self, parts: list[list[dict]]) -> dict[str, Tensor]:
        """Leave the gradients of a batch in the parameters; its losses."""
        model = getattr(self.model, "module", self.model)  # under DistributedDataParallel
        normalizer = model.loss_normalizer
        counter = model.loss_normalizer = ExampleCounter()
        try:
            totals: dict[str, Tensor] = {}
            for i, part in enumerate(parts):
                last = i == len(parts) - 1
                # Around the forward pass too: that is where DistributedDataParallel decides.
                with nullcontext() if last else self._no_sync():
                    losses = self._forward(part, first=i == 0)
                    if i == 0:
                        # About the whole batch's, so that sums of half precision stay in range; divided out below.
                        counter.divisor = max(counter.counts[0].item() * len(parts), 1.0)
                        losses = {name: loss / counter.divisor for name, loss in losses.items()}
                    if last:
                        scale = counter.divisor / normalizer(torch.stack(counter.counts).sum())
                        self._scale(totals, scale)
                        losses = {name: loss * scale for name, loss in losses.items()}
                    self.grad_scaler.scale(sum(losses.values())).backward()
                for name, loss in losses.items():
                    totals[name] = totals.get(name, 0) + loss.detach()
        finally:
            model.loss_normalizer = normalizer
        return totals

    def _forward(self, part: list[dict], *, first: bool) -> dict[str, Tensor]:
        # Pictures and counts of the first part alone: the storage takes one value an iteration.
        storage = nullcontext() if first else EventStorage(get_event_storage().iter)
        with storage, torch.autocast("cuda", enabled=self._amp):
            return self.model(part)

    def _scale(self, totals: dict[str, Tensor], scale: Tensor) -> None:
        """Before the last pass, with which DistributedDataParallel averages: each process has its own divisor."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad *= scale
        for name in totals:
            totals[name] = totals[name] * scale

    def _no_sync(self):
        return self.model.no_sync() if hasattr(self.model, "no_sync") else nullcontext()
