"""The mapper equals Detectron2's, and names the file that it cannot read."""

import pytest
import torch
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.structures import BoxMode
from PIL import Image

from retina_plugin.config.keys import get_retina_cfg
from retina_plugin.data.mapper import RetinaDatasetMapper
from retina_plugin.errors import SetupError


@pytest.fixture
def cfg():
    cfg = get_retina_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (16,)
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


@pytest.fixture
def record(tmp_path) -> dict:
    path = tmp_path / "good.jpg"
    Image.effect_noise((40, 30), 80).convert("RGB").save(path)
    annotation = {"bbox": [4, 6, 20, 24], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    return {"file_name": str(path), "image_id": 7, "width": 40, "height": 30, "annotations": [annotation]}


@pytest.fixture
def cut_record(tmp_path, record) -> dict:
    data = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    return {**record, "file_name": str(tmp_path / "cut.jpg")}


@pytest.mark.parametrize("is_train", [True, False])
def test_mapper_equals_detectron2s(cfg, record, is_train):
    ours = RetinaDatasetMapper(cfg, is_train=is_train)(record)
    theirs = DatasetMapper(cfg, is_train=is_train)(record)
    assert ours.keys() == theirs.keys()
    assert torch.equal(ours["image"], theirs["image"])
    if is_train:
        assert len(ours["instances"]) == 1
        assert torch.equal(ours["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor)
        assert torch.equal(ours["instances"].gt_classes, theirs["instances"].gt_classes)


def test_mapper_names_the_file_and_keeps_the_cause(cfg, cut_record):
    mapper = RetinaDatasetMapper(cfg, is_train=True)
    with pytest.raises(SetupError, match=r"Image .*cut.jpg \(image id 7\) cannot be read .*truncated") as caught:
        mapper(cut_record)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(SetupError, match=r"no.jpg .*FileNotFoundError"):
        mapper({**cut_record, "file_name": "no.jpg"})
    with pytest.raises(SetupError, match=r"SizeMismatchError: .*got \(40, 30\), expect \(30, 40\)"):
        mapper({**cut_record, "file_name": cut_record["file_name"].replace("cut", "good"), "width": 30, "height": 40})


@pytest.mark.parametrize("num_workers", [0, 1])
def test_mapper_names_the_file_from_a_worker_process(cfg, cut_record, num_workers):
    loader = build_detection_train_loader(
        [cut_record],
        mapper=RetinaDatasetMapper(cfg, is_train=True),
        total_batch_size=1,
        num_workers=num_workers,
        aspect_ratio_grouping=False,
    )
    with pytest.raises(SetupError, match="cut.jpg"):
        next(iter(loader))
