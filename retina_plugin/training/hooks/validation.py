"""Losses on the test sets during training."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.detection_utils import build_augmentation
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ...data.mapper import RetinaDatasetMapper

__all__ = ["PREFIX", "ValidationLossHook", "build_validation_loader"]

# Prefix of the scalars in the event storage.
PREFIX = "validation/"


@contextmanager
def _losses_of_evaluation(model: nn.Module) -> Iterator[list[Tensor]]:
    """Make ``model`` return its losses as sums, without updates of batch norms or divisor and without pictures.

    Yields the list of the counts by which the sums are to be divided.
    """
    training = {module: module.training for module in model.modules()}
    period = model.vis_period
    try:
        model.eval()
        model.training = True  # only this module, not its parts: it then returns losses instead of detections
        model.vis_period = 0
        with EventStorage(), model.loss_normalizer.as_sums() as counts:  # what the model puts belongs to no iteration
            yield counts
    finally:
        model.vis_period = period
        for module, mode in training.items():
            module.training = mode


@torch.no_grad()
def validation_losses(model: nn.Module, loader) -> dict[str, float]:
    """Compute the losses over a whole data set: each summed over its images and divided by all its positive anchors.

    The divisor is the paper's (Sec. 4.1) with the set as one batch, whatever the model trains with: the value depends
    neither on the size of the batches nor on the training before.

    Args:
        model: a FocalRetinaNet; it is left as it was.
        loader: this process's batches, with ground truth.

    Returns:
        ``loss_cls``, ``loss_box_reg`` and ``total_loss``, the same in every process; {} for a set without images.
    """
    sums: dict[str, float] = {}
    with _losses_of_evaluation(model) as counts:
        for batch in loader:
            for name, loss in model(batch).items():
                sums[name] = sums.get(name, 0.0) + loss.item()
    num_examples = sum(count.item() for count in counts)
    parts = comm.all_gather((sums, num_examples))
    num_examples = max(sum(number for _, number in parts), 1)
    names = {name for part, _ in parts for name in part}
    losses = {name: sum(part.get(name, 0.0) for part, _ in parts) / num_examples for name in sorted(names)}
    return {**losses, "total_loss": sum(losses.values())} if losses else {}


def build_validation_loader(cfg: CfgNode, dataset_name: str):
    """Build a loader of test images with their boxes, resized as for evaluation; images without boxes are included."""
    mapper = RetinaDatasetMapper(cfg, is_train=True, augmentations=build_augmentation(cfg, is_train=False))
    records = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    return build_detection_test_loader(dataset=records, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)


class ValidationLossHook(HookBase):
    """Put the losses on data sets into the storage, every ``period`` iterations and after the last one.

    A hook of any ``DefaultTrainer``. One set has ``validation/loss_cls``, of several each has
    ``validation/<set>/loss_cls``.
    """

    def __init__(self, period: int, loaders: Mapping[str, Callable[[], Iterable]], model: nn.Module | None = None):
        """
        Args:
            period: in iterations, >= 1 (TEST.LOSS_PERIOD).
            loaders: name of a set -> builds its loader (``build_validation_loader``).
            model: a FocalRetinaNet to evaluate; None takes the trainer's.
        """
        if period < 1:
            raise ValueError(f"period (TEST.LOSS_PERIOD) must be >= 1, got {period}")
        self._period = period
        self._loaders = loaders
        self._model = model

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period and done != self.trainer.max_iter:
            return
        model = self._model or getattr(self.trainer.model, "module", self.trainer.model)
        for name, build_loader in self._loaders.items():
            prefix = PREFIX if len(self._loaders) == 1 else f"{PREFIX}{name}/"
            scalars = {prefix + loss: value for loss, value in validation_losses(model, build_loader()).items()}
            self.trainer.storage.put_scalars(smoothing_hint=False, **scalars)
        comm.synchronize()  # as after Detectron2's evaluation: the next iteration begins together
