"""The order of the training images: Detectron2's batches, from any iteration on, and an augmentation that repeats."""

import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from PIL import Image

from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.data import order as train_order
from retina_plugin.data.mapper import RetinaDatasetMapper
from retina_plugin.data.order import POSITION_KEY, PositionedRecords, TrainOrder
from retina_plugin.data.randomness import seed_generators

NUM_IMAGES, BATCH_SIZE = 7, 2
SHAPES = [(20, 10), (10, 20), (20, 10), (20, 10), (10, 10), (20, 10), (20, 10)]  # width, height
RECORDS = [{"image_id": i, "width": w, "height": h} for i, (w, h) in enumerate(SHAPES)]


def order(groups=None, seed=3) -> TrainOrder:
    return TrainOrder(TrainingSampler(NUM_IMAGES, seed=seed), groups, num_images=NUM_IMAGES, batch_size=BATCH_SIZE)


def batches_of(stream: TrainOrder, count: int) -> list[list[int]]:
    dataset = PositionedRecords(RECORDS)
    ids = [dataset[code]["image_id"] for code in islice(stream, count * BATCH_SIZE)]
    return [ids[i : i + BATCH_SIZE] for i in range(0, len(ids), BATCH_SIZE)]


def test_train_order_equals_detectron2s_grouping_by_aspect_ratio():
    stream = (RECORDS[i] for i in islice(TrainingSampler(NUM_IMAGES, seed=3), 70))
    expected = [[record["image_id"] for record in batch] for batch in AspectRatioGroupedDataset(stream, BATCH_SIZE)]
    groups = [int(w <= h) for w, h in SHAPES]
    assert batches_of(order(groups), 30) == expected[:30]


@pytest.mark.parametrize("groups", [None, [int(w <= h) for w, h in SHAPES]], ids=["ungrouped", "grouped"])
def test_train_order_started_late_gives_what_came_next(groups):
    late = order(groups)
    late.start_iteration = 11
    assert list(islice(late, 20)) == list(islice(order(groups), 22, 42))


def test_train_order_gives_every_place_of_the_stream_once():
    positions = [code // NUM_IMAGES for code in islice(order([0, 1, 0, 0, 1, 0, 0]), 40)]
    assert len(set(positions)) == 40


GROUPS = [int(w <= h) for w, h in SHAPES]


def run_of(monkeypatch, phases: list[tuple[int, int, int]], groups=GROUPS) -> list[list[int]]:
    """Codes of all processes by iteration; phases: (iterations, images of a process, processes), each resumed."""
    state, start, iterations = None, 0, []
    for count, batch_size, num_processes in phases:
        monkeypatch.setattr(train_order.comm, "get_world_size", lambda n=num_processes: n)
        per_process = []
        for rank in range(num_processes):
            one = TrainOrder(
                TrainingSampler(NUM_IMAGES, seed=3)._infinite_indices(), groups, num_images=NUM_IMAGES,
                batch_size=batch_size, seed=3,
            )  # fmt: skip
            if state:
                one.load_state_dict(state)
            one.resume(start)
            monkeypatch.setattr(train_order.comm, "get_rank", lambda rank=rank: rank)
            per_process.append(list(islice(one, count * batch_size)))
        state = one.state_dict()
        for i in range(count):
            iterations.append([c for codes in per_process for c in codes[i * batch_size : (i + 1) * batch_size]])
        start += count
    return iterations


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["ungrouped", "grouped"])
def test_resumed_processes_give_what_came_next(monkeypatch, groups):
    assert run_of(monkeypatch, [(3, 2, 2), (4, 2, 2), (5, 2, 2)], groups) == run_of(monkeypatch, [(12, 2, 2)], groups)


def test_several_processes_share_one_stream(monkeypatch):
    # Batches of two for two processes are those of one, two at a time.
    one, two = run_of(monkeypatch, [(12, 2, 1)]), run_of(monkeypatch, [(6, 2, 2)])
    assert two == [one[i] + one[i + 1] for i in range(0, 12, 2)]


@pytest.mark.parametrize(
    "phases", [[(4, 2, 2), (6, 4, 1), (5, 1, 4)], [(5, 4, 1), (3, 3, 1), (5, 1, 3)], [(3, 4, 2), (4, 3, 2), (5, 1, 2)]]
)
def test_another_number_of_processes_takes_each_place_once(monkeypatch, phases):
    codes = [code for iteration in run_of(monkeypatch, phases) for code in iteration]
    positions = sorted(code // NUM_IMAGES for code in codes)
    assert len(set(positions)) == len(positions) == sum(count * size * n for count, size, n in phases)
    # What is passed over waits in its group for its batch to fill: less than the batches of the two groups.
    assert positions[-1] < len(positions) + 2 * 4
    assert [code % NUM_IMAGES for code in codes] != []


def test_resume_says_what_differs(monkeypatch):
    first = order()
    assert first.resume(0) == []
    state = first.state_dict()
    assert state == {"phases": [(0, BATCH_SIZE, 1)], "num_images": NUM_IMAGES, "seed": -1}
    same = order()
    same.load_state_dict(state)
    assert same.resume(4) == [] and same.state_dict() == state
    monkeypatch.setattr(train_order.comm, "get_world_size", lambda: 2)
    other = TrainOrder(range(9), None, num_images=9, batch_size=BATCH_SIZE, seed=5)
    other.load_state_dict(state)
    notes = other.resume(4)
    assert [note.split(":")[0] for note in notes] == [
        "2 processes, 1 before", "4 images an iteration, 2 before", "9 training images, 7 before", "SEED 5, -1 before"
    ]  # fmt: skip
    assert other.state_dict() == {
        "phases": [(0, BATCH_SIZE, 1), (4, BATCH_SIZE, 2)], "num_images": 9, "seed": 5
    }  # fmt: skip


@pytest.fixture
def build(monkeypatch):
    """Function from a cfg to the records, the order and the loader, of SHAPES."""
    records = [{**record, "annotations": [{"category_id": int(record["image_id"] > 4)}]} for record in RECORDS]
    asked = []

    def find(names, **options):
        asked.append(options)
        return records

    monkeypatch.setattr(train_order, "get_detection_dataset_dicts", find)

    def build_for(cfg, world_size=1):
        monkeypatch.setattr(train_order.comm, "get_world_size", lambda: world_size)
        loader, made = train_order.build_ordered_loader(cfg, lambda record: {"mapped": record["image_id"]})
        assert asked.pop() == {"filter_empty": cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, "proposal_files": None}
        return records, made, loader

    return build_for


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("root", [None, True, False], ids=["every image", "rare classes", "rare classes, no root"])
def test_order_of_a_config_is_detectron2s_for_its_seed(build, seed, root):
    cfg = get_retina_cfg()
    cfg.SEED, cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = seed, BATCH_SIZE, 0
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = bool(root)
    if root is not None:
        cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
        cfg.DATALOADER.REPEAT_THRESHOLD, cfg.DATALOADER.REPEAT_SQRT = 0.9, root
    records, made, loader = build(cfg)
    sampler = TrainingSampler(NUM_IMAGES, seed=seed)
    if root is not None:
        frequencies = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
        sampler = RepeatFactorTrainingSampler(frequencies(records, 0.9, sqrt=root), seed=seed)
    expected = AspectRatioGroupedDataset((records[i] for i in sampler), BATCH_SIZE)
    for batch, theirs in islice(zip(loader, expected, strict=False), 20):
        assert [one["mapped"] for one in batch] == [one["image_id"] for one in theirs]
    assert made.state_dict()["seed"] == seed


@pytest.mark.parametrize("sampler", train_order.ORDERED_SAMPLERS)
def test_processes_share_the_images_of_an_iteration(build, sampler):
    cfg = get_retina_cfg()
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS, cfg.SEED = 4, 1, 1
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD = sampler, 0.9
    _, made, loader = build(cfg, world_size=2)
    assert (loader.batch_size, loader.num_workers) == (2, 1)
    assert made.state_dict()["phases"] == [(0, 2, 2)]
    assert (made._indices._rank, made._indices._world_size) == (0, 1)  # all images: they are dealt out afterwards


def test_sampler_gives_the_stream_of_all_processes(monkeypatch):
    records = [{"image_id": i, "width": 9, "height": 9, "annotations": []} for i in range(5)]
    monkeypatch.setattr(train_order, "get_detection_dataset_dicts", lambda *args, **options: records)
    monkeypatch.setattr(train_order.comm, "get_world_size", lambda: 2)
    cfg = get_retina_cfg()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SEED = 2, 1
    seen = []
    for rank in range(2):
        monkeypatch.setattr(train_order.comm, "get_rank", lambda rank=rank: rank)
        dataset, positions = train_order.build_train_order(cfg)
        seen += [dataset[code][POSITION_KEY] for code in islice(positions, 5)]
    assert sorted(seen) == list(range(10))


def test_train_order_differs_between_seeds():
    assert list(islice(order(seed=3), 20)) != list(islice(order(seed=4), 20))


def test_sizes_are_asked_for_only_to_group_by_them(monkeypatch):
    records = [{"image_id": i} for i in range(4)]
    monkeypatch.setattr(train_order, "get_detection_dataset_dicts", lambda *args, **options: records)
    cfg = get_retina_cfg()
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    dataset, positions = train_order.build_train_order(cfg)
    assert sorted(dataset[code]["image_id"] for code in islice(positions, 4)) == [0, 1, 2, 3]


def test_threshold_without_its_sampler_is_pointed_out(monkeypatch, caplog):
    records = [{"image_id": i, "width": 9, "height": 9, "annotations": []} for i in range(4)]
    monkeypatch.setattr(train_order, "get_detection_dataset_dicts", lambda *args, **options: records)
    cfg = get_retina_cfg()
    train_order.build_train_order(cfg)
    assert "REPEAT_THRESHOLD" not in caplog.text
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.1
    train_order.build_train_order(cfg)
    (message,) = [message for message in caplog.messages if "REPEAT_THRESHOLD" in message]
    assert "REPEAT_THRESHOLD 0.1 has no effect without DATALOADER.SAMPLER_TRAIN RepeatFactorTrainingSampler" in message


@pytest.mark.parametrize("grouped", [True, False])
def test_any_number_of_workers_gives_the_same_batches(monkeypatch, grouped):
    # Of one shape and another in turn: Detectron2's loader with two workers makes other batches of them.
    records = [{"image_id": i, "width": 10 + 10 * (i % 3), "height": 20} for i in range(9)]
    monkeypatch.setattr(train_order, "get_detection_dataset_dicts", lambda *args, **options: records)
    cfg = get_retina_cfg()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SEED, cfg.DATALOADER.ASPECT_RATIO_GROUPING = 2, 1, grouped
    batches = []
    for workers in (0, 1, 2, 3):
        cfg.DATALOADER.NUM_WORKERS = workers
        loader, loaded_order = train_order.build_ordered_loader(cfg, lambda record: record)
        loaded_order.start_iteration = 3
        batches.append([[record[POSITION_KEY] for record in batch] for batch in islice(loader, 8)])
    assert batches[0] == batches[1] == batches[2] == batches[3]
    assert [len(batch) for batch in batches[0]] == [2] * 8


def test_records_carry_their_position():
    assert PositionedRecords(RECORDS)[5 * NUM_IMAGES + 2] == {**RECORDS[2], POSITION_KEY: 5}


class NoisyMapper(RetinaDatasetMapper):
    """Draws from every generator that an augmentation of one's own may use."""

    def _transform_annotations(self, record, transforms, image_shape):
        record["noise"] = random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture
def placed_record(tmp_path):
    Image.effect_noise((40, 30), 80).convert("RGB").save(tmp_path / "a.png")
    annotations = [{"bbox": [0, 0, 5, 5], "bbox_mode": 0, "category_id": 0}]
    return {"file_name": str(tmp_path / "a.png"), "image_id": 1, "width": 40, "height": 30, "annotations": annotations}


def test_every_generator_of_an_augmentation_depends_on_position_and_seed_alone(placed_record):
    cfg = get_retina_cfg()
    cfg.SEED = 2
    mapper = NoisyMapper(cfg, is_train=True)
    noise = {}
    for position in (4, 5, 4):
        for generator in (random.seed, np.random.seed, torch.manual_seed):
            generator(position + len(noise))  # what another process, or an earlier image, left behind
        noise.setdefault(position, []).append(mapper({**placed_record, POSITION_KEY: position})["noise"])
    assert noise[4][0] == noise[4][1]
    assert all(a != b for a, b in zip(noise[4][0], noise[5][0], strict=True))


def test_mapper_leaves_the_generators_of_the_training_alone(placed_record):
    mapper = RetinaDatasetMapper(get_retina_cfg(), is_train=True)

    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    draws = []
    for data_in_this_process in (False, True):
        seed_generators(1, 2, 3)
        if data_in_this_process:
            mapper({**placed_record, POSITION_KEY: 0})
        draws.append(draw())
    assert draws[0] == draws[1]
    seed_generators(1, 2, 4)
    assert all(a != b for a, b in zip(draws[0], draw(), strict=True))


def test_mapper_augments_by_position_and_seed(tmp_path):
    Image.effect_noise((40, 30), 80).convert("RGB").save(tmp_path / "a.png")
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 1, "width": 40, "height": 30, "annotations": []}

    def shapes(seed: int, noise: int) -> list[tuple]:
        cfg = get_retina_cfg()
        cfg.SEED = seed
        cfg.INPUT.MIN_SIZE_TRAIN = tuple(range(16, 80))
        mapper = RetinaDatasetMapper(cfg, is_train=True)
        np.random.seed(noise)  # what another process, or an earlier image, left behind
        return [tuple(mapper({**record, POSITION_KEY: position})["image"].shape) for position in range(8)]

    assert shapes(0, noise=1) == shapes(0, noise=2)
    assert len(set(shapes(0, noise=1))) > 1
    assert shapes(0, noise=1) != shapes(1, noise=1)
