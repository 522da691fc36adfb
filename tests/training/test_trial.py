"""Detectron2's own keys and evaluators: what cannot work is said before a training, and by the doctor."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc
from own_folders import SCENES, write_voc
from tiny_coco import make_coco

from retina_plugin.config.checks import check_config
from retina_plugin.config.rules import get_value
from retina_plugin.errors import SetupError
from retina_plugin.findings import raise_first_error
from retina_plugin.training.trial import find_trial_faults

pytest_plugins = ("tiny_sets",)
CLIP, CROP, RESNETS = "SOLVER.CLIP_GRADIENTS.", "INPUT.CROP.", "MODEL.RESNETS."
GAMMA_STEPS = {"SOLVER.LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR"}


def with_keys(cfg, keys):
    for key, value in keys.items():
        group, _, name = key.rpartition(".")
        (get_value(cfg, group) if group else cfg)[name] = value
    return cfg


@pytest.fixture
def plain(tiny_cfg, tmp_path):
    """A config that has nothing to complain about."""
    tiny_cfg.OUTPUT_DIR, tiny_cfg.DATASETS.TEST = str(tmp_path / "run"), ("tiny_test",)
    tiny_cfg.MODEL.RESNETS.NORM, tiny_cfg.MODEL.RETINANET.NUM_CLASSES = "GN", 2
    return tiny_cfg


REFUSED = [
    ({CLIP + "ENABLED": True, CLIP + "CLIP_TYPE": "full_model"}, "CLIP_TYPE must be one of 'value', 'norm'"),
    ({CLIP + "ENABLED": True, CLIP + "CLIP_VALUE": 0.0}, r"CLIP_VALUE must be in \(0, inf\)"),
    ({CLIP + "ENABLED": True, CLIP + "NORM_TYPE": 0.0}, r"NORM_TYPE must be in \(0, inf\]"),
    ({"SOLVER.LR_SCHEDULER_NAME": "StepLR"}, "LR_SCHEDULER_NAME must be one of 'WarmupMultiStepLR'"),
    ({"SOLVER.WARMUP_METHOD": "lin"}, "WARMUP_METHOD must be one of 'linear', 'constant'"),
    ({**GAMMA_STEPS, "SOLVER.NUM_DECAYS": 0}, "NUM_DECAYS must be 1 or more"),
    ({"SOLVER.BIAS_LR_FACTOR": -1.0}, "BIAS_LR_FACTOR must be in"),
    ({"SOLVER.WEIGHT_DECAY_NORM": -1.0}, "WEIGHT_DECAY_NORM must be in"),
    ({"SOLVER.WEIGHT_DECAY_BIAS": -1.0}, "WEIGHT_DECAY_BIAS must be None"),
    ({"SOLVER.REFERENCE_WORLD_SIZE": 3}, "IMS_PER_BATCH must be a multiple of SOLVER.REFERENCE_WORLD_SIZE 3, got 16"),
    ({CROP + "ENABLED": True, CROP + "TYPE": "centre"}, "CROP.TYPE must be one of 'relative_range'"),
    ({CROP + "ENABLED": True, CROP + "SIZE": [1.5, 1.5]}, r"CROP.SIZE must be parts of the image in \(0, 1\]"),
    ({CROP + "ENABLED": True, CROP + "SIZE": [0.5]}, "CROP.SIZE must be 2 numbers above 0"),
    ({CROP + "ENABLED": True, CROP + "TYPE": "absolute", CROP + "SIZE": [0.5, 9]}, "must be whole pixels"),
    ({CROP + "ENABLED": True, CROP + "TYPE": "absolute_range", CROP + "SIZE": [9, 5]}, "must be \\(least, most\\)"),
    ({"DATALOADER.SAMPLER_TRAIN": "WeightedTrainingSampler"}, "reads DATASETS.TRAIN_REPEAT_FACTOR, which is no key"),
    ({"DATALOADER.SAMPLER_TRAIN": "RandomSubsetTrainingSampler"}, "reads DATALOADER.RANDOM_SUBSET_RATIO, which is no"),
    ({"SEED": 5_000_000_000}, r"SEED must be below 2 \*\* 32"),
    ({"VIS_PERIOD": -1}, "VIS_PERIOD must be in"),
    ({"MODEL.FPN.FUSE_TYPE": "mean"}, "FUSE_TYPE must be one of 'sum', 'avg'"),
    ({"MODEL.FPN.OUT_CHANNELS": 0}, "OUT_CHANNELS must be in"),
    ({RESNETS + "RES5_DILATION": 4}, "RES5_DILATION must be one of 1, 2"),
    ({RESNETS + "NUM_GROUPS": 0}, "NUM_GROUPS must be in"),
    ({RESNETS + "DEFORM_ON_PER_STAGE": [True]}, "DEFORM_ON_PER_STAGE must be 4 values"),
    ({"MODEL.KEYPOINT_ON": True}, "KEYPOINT_ON must be False, got True: RetinaNet has no use for keypoints"),
    ({"MODEL.LOAD_PROPOSALS": True}, "LOAD_PROPOSALS must be False, got True: RetinaNet has no use for proposals"),
    ({"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 0}, "NUM_ITER must be in"),
    ({"TEST.EXPECTED_RESULTS": [["bbox", "AP", 50]]}, "EXPECTED_RESULTS must be a list of \\[task, metric, value, tol"),
    ({"TEST.EXPECTED_RESULTS": [["bbox", "AP", 5, 1]], "DATASETS.TEST": ()}, "EXPECTED_RESULTS needs one set"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED, ids=[str(keys) for keys, _ in REFUSED])
def test_values_of_detectron2_are_refused_by_name(plain, keys, message):
    with pytest.raises(SetupError, match=message):
        check_config(with_keys(plain, keys))


@pytest.mark.parametrize(
    "keys",
    [
        {CLIP + "CLIP_TYPE": "full_model"},  # as in DETR's configs, and not enabled
        {CROP + "TYPE": "centre", CROP + "SIZE": [2]},
        {CLIP + "ENABLED": True, CLIP + "NORM_TYPE": float("inf")},
        {CROP + "ENABLED": True, CROP + "TYPE": "absolute", CROP + "SIZE": [300, 400]},
        {"SOLVER.WEIGHT_DECAY_BIAS": None},
        {**GAMMA_STEPS, "SOLVER.NUM_DECAYS": 2},
        {"SEED": 2**32 - 1},
    ],
    ids=str,
)
def test_values_that_work_are_taken(plain, keys):
    check_config(with_keys(plain, keys))


@pytest.fixture
def both_sets(plain, register):
    register(make_coco(), "tiny_train")
    register(make_coco(), "tiny_test")
    plain.DATASETS.TRAIN = ("tiny_train",)
    return plain


TRIED = [
    ({"SOLVER.NESTEROV": True, "SOLVER.MOMENTUM": 0.0}, "SOLVER: the optimizer cannot be built: ValueError: Nesterov"),
    (
        {RESNETS + "NUM_GROUPS": 2},
        "MODEL: the model cannot be built: AssertionError: Must set MODEL.RESNETS.NUM_GROUPS",
    ),
    ({RESNETS + "DEPTH": 50, RESNETS + "WIDTH_PER_GROUP": 10}, "MODEL: the model cannot be built: ValueError: "),
    ({RESNETS + "OUT_FEATURES": ["res3", "res4", "res5", "res9"]}, "MODEL: the model cannot be built: "),
    (
        {"TEST.BEST_METRIC": "bbox/AP-fox"},
        "BEST_METRIC must be a metric of these test sets, got bbox/AP-fox: there are",
    ),
    ({"TEST.EXPECTED_RESULTS": [["segm", "AP", 5, 1]]}, "EXPECTED_RESULTS must name metrics of the test set, got segm"),
]


@pytest.mark.parametrize(("keys", "message"), TRIED, ids=[str(keys) for keys, _ in TRIED])
def test_parts_are_tried_before_the_training(both_sets, keys, message):
    with pytest.raises(SetupError, match=message):
        raise_first_error(find_trial_faults(with_keys(both_sets, keys)))


def test_a_trial_of_what_works_says_and_leaves_nothing(both_sets, tmp_path, capfd):
    keys = {"TEST.BEST_METRIC": "bbox/AP-dog", "TEST.EXPECTED_RESULTS": [["bbox", "AP50", 5, 1]]}
    before = sorted(tmp_path.rglob("*"))
    assert list(find_trial_faults(with_keys(both_sets, keys))) == []
    assert sorted(tmp_path.rglob("*")) == before and capfd.readouterr() == ("", "")


def test_the_evaluator_of_pascal_voc_is_tried_on_its_annotations(plain, clean_catalog, tmp_path):
    root = write_voc(tmp_path / "voc")  # without <pose>, <truncated> and <difficult>, as many tools write it
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("".join(f"{name[:-4]}\n" for name, *_ in SCENES))
    for image in (root / "JPEGImages").glob("*.png"):
        image.rename(image.with_suffix(".jpg"))
    register_pascal_voc("tiny_test", str(root), "val", 2007, ("dog", "cat"))
    MetadataCatalog.get("tiny_test").evaluator_type = "pascal_voc"
    with pytest.raises(SetupError, match="tiny_test: the evaluator cannot be built: .* needs <pose>, <truncated>"):
        raise_first_error(find_trial_faults(plain))
    # The remedy.
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.remove("tiny_test")
    register_pascal_voc("tiny_test", str(root), "val", 2007, ("dog", "cat"))
    assert list(find_trial_faults(plain)) == []
    assert not hasattr(MetadataCatalog.get("tiny_test"), "json_file"), "of a conversion that is gone"
