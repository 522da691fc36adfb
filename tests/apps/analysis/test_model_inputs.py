"""The images of an analysis: which, in what size, with which ground truth; and what is refused."""

import pytest
import torch
from tiny_coco import make_coco

from retina_cli.main import build_parser
from retina_plugin.apps.analysis import model_inputs
from retina_plugin.apps.analysis.model_inputs import build_mapper, load_analysis_config, map_images, sample_records
from retina_plugin.errors import SetupError

pytest_plugins = ("tiny_sets", "tiny_analysis")


@pytest.fixture
def load(config_file, monkeypatch):
    """load(words) loads the config of an analysis."""
    monkeypatch.setattr(model_inputs, "setup_logger", lambda name: None)

    def load_config(*words):
        args = build_parser("analyze").parse_args(["loss-cdf", "--config-file", str(config_file), *words])
        return load_analysis_config(args)

    return load_config


def test_split_chooses_the_sets_and_needs_no_other(load):
    assert load("--split", "train", "DATASETS.TEST", "('none',)")[1] == ["tiny_train"]
    assert load("--split", "test", "DATASETS.TRAIN", "('none',)")[1] == ["tiny_train"]
    with pytest.raises(SetupError, match="'none', which is not registered"):
        load("--split", "test", "DATASETS.TEST", "('none',)")


def test_config_is_frozen_and_takes_pairs_at_the_end(load):
    cfg, _ = load("--max-images", "1", "MODEL.RETINANET.FOCAL_LOSS_GAMMA", "1.5")
    assert cfg.is_frozen() and cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA == 1.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-images", "-1"], "--max-images must be >= 0, got -1: 0 takes all"),
        (["DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
        (["--split", "train", "DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
        (["MODEL.RETINANET.PRIOR_PROB", "1"], r"MODEL.RETINANET.PRIOR_PROB must be in \(0, 1\)"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "GeneralizedRCNN is not a RetinaNet"),
        (["MODEL.RETINANET.NUM_CLASSES", "3"], "NUM_CLASSES"),
    ],
)
def test_mistakes_are_refused(load, words, message):
    with pytest.raises(SetupError, match=message):
        load(*words)


def test_sample_is_fixed_by_the_seed(register):
    content = make_coco()
    content["images"] = [{**content["images"][0], "id": i, "file_name": f"{i}.jpg"} for i in range(1, 21)]
    register(content)

    def ids(**options):
        records = sample_records(["tiny_train"], filter_empty=False, **options)
        return [record["image_id"] for record in records]

    assert len(ids(max_images=5, seed=0)) == 5
    assert ids(max_images=5, seed=0) == ids(max_images=5, seed=0) != ids(max_images=5, seed=1)
    assert ids(max_images=5, seed=0) == ids(max_images=0, seed=0)[:5]
    assert sorted(ids(max_images=0, seed=0)) == list(range(1, 21))


def test_images_without_boxes_are_left_out_on_demand(register):
    content = make_coco()
    content["annotations"] = content["annotations"][:2]  # of the first image
    register(content)
    kept = [len(sample_records(["tiny_train"], max_images=0, seed=0, filter_empty=empty)) for empty in (True, False)]
    assert kept == [1, 2]


def test_set_of_no_images_is_refused(register_records, monkeypatch):
    monkeypatch.setattr(model_inputs, "get_detection_dataset_dicts", lambda names, filter_empty: [])
    with pytest.raises(SetupError, match="a, b has no images to analyse"):
        sample_records(["a", "b"], max_images=0, seed=0, filter_empty=False)


@pytest.mark.parametrize(
    ("resize", "sampling", "short_side"), [("test", "choice", 60), ("train", "choice", 90), ("train", "range", 100)]
)
def test_size_is_that_of_the_split_and_not_random(config_file, tiny_cfg, resize, sampling, short_side):
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = [80, 120] if sampling == "range" else [60, 90, 120]
    tiny_cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = sampling
    tiny_cfg.INPUT.RANDOM_FLIP, tiny_cfg.INPUT.CROP.ENABLED = "horizontal", True
    records = sample_records(["tiny_train"], max_images=1, seed=0, filter_empty=False) * 8
    images = list(map_images(records, build_mapper(tiny_cfg, resize=resize)))
    assert {min(image["image"].shape[1:]) for image in images} == {short_side}
    assert all(
        torch.equal(image["instances"].gt_boxes.tensor, images[0]["instances"].gt_boxes.tensor) for image in images
    )
    assert len(images[0]["instances"]) > 0


def test_augmentation_is_random(config_file, tiny_cfg):
    records = sample_records(["tiny_train"], max_images=1, seed=0, filter_empty=False) * 20
    images = list(map_images(records, build_mapper(tiny_cfg, resize="augment")))
    assert {min(image["image"].shape[1:]) for image in images} == {60, 90, 120}


def test_record_without_annotations_gets_empty_ground_truth(config_file, tiny_cfg):
    (record,) = sample_records(["tiny_train"], max_images=1, seed=0, filter_empty=False)
    del record["annotations"]
    (image,) = map_images([record], build_mapper(tiny_cfg, resize="test"))
    assert image["instances"].gt_boxes.tensor.shape == (0, 4)
    assert image["instances"].gt_classes.dtype == torch.long
