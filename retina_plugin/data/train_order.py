"""The order of the training images, and their augmentation, as a function of the seed and the iteration alone.

Detectron2's loader starts its shuffle, its grouping by aspect ratio and its augmentation afresh on ``--resume``, so
that an interrupted run sees other images than one that was not. Here a resumed run goes on with the batch that came
next.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import Dataset, Sampler

__all__ = ["ORDERED_SAMPLERS", "POSITION_KEY", "PositionedRecords", "TrainOrder", "build_train_order"]

# Of a record: its place in the stream of training images, from which the mapper seeds its augmentation.
POSITION_KEY = "train_position"
# Values of DATALOADER.SAMPLER_TRAIN whose stream can be taken up at any iteration.
ORDERED_SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler")


class TrainOrder(Sampler):
    """Indices of the training images of one process, batch after batch, from any iteration on.

    It yields ``position * num_images + index``, which ``PositionedRecords`` takes apart.
    """

    def __init__(self, indices: Sampler, groups: Sequence[int] | None, *, num_images: int, batch_size: int):
        """
        Args:
            indices: an infinite, reproducible stream of indices in [0, num_images).
            groups: (num_images,) group of each image; a batch is of one group. None: one group.
            num_images: >= 1.
            batch_size: images of this process in an iteration, >= 1.
        """
        self.start_iteration = 0
        self._indices, self._groups = indices, groups
        self._num_images, self._batch_size = num_images, batch_size

    def __iter__(self) -> Iterator[int]:
        for batch in islice(self._batches(), self.start_iteration, None):
            yield from batch

    def _batches(self) -> Iterator[list[int]]:
        """Batches in the order in which they fill up, as in Detectron2's ``AspectRatioGroupedDataset``."""
        waiting: dict[int, list[int]] = {}
        for position, index in enumerate(self._indices):
            batch = waiting.setdefault(self._groups[index] if self._groups else 0, [])
            batch.append(position * self._num_images + index)
            if len(batch) == self._batch_size:
                yield batch.copy()
                batch.clear()


class PositionedRecords(Dataset):
    """Records by ``position * num_images + index``, with the position under ``POSITION_KEY``."""

    def __init__(self, records: list[dict]):
        self._records = DatasetFromList(records, copy=False)  # serialised: workers share it

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, code: int) -> dict:
        position, index = divmod(code, len(self._records))
        return {**self._records[index], POSITION_KEY: position}


def build_train_order(cfg: CfgNode) -> tuple[PositionedRecords, TrainOrder]:
    """The training images of ``cfg`` and their order, for a ``DATALOADER.SAMPLER_TRAIN`` of ORDERED_SAMPLERS."""
    records = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, proposal_files=None
    )
    # Detectron2's two groups. Without grouping a record need not say its size.
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    groups = [int(record["width"] <= record["height"]) for record in records] if grouped else None
    order = TrainOrder(
        _build_sampler(cfg, records),
        groups,
        num_images=len(records),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
    )
    return PositionedRecords(records), order


def _build_sampler(cfg: CfgNode, records: list[dict]) -> Sampler:
    """Detectron2's sampler: every image once a round, or images with rare classes more often."""
    seed = cfg.SEED if cfg.SEED >= 0 else None
    if cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler":
        if cfg.DATALOADER.REPEAT_THRESHOLD > 0:
            logging.getLogger(__name__).warning(
                "DATALOADER.REPEAT_THRESHOLD %g has no effect without DATALOADER.SAMPLER_TRAIN "
                "RepeatFactorTrainingSampler", cfg.DATALOADER.REPEAT_THRESHOLD,
            )  # fmt: skip
        return TrainingSampler(len(records), seed=seed)
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        records, cfg.DATALOADER.REPEAT_THRESHOLD, **_sqrt(cfg)
    )
    return RepeatFactorTrainingSampler(factors, seed=seed)


def _sqrt(cfg: CfgNode) -> dict[str, bool]:
    """Detectron2 v0.6 has no key for it, and always takes the root."""
    return {"sqrt": cfg.DATALOADER.REPEAT_SQRT} if "REPEAT_SQRT" in cfg.DATALOADER else {}
