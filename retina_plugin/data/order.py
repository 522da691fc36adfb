"""The order of the training images, and their augmentation, as a function of the seed and the iteration alone.

Detectron2's loader restarts its shuffle, its grouping by aspect ratio and its augmentation on ``--resume``, so
that an interrupted run sees other images than one that was not. Here a resumed run goes on with the batch that came
next.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import islice, pairwise

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.build import trivial_batch_collator, worker_init_reset_seed
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["ORDERED_SAMPLERS", "POSITION_KEY", "TrainOrder", "build_ordered_loader"]

# Key of a record: its position in the stream of training images, from which the mapper seeds its augmentation.
POSITION_KEY = "train_position"
# Values of DATALOADER.SAMPLER_TRAIN whose stream can be taken up at any iteration.
ORDERED_SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler")


@dataclass(frozen=True)
class Phase:
    """A stretch of a training within which its batches are shared out in one way."""

    start_iteration: int
    batch_size: int  # images of one process in an iteration
    num_processes: int


class TrainOrder(Sampler):
    """Indices of the training images of one process, batch after batch, from any iteration on.

    It yields ``position * num_images + index``, which ``PositionedRecords`` takes apart. The positions are those of one
    stream for all processes, whose batches are dealt out in turn. What was dealt out before is counted by phases, so
    that a run that goes on with other processes or batches leaves no image out and takes none twice.
    """

    def __init__(
        self, indices: Iterable[int], groups: Sequence[int] | None, *, num_images: int, batch_size: int, seed: int = -1
    ):
        """
        Args:
            indices: an infinite, reproducible stream of indices in [0, num_images), the same in every process.
            groups: (num_images,) group of each image; a batch is of one group. None: one group.
            num_images: >= 1.
            batch_size: images of this process in an iteration, >= 1.
            seed: seed of the stream, to compare with that of a resumed run; -1 if it is not known.
        """
        self.start_iteration = 0
        self._indices, self._groups = indices, groups
        self._num_images, self._seed = num_images, seed
        self._now = Phase(0, batch_size, comm.get_world_size())
        self._phases = [self._now]
        self._found = {"num_images": num_images, "seed": seed}  # of the run so far

    def __iter__(self) -> Iterator[int]:
        stream: Iterator[tuple[int, int]] = enumerate(self._indices)
        waiting: dict[int, list[int]] = {}
        for phase, following in pairwise(self._phases):
            dealt = (following.start_iteration - phase.start_iteration) * phase.num_processes
            for _ in islice(self._batches(stream, waiting, phase.batch_size), dealt):
                pass
        phase = self._phases[-1]
        first = (self.start_iteration - phase.start_iteration) * phase.num_processes + comm.get_rank()
        for batch in islice(self._batches(stream, waiting, phase.batch_size), first, None, phase.num_processes):
            yield from batch

    def _batches(self, stream: Iterator[tuple[int, int]], waiting: dict[int, list[int]], size: int) -> Iterator[list]:
        """Batches in the order in which they fill up, as in Detectron2's ``AspectRatioGroupedDataset``."""
        for images in waiting.values():
            while len(images) >= size:  # more than one batch may wait after a phase of larger batches
                batch, images[:] = images[:size], images[size:]
                yield batch
        for position, index in stream:
            images = waiting.setdefault(self._groups[index] if self._groups else 0, [])
            images.append(position * self._num_images + index)
            if len(images) == size:
                batch, images[:] = images.copy(), []  # before the yield, at which a phase may end
                yield batch

    def state_dict(self) -> dict:
        """For a checkpoint: numbers only."""
        return {
            "phases": [astuple(phase) for phase in self._phases],
            "num_images": self._num_images,
            "seed": self._seed,
        }

    def load_state_dict(self, state: dict) -> None:
        self._phases = [Phase(*phase) for phase in state["phases"]]
        self._found = {name: state[name] for name in self._found}

    def resume(self, iteration: int) -> list[str]:
        """Go on at ``iteration``; clauses on what is not as it was in the run so far."""
        self.start_iteration = iteration
        before, now = self._phases[-1], replace(self._now, start_iteration=iteration)
        found = self._found
        if (before.batch_size, before.num_processes) != (now.batch_size, now.num_processes):
            self._phases.append(now)
        notes = []
        if before.num_processes != now.num_processes:
            notes.append(
                f"{now.num_processes} processes, {before.num_processes} before: the images go on where they stopped; "
                "sums are rounded otherwise, and each process divides its losses by a count of its own"
            )
        if before.batch_size * before.num_processes != now.batch_size * now.num_processes:
            notes.append(
                f"{now.batch_size * now.num_processes} images an iteration, "
                f"{before.batch_size * before.num_processes} before"
            )
        if found["num_images"] != self._num_images:
            notes.append(f"{self._num_images} training images, {found['num_images']} before: their order is another")
        if found["seed"] != self._seed:
            notes.append(f"SEED {self._seed}, {found['seed']} before: order and augmentation are others")
        return notes


class PositionedRecords(Dataset):
    """Records by ``position * num_images + index``, with the position under ``POSITION_KEY``, through a mapper.

    Detectron2's ``MapDataset`` is not used: it remembers each index that it was ever asked for.
    """

    def __init__(self, records: list[dict], mapper: Callable[[dict], dict] | None = None):
        """
        Args:
            records: in Detectron2's format.
            mapper: makes the model's input of a record; None leaves it.
        """
        self._mapper = mapper
        self._records = DatasetFromList(records, copy=False)  # serialised: workers share it

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, code: int) -> dict:
        position, index = divmod(code, len(self._records))
        record = {**self._records[index], POSITION_KEY: position}
        return self._mapper(record) if self._mapper else record


def build_train_order(
    cfg: CfgNode, mapper: Callable[[dict], dict] | None = None
) -> tuple[PositionedRecords, TrainOrder]:
    """The training images of ``cfg``, through ``mapper``, and their order.

    For a ``DATALOADER.SAMPLER_TRAIN`` of ORDERED_SAMPLERS.
    """
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
        seed=cfg.SEED,
    )
    return PositionedRecords(records, mapper), order


def build_ordered_loader(cfg: CfgNode, mapper: Callable[[dict], dict]) -> tuple[DataLoader, TrainOrder]:
    """Batches in the order of training, whatever the number of workers; and that order.

    Detectron2's loader deals the order out to its workers image by image and groups by shape what comes back: with two
    or more of them the batches are others, and a resumed run has other leftovers. Here a worker reads whole batches.
    """
    dataset, order = build_train_order(cfg, mapper)
    loader = DataLoader(
        dataset,
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        sampler=order,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
        worker_init_fn=worker_init_reset_seed,
    )
    return loader, order


def _build_sampler(cfg: CfgNode, records: list[dict]) -> Sampler:
    """Detectron2's sampler: every image once a round, or images with rare classes more often."""
    seed = cfg.SEED if cfg.SEED >= 0 else None
    if cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler":
        if cfg.DATALOADER.REPEAT_THRESHOLD > 0:
            logging.getLogger(__name__).warning(
                "DATALOADER.REPEAT_THRESHOLD %g has no effect without DATALOADER.SAMPLER_TRAIN "
                "RepeatFactorTrainingSampler", cfg.DATALOADER.REPEAT_THRESHOLD,
            )  # fmt: skip
        return _whole(TrainingSampler(len(records), seed=seed))
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        records, cfg.DATALOADER.REPEAT_THRESHOLD, **_sqrt(cfg)
    )
    return _whole(RepeatFactorTrainingSampler(factors, seed=seed))


def _whole(sampler: Sampler) -> Sampler:
    """Let a sampler of Detectron2's give the images of all processes."""
    sampler._rank, sampler._world_size = 0, 1  # there is no argument for it
    return sampler


def _sqrt(cfg: CfgNode) -> dict[str, bool]:
    """Detectron2 v0.6 has no key for it, and always takes the root."""
    return {"sqrt": cfg.DATALOADER.REPEAT_SQRT} if "REPEAT_SQRT" in cfg.DATALOADER else {}
