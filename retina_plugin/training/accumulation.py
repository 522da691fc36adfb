"""One iteration in several passes: the gradients of a batch that does not fit into memory at once."""

import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor, nn

from .hooks.validation import ExampleCounter
from .machine_faults import is_out_of_memory

__all__ = ["AccumulatingTrainer", "needs_accumulation"]


def needs_accumulation(cfg: CfgNode) -> bool:
    """Whether a step's gradients are to be added up before processes exchange them."""
    fault = cfg.SOLVER.FAULTS.OUT_OF_MEMORY
    # Of several processes none may wait in an exchange for one that leaves the step out.
    return cfg.SOLVER.ACCUMULATION_STEPS > 1 or fault == "split" or (fault == "skip" and comm.get_world_size() > 1)


class AccumulatingTrainer(AMPTrainer):
    """Detectron2's ``AMPTrainer``, or ``SimpleTrainer`` without AMP, whose step takes its batch in parts.

    Iterations, schedule, data and checkpoints stay those of IMS_PER_BATCH. The gradients are those of the whole batch
    up to rounding: each part gives its losses as sums, which the divisor of the whole batch divides before the step.
    That does not hold for what mixes images: batch norms see one part, an image is padded to the largest of its part,
    and OHEM with SCOPE "batch" is refused.

    Several processes compute their gradients alone, agree that all could, and exchange them then, in place of
    DistributedDataParallel, which exchanges within the backward pass: there a process whose memory ran out would leave
    the others waiting.
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
        agree: Callable[[BaseException | None], None] | None = None,
    ):
        """
        Args:
            model: a FocalRetinaNet, also in DistributedDataParallel.
            num_parts: of a process's batch, >= 1 (SOLVER.ACCUMULATION_STEPS).
            amp: mixed precision (SOLVER.AMP.ENABLED).
            before_split: a batch for which memory runs out is taken in twice as many parts, down to single images;
                called before, with the error and their number. None lets the error out.
            agree: called by each of several processes with the error that its gradients ended in, or None; raises in
                all of them where one has an error.
            data_loader, optimizer: as for ``SimpleTrainer``.
        """
        scaler = torch.amp.GradScaler("cuda", enabled=amp)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler)
        self._num_parts = num_parts
        self._amp = amp
        self._before_split = before_split
        self._agree = agree

    def load_state_dict(self, state_dict: dict) -> None:
        """That of a run without parts too, which has no scaler: --resume may come with the key that asks for them."""
        super().load_state_dict({"grad_scaler": self.grad_scaler.state_dict(), **state_dict})

    def run_step(self) -> None:
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        losses = self._divide(*self._accumulate_together(batch))
        self._exchange()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _accumulate_together(self, batch: list[dict]) -> tuple[dict[str, Tensor], ExampleCounter]:
        if self._agree is None:
            return self._accumulate_what_fits(batch)
        found, fault = None, None
        try:
            found = self._accumulate_what_fits(batch)
        except (RuntimeError, MemoryError, FloatingPointError) as error:
            if not (isinstance(error, FloatingPointError) or is_out_of_memory(error)):
                raise
            traceback.clear_frames(error.__traceback__)  # which hold the activations
            fault = error.with_traceback(None)
        self._agree(fault)
        return found

    def _accumulate_what_fits(self, batch: list[dict]) -> tuple[dict[str, Tensor], ExampleCounter]:
        size = -(-len(batch) // self._num_parts)
        while True:
            try:
                return self._accumulate([batch[i : i + size] for i in range(0, len(batch), size)])
            except (RuntimeError, MemoryError) as error:
                if self._before_split is None or size == 1 or not is_out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)
                lack = error.with_traceback(None)
            size = -(-size // 2)
            self._before_split(lack, -(-len(batch) // size))

    def _accumulate(self, parts: list[list[dict]]) -> tuple[dict[str, Tensor], ExampleCounter]:
        """Leave this process's gradients in the parameters; the losses, and what both are still to be divided by."""
        model = getattr(self.model, "module", self.model)  # under DistributedDataParallel
        normalizer = model.loss_normalizer
        counter = model.loss_normalizer = ExampleCounter()
        totals: dict[str, Tensor] = {}
        # Around the forward pass too: that is where DistributedDataParallel decides.
        no_sync = self.model.no_sync() if hasattr(self.model, "no_sync") else nullcontext()
        try:
            with no_sync:
                for i, part in enumerate(parts):
                    losses = self._forward(part, first=i == 0)
                    if i == 0:
                        # About the whole batch's, so that sums of half precision stay in range; see _divide.
                        counter.divisor = max(counter.counts[0].item() * len(parts), 1.0)
                        losses = {name: loss / counter.divisor for name, loss in losses.items()}
                    self.grad_scaler.scale(sum(losses.values())).backward()
                    for name, loss in losses.items():
                        totals[name] = totals.get(name, 0) + loss.detach()
        finally:
            model.loss_normalizer = normalizer
        return totals, counter

    def _forward(self, part: list[dict], *, first: bool) -> dict[str, Tensor]:
        # Pictures and counts of the first part alone: the storage takes one value an iteration.
        storage = nullcontext() if first else EventStorage(get_event_storage().iter)
        with storage, torch.autocast("cuda", enabled=self._amp):
            return self.model(part)

    def _divide(self, losses: dict[str, Tensor], counter: ExampleCounter) -> dict[str, Tensor]:
        """Gradients and losses by the divisor of the whole batch, of which each process has its own."""
        normalizer = getattr(self.model, "module", self.model).loss_normalizer
        scale = counter.divisor / normalizer(torch.stack(counter.counts).sum())
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad *= scale
        return {name: loss * scale for name, loss in losses.items()}

    def _exchange(self) -> None:
        """Average the gradients over the processes, as DistributedDataParallel does."""
        processes = comm.get_world_size()
        if processes == 1:
            return
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        for gradient in gradients:
            gradient /= processes
        for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
            work.wait()
