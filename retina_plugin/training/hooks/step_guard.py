"""Steps that must not change the weights: a loss that is not finite, memory that ran out, images that never came."""

import logging
import traceback
from types import TracebackType

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ...errors import RunFault, first_line
from ...modeling import LossNormalizer
from ..machine_faults import describe_loss_of_worker, is_out_of_memory
from ..processes import largest_of_all

__all__ = ["MAX_IN_A_ROW", "StepGuard"]

logger = logging.getLogger(__name__)

# Files of a batch named in a message.
MAX_NAMED = 8
# Steps skipped in a row that end the run: so many batches are not to blame, the weights or the machine are.
MAX_IN_A_ROW = 10


class StepGuard(HookBase):
    """A hook that sees each loss before the optimizer does, and the context in which a step runs.

    ``with guard: step()`` ends the run with a message, or, where SOLVER.FAULTS says "skip", leaves the step out: the
    weights and every average are as before it, and the schedule goes on. A loss that is not finite in one of several
    processes is one for all of them.
    """

    def __init__(self, cfg: CfgNode):
        self._cfg = cfg
        self.num_skipped = 0
        self._in_a_row = 0
        self._losses: dict[str, Tensor] = {}
        self._handles = []
        self._in_step = False  # the hooks are called by losses on the test sets too

    def before_train(self) -> None:
        model = self.trainer.model
        self._handles = [
            model.register_forward_hook(self._end),
            self.trainer.optimizer.register_step_pre_hook(self._begin_to_change_weights),
        ]
        # What a forward pass changes.
        self._buffers = [
            buffer
            for part in model.modules()
            if isinstance(part, (LossNormalizer, _NormBase))
            for buffer in part.buffers(recurse=False)
        ]

    def after_train(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def before_step(self) -> None:
        self._losses = {}
        self._is_stepping = False
        self._copies = [buffer.clone() for buffer in self._buffers]

    def _begin_to_change_weights(self, *_) -> None:
        self._is_stepping = True

    def _end(self, model: nn.Module, inputs: tuple, output: object) -> None:
        if not self._in_step or not isinstance(output, dict):
            return
        for name, loss in output.items():  # of several parts of a batch, the sum
            self._losses[name] = self._losses.get(name, 0) + loss.detach()
        is_bad = int((~torch.isfinite(torch.stack(list(self._losses.values())))).any())
        if largest_of_all(is_bad):
            raise FloatingPointError("loss is not finite")

    def after_step(self) -> None:
        if self.num_skipped:
            self.trainer.storage.put_scalar("skipped_steps", self.num_skipped, smoothing_hint=False)

    def __enter__(self) -> "StepGuard":
        self._in_step = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._in_step = False
        if error is None:
            self._in_a_row = 0
            return False
        if isinstance(error, FloatingPointError):
            return self._end_not_finite()
        if is_out_of_memory(error):
            traceback.clear_frames(trace)  # which hold the activations
            return self._end_out_of_memory(error)
        if said := describe_loss_of_worker(error):
            raise RunFault(self.describe_lost_worker(said)) from None
        return False

    def _restore(self) -> None:
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            buffer.copy_(copy)

    # --- A loss that is not finite ---

    def _end_not_finite(self) -> bool:
        self._restore()
        text = self._describe_divergence()
        if self._cfg.SOLVER.FAULTS.NONFINITE_LOSS == "skip":
            return self._skip(text, FloatingPointError)
        raise FloatingPointError(f"{text} {self._last_checkpoint()}") from None

    def _describe_divergence(self) -> str:
        """One line on what is not finite, where, and what helps."""
        batch, where = self.trainer.data_loader.batch, f"iteration {self.trainer.iter}"
        if comm.get_world_size() > 1:
            return self._describe_processes(where, batch)
        bad_losses = self._bad_losses_per_image(batch)
        parts = {name for names in bad_losses for name in names}
        guilty = [image for image, names in zip(batch, bad_losses, strict=True) if names]
        where = f"{where}: {', '.join(sorted(parts)) or 'the loss'} is not finite"
        if inputs := _describe_inputs(batch):
            return f"{where}: {inputs}. Mend the data."
        if len(guilty) == len(batch):
            return (
                f"{where} for every image of the batch ({_named(batch)}): the weights have diverged. "
                f"Lower SOLVER.BASE_LR (now {self._cfg.SOLVER.BASE_LR}), lengthen SOLVER.WARMUP_ITERS, "
                "or check the normalisation layers."
            )
        if not guilty:
            return f"{where} for the batch ({_named(batch)}), but for none of its images alone."
        return f"{where} for {_named(guilty)}. Check these images and their boxes."

    def _describe_processes(self, where: str, batch: list[dict]) -> str:
        """Of several processes each knows its losses; another forward pass might wait for the others."""
        mine = self._bad_losses()
        said = comm.all_gather((sorted(mine), _named(batch), _describe_inputs(batch)))
        found = [
            f"process {process} ({', '.join(names)}): {inputs or files}"
            for process, (names, files, inputs) in enumerate(said)
            if names
        ]
        return f"{where}: the loss is not finite in {'; '.join(found) or 'no process alone'}."

    def _bad_losses(self) -> set[str]:
        return {name for name, loss in self._losses.items() if not torch.isfinite(loss)}

    @torch.no_grad()
    def _bad_losses_per_image(self, batch: list[dict]) -> list[list[str]]:
        """For each image alone, the names of its losses that are not finite; no average takes a step."""
        model = self.trainer.model
        with torch.autocast("cuda", enabled=self._cfg.SOLVER.AMP.ENABLED):
            found = [[name for name, loss in model([image]).items() if not torch.isfinite(loss)] for image in batch]
        self._restore()
        return found

    # --- The others ---

    def _describe_lack(self, error: BaseException) -> str:
        batch = self.trainer.data_loader.batch
        sizes = ", ".join(f"{tuple(one['image'].shape[-2:])} {len(one.get('instances', ()))}" for one in batch)
        return f"memory ran out ({first_line(error)}) with {_named(batch)}; height, width and boxes: {sizes}."

    def _end_out_of_memory(self, error: BaseException) -> bool:
        self._restore()
        self._losses = {}
        self.trainer.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        text = f"iteration {self.trainer.iter}: {self._describe_lack(error)}"
        if self._is_stepping:
            raise RunFault(
                f"{text} It was while the weights were changed, so that some may be and some not. "
                f"{self._last_checkpoint()} Go on from it with --resume."
            ) from None
        # Of several processes the others wait for this one's gradients.
        if self._cfg.SOLVER.FAULTS.OUT_OF_MEMORY != "stop" and comm.get_world_size() == 1:
            return self._skip(text, RunFault)
        remedy = "Set a smaller INPUT.MAX_SIZE_TRAIN"
        if comm.get_world_size() == 1:
            remedy += ", or SOLVER.FAULTS.OUT_OF_MEMORY skip to leave out such a batch"
        if len(self.trainer.data_loader.batch) > 1:
            remedy += ", or SOLVER.ACCUMULATION_STEPS 2 to take all batches in parts"
        raise RunFault(f"{text} {remedy}. {self._last_checkpoint()}") from None

    def describe_lost_worker(self, said: str) -> str:
        """The sentence on a data loader's worker that was ended; ``said`` by ``describe_loss_of_worker``."""
        return (
            f"iteration {self.trainer.iter}: {said.rstrip('.')}. A process that reads images was ended, "
            "as the system does when memory runs out; fewer DATALOADER.NUM_WORKERS (now "
            f"{self._cfg.DATALOADER.NUM_WORKERS}) need less. {self._last_checkpoint()} Go on with --resume."
        )

    def _skip(self, text: str, error: type[Exception]) -> bool:
        self.trainer.optimizer.zero_grad(set_to_none=True)
        self.num_skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= MAX_IN_A_ROW:
            raise error(
                f"{text} It is the {self._in_a_row}th skipped in a row: not one batch is to blame. "
                f"{self._last_checkpoint()}"
            ) from None
        logger.warning("skipped %s (%d so far)", text, self.num_skipped)
        return True

    def _last_checkpoint(self) -> str:
        checkpointer = self.trainer.checkpointer
        last = checkpointer.get_checkpoint_file() if checkpointer.has_checkpoint() else ""
        return f"The last checkpoint is {last}." if last else "No checkpoint was written yet."


def _named(batch: list[dict]) -> str:
    names = [image.get("file_name", "an image without a name") for image in batch]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _describe_inputs(batch: list[dict]) -> str:
    """The images or boxes that hold NaN or infinity; "" for none."""
    found = []
    for image in batch:
        tensors = {"image": image["image"]}
        if "instances" in image:
            tensors["boxes"] = image["instances"].gt_boxes.tensor
        if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
            found.append(f"the {' and '.join(bad)} of {_named([image])}")
    return f"NaN or infinity in {', '.join(found)}" if found else ""
