"""Stop or skip a failed step before it changes the weights: a loss that is not finite, no memory, a lost worker."""

import logging
import math
import traceback

import numpy as np
import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ...errors import RunFault, first_line, name_some
from ...modeling import LossNormalizer

__all__ = ["StepGuard", "describe_loss_of_worker"]

logger = logging.getLogger(__name__)

# Files of a batch named in a message.
MAX_NAMED = 8
# Steps skipped in a row that end the run: so many batches cannot all be at fault; the weights or the machine are.
MAX_IN_A_ROW = 10
# PyTorch's words when memory runs out on the CPU, for which it has no type of its own, and in libraries of a GPU.
_NO_MEMORY = (
    "can't allocate memory", "not enough memory",
    "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the error means that the GPU or the machine ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def describe_loss_of_worker(error: BaseException) -> str:
    """Say that a worker of the data loader died, if that is what ``error`` means; "" for another error.

    PyTorch reports this itself, except when the worker dies while sending a tensor.
    """
    if isinstance(error, RunFault):
        return ""
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return first_line(error)
    modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}
    lost = isinstance(error, (ConnectionError, FileNotFoundError, EOFError))  # not the limit of open files
    if lost and "torch.multiprocessing.reductions" in modules:
        return f"a DataLoader worker ended while it handed over an image ({error!r})"
    return ""


class StepGuard(HookBase):
    """Ends a training with one sentence, or skips the step, when a step fails; no weight changes then.

    A hook of any ``DefaultTrainer``, which it puts itself around while it trains: around ``run_step``, and in place of
    the inner trainer's ``_write_metrics``. That is between the backward pass and the optimizer's step, where Detectron2
    reads the losses: the guard takes its place with one transfer for all losses, and adds no other wait for the device.
    After a skipped step weights and every average are as before it, and the schedule goes on. All processes skip a step
    whose loss is not finite in one of them; a process that runs out of memory ends the run, since the others wait for
    its gradients.
    """

    def __init__(self, *, nonfinite_loss: str, out_of_memory: str):
        """
        Args:
            nonfinite_loss: "stop" raises FloatingPointError with the losses and images, "skip" leaves out the step
                (SOLVER.FAULTS.NONFINITE_LOSS).
            out_of_memory: "stop" raises RunFault with the images and their sizes; "skip" does so with several
                processes only (SOLVER.FAULTS.OUT_OF_MEMORY).
        """
        for name, choice in (("nonfinite_loss", nonfinite_loss), ("out_of_memory", out_of_memory)):
            if choice not in ("stop", "skip"):
                raise ValueError(f"{name} must be 'stop' or 'skip', got {choice!r}")
        self._skips_nonfinite = nonfinite_loss == "skip"
        self._skips_out_of_memory = out_of_memory == "skip"
        self.num_skipped = 0
        self._in_a_row = 0
        self._in_step = self._is_stepping = False
        self._batch: list[dict] = []
        self._losses: dict[str, Tensor] = {}

    def before_train(self) -> None:
        trainer = self.trainer
        self._inner = getattr(trainer, "_trainer", trainer)
        self._inner._write_metrics = self._write_metrics
        self._inner.async_write_metrics = False  # a thread would read the losses after the optimizer's step
        self._step, trainer.run_step = trainer.run_step, self._run_step

        def note_batch(model: nn.Module, inputs: tuple) -> None:
            if self._in_step:  # hooks call the model too, for losses on the test sets
                self._batch += inputs[0]

        def note_step(*_) -> None:
            self._is_stepping = True

        self._handles = [
            trainer.model.register_forward_pre_hook(note_batch),
            trainer.optimizer.register_step_pre_hook(note_step),
        ]
        # Buffers that a forward pass changes.
        self._buffers = [
            buffer
            for part in trainer.model.modules()
            if isinstance(part, (LossNormalizer, _NormBase))
            for buffer in part.buffers(recurse=False)
        ]

    def after_train(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._inner.__dict__.pop("_write_metrics", None)
        self.trainer.__dict__.pop("run_step", None)
        self._inner = self._step = None

    def after_step(self) -> None:
        if self.num_skipped:
            self.trainer.storage.put_scalar("skipped_steps", self.num_skipped, smoothing_hint=False)

    def _run_step(self) -> None:
        self._batch, self._losses, self._is_stepping = [], {}, False
        self._copies = [buffer.clone() for buffer in self._buffers]
        self._in_step = True
        try:
            self._step()
        except Exception as error:
            self._in_step = False
            if isinstance(error, FloatingPointError):
                self._end_not_finite()
            elif is_out_of_memory(error):
                traceback.clear_frames(error.__traceback__)  # which hold the activations
                self._end_out_of_memory(error)
            elif said := describe_loss_of_worker(error):
                raise RunFault(self.describe_lost_worker(said)) from None
            else:
                raise
        else:
            self._in_step = False
            self._in_a_row = 0

    def _write_metrics(self, losses: dict[str, Tensor], data_time: float, prefix: str = "", **_) -> None:
        """Put the same scalars as Detectron2's, which raises for a bad loss in the main process alone.

        One tensor goes to the host and, with several processes, through one collective.
        """
        self._losses = losses
        row = torch.stack([*(loss.detach().float() for loss in losses.values())])
        row = torch.cat([row, row.new_full((1,), data_time)])
        rows = [row]
        if comm.get_world_size() > 1:
            rows = [torch.empty_like(row) for _ in range(comm.get_world_size())]
            dist.all_gather(rows, row)
        *columns, data_times = zip(*torch.stack(rows).tolist(), strict=True)
        means = {name: float(np.mean(column)) for name, column in zip(losses, columns, strict=True)}
        total = sum(means.values())
        if not math.isfinite(total):
            raise FloatingPointError("loss is not finite")
        storage = self.trainer.storage
        storage.put_scalar("rank_data_time", data_time)
        if comm.is_main_process():
            storage.put_scalar("data_time", max(data_times))
            storage.put_scalar(f"{prefix}total_loss", total)
            if len(means) > 1:
                storage.put_scalars(**means)

    def _restore(self) -> None:
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            buffer.copy_(copy)

    # --- A loss that is not finite ---

    def _end_not_finite(self) -> None:
        self._restore()
        text = self._describe_divergence()
        if self._skips_nonfinite:
            self._skip(text, FloatingPointError)
        else:
            raise FloatingPointError(f"{text} {self._last_checkpoint()}") from None

    def _describe_divergence(self) -> str:
        """Describe in one line the loss that is not finite, its images and a remedy."""
        where, batch = f"iteration {self.trainer.iter}", self._batch
        if comm.get_world_size() > 1:
            # Each process knows its own losses; another forward pass might wait for the others.
            mine = sorted(name for name, loss in self._losses.items() if not torch.isfinite(loss))
            found = [
                f"process {process} ({', '.join(names)}): {inputs or files}"
                for process, (names, files, inputs) in enumerate(
                    comm.all_gather((mine, _named(batch), _describe_inputs(batch)))
                )
                if names
            ]
            return f"{where}: the loss is not finite in {'; '.join(found) or 'no process alone'}."
        bad_losses = self._bad_losses_per_image(batch)
        parts = {name for names in bad_losses for name in names}
        guilty = [image for image, names in zip(batch, bad_losses, strict=True) if names]
        where = f"{where}: {', '.join(sorted(parts)) or 'the loss'} is not finite"
        if inputs := _describe_inputs(batch):
            return f"{where}: {inputs}. Fix the data."
        if len(guilty) == len(batch):
            return (
                f"{where} for every image of the batch ({_named(batch)}): the weights have diverged. "
                f"Lower SOLVER.BASE_LR (now {self.trainer.cfg.SOLVER.BASE_LR}), lengthen SOLVER.WARMUP_ITERS, "
                "or check the normalisation layers."
            )
        if not guilty:
            return f"{where} for the batch ({_named(batch)}), but for none of its images alone."
        return f"{where} for {_named(guilty)}. Check these images and their boxes."

    @torch.no_grad()
    def _bad_losses_per_image(self, batch: list[dict]) -> list[list[str]]:
        """Return, for each image alone, the names of its losses that are not finite; buffers are restored."""
        model = self.trainer.model
        with torch.autocast("cuda", enabled=self.trainer.cfg.SOLVER.AMP.ENABLED):
            found = [[name for name, loss in model([image]).items() if not torch.isfinite(loss)] for image in batch]
        self._restore()
        return found

    # --- The others ---

    def _end_out_of_memory(self, error: BaseException) -> None:
        self._restore()
        self.trainer.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        sizes = ", ".join(f"{tuple(one['image'].shape[-2:])} {len(one.get('instances', ()))}" for one in self._batch)
        text = (
            f"iteration {self.trainer.iter}: memory ran out ({first_line(error)}) with {_named(self._batch)}; height, "
            f"width and boxes: {sizes}."
        )
        if self._is_stepping:
            raise RunFault(
                f"{text} It happened during the update of the weights, so some may be updated and others not. "
                f"{self._last_checkpoint()} Go on from it with --resume."
            ) from None
        is_alone = comm.get_world_size() == 1
        if self._skips_out_of_memory and is_alone:
            self._skip(text, RunFault)
            return
        remedy = "Set a smaller INPUT.MAX_SIZE_TRAIN"
        if is_alone:
            remedy += ", or SOLVER.FAULTS.OUT_OF_MEMORY skip to leave out such a batch"
        if len(self._batch) > 1:
            remedy += ", or SOLVER.ACCUMULATION_STEPS 2 to take all batches in parts"
        raise RunFault(f"{text} {remedy}. {self._last_checkpoint()}") from None

    def describe_lost_worker(self, said: str) -> str:
        """Return the sentence on a worker of the data loader that died; ``said`` by ``describe_loss_of_worker``."""
        return (
            f"iteration {self.trainer.iter}: {said.rstrip('.')}. A process that reads images was ended, "
            "as the system does when memory runs out; fewer DATALOADER.NUM_WORKERS (now "
            f"{self.trainer.cfg.DATALOADER.NUM_WORKERS}) need less. {self._last_checkpoint()} Go on with --resume."
        )

    def _skip(self, text: str, error: type[Exception]) -> None:
        self.trainer.optimizer.zero_grad(set_to_none=True)
        self.num_skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= MAX_IN_A_ROW:
            raise error(
                f"{text} It is the {self._in_a_row}th skipped in a row, so that the batch is not the cause. "
                f"{self._last_checkpoint()}"
            ) from None
        logger.warning("skipped %s (%d so far)", text, self.num_skipped)

    def _last_checkpoint(self) -> str:
        checkpointer = self.trainer.checkpointer
        last = checkpointer.get_checkpoint_file() if checkpointer.has_checkpoint() else ""
        return f"The last checkpoint is {last}." if last else "No checkpoint was written yet."


def _named(batch: list[dict]) -> str:
    names = [image.get("file_name", "an image without a name") for image in batch]
    return name_some(names, MAX_NAMED)


def _describe_inputs(batch: list[dict]) -> str:
    """Name the images and boxes that contain NaN or infinity; "" for none."""
    found = []
    for image in batch:
        tensors = {"image": image["image"]}
        if "instances" in image:
            tensors["boxes"] = image["instances"].gt_boxes.tensor
        if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
            found.append(f"the {' and '.join(bad)} of {_named([image])}")
    return f"NaN or infinity in {', '.join(found)}" if found else ""
