"""The order of the training images: Detectron2's batches, from any iteration on, and an augmentation that repeats."""

from itertools import islice

import numpy as np
import pytest
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import TrainingSampler

from retina_plugin.config import get_retina_cfg
from retina_plugin.data import train_order
from retina_plugin.data.mapper import RetinaDatasetMapper
from retina_plugin.data.train_order import POSITION_KEY, PositionedRecords, TrainOrder

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
    assert caplog.messages == []
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.1
    train_order.build_train_order(cfg)
    (message,) = caplog.messages
    assert "REPEAT_THRESHOLD 0.1 has no effect without DATALOADER.SAMPLER_TRAIN RepeatFactorTrainingSampler" in message


def test_records_carry_their_position():
    assert PositionedRecords(RECORDS)[5 * NUM_IMAGES + 2] == {**RECORDS[2], POSITION_KEY: 5}


def test_mapper_augments_by_position_and_seed(tmp_path):
    from PIL import Image

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
