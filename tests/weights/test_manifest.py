"""The manifest of a checkpoint: what is in it, what is refused by it, and the class layer by name."""

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from retina_plugin import SetupError
from retina_plugin.data.class_names import config_class_names
from retina_plugin.weights.checkpointer import build_checkpointer
from retina_plugin.weights.classes import map_class_layer
from retina_plugin.weights.manifest import build_manifest, disagreements

pytest_plugins = ("tiny_sets",)


@pytest.fixture
def with_classes(tiny_cfg, clean_catalog):
    """with_classes(names) is ``tiny_cfg`` for a data set of these classes."""

    def make(*names):
        name = "set_" + "_".join(names)
        if name not in DatasetCatalog:
            DatasetCatalog.register(name, list)
            MetadataCatalog.get(name).thing_classes = list(names)
        cfg = tiny_cfg.clone()
        cfg.MODEL.RETINANET.NUM_CLASSES = len(names)
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (name,), ()
        return cfg

    return make


def save(cfg, folder) -> str:
    """A checkpoint of a model of ``cfg`` whose class layer tells its rows apart."""
    torch.manual_seed(1)
    model = build_model(cfg)
    torch.nn.init.normal_(model.head.cls_score.bias)
    build_checkpointer(cfg, model, str(folder), classes=config_class_names(cfg)).save("model")
    return str(folder / "model.pth")


def load(cfg, path):
    checkpointer = build_checkpointer(cfg, build_model(cfg), classes=config_class_names(cfg))
    checkpointer.load(path)
    return checkpointer


def class_bias(state, num_classes):
    return state["head.cls_score.bias"].view(-1, num_classes)  # (A, K)


def test_manifest_says_what_the_weights_mean(with_classes, tmp_path):
    manifest = torch.load(save(with_classes("cat", "dog", "emu"), tmp_path), weights_only=True)["manifest"]
    assert manifest["classes"] == ["cat", "dog", "emu"]
    anchors = manifest["anchors"]
    assert anchors["strides"] == [8, 16, 32, 64, 128] and anchors["offset"] == 0.0
    assert anchors["sizes"][0] == pytest.approx([32] * 3 + [40.317] * 3 + [50.797] * 3, abs=1e-3)
    assert anchors["aspect_ratios"][4] == pytest.approx([0.5, 1, 2] * 3, abs=1e-3)
    assert manifest["config"]["INPUT.FORMAT"] == "BGR" and manifest["config"]["TEST.DETECTIONS_PER_IMAGE"] == 100
    assert manifest["versions"]["torch"] == torch.__version__


def test_ours_loads_in_plain_detectron2(with_classes, tmp_path):
    cfg = with_classes("cat", "dog", "emu")
    path = save(cfg, tmp_path)
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    theirs = build_model(cfg)
    extra = DetectionCheckpointer(theirs).load(path)
    assert "manifest" in extra
    saved = torch.load(path, weights_only=True)["model"]
    assert all(torch.equal(value, saved[key]) for key, value in theirs.state_dict().items())


CHANGES = [
    ("INPUT.FORMAT", "RGB", "INPUT.FORMAT is BGR in the checkpoint and RGB in the config"),
    ("MODEL.PIXEL_STD", [57.375, 57.12, 58.395], r"MODEL.PIXEL_STD is \[1.0, 1.0, 1.0\] in the checkpoint and \[57"),
    ("MODEL.PIXEL_MEAN", [0.0, 0.0, 0.0], "MODEL.PIXEL_MEAN is"),
    ("MODEL.RETINANET.BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0), "BBOX_REG_WEIGHTS is"),
    ("MODEL.ANCHOR_GENERATOR.OFFSET", 0.5, "offset 0.0 in the checkpoint and 0.5 in the config"),
    ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[0.4, 1.0, 2.5]], "aspect ratios of level 1 are 0.5, 1, 2 in the"),
    (
        "MODEL.ANCHOR_GENERATOR.SIZES",
        [[x, 1.2 * x, 1.5 * x] for x in (32, 64, 128, 256, 512)],
        r"anchor sizes of level 1 are 32, 40.317, 50.797 in the checkpoint and 32, 38.4, 48 in the config",
    ),
]


@pytest.mark.parametrize(("key", "value", "message"), CHANGES, ids=[key for key, *_ in CHANGES])
def test_what_shapes_do_not_show_is_refused(with_classes, tmp_path, key, value, message):
    cfg = with_classes("cat", "dog", "emu")
    path = save(cfg, tmp_path)
    cfg.merge_from_list([key, value])
    with pytest.raises(SetupError, match=f"model.pth was trained for something else: .*{message}"):
        load(cfg, path)
    cfg.MODEL.LOAD = "ignore_manifest"
    assert load(cfg, path).report.missing == ()


def test_stride_of_a_bottleneck_counts_from_r50_on(with_classes):
    cfg = with_classes("cat")
    model = torch.nn.Identity()
    assert "MODEL.RESNETS.STRIDE_IN_1X1" not in build_manifest(cfg, model, None)["config"]
    cfg.MODEL.RESNETS.DEPTH = 50
    found = build_manifest(cfg, model, None)
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    assert disagreements(found, build_manifest(cfg, model, None)) == [
        "MODEL.RESNETS.STRIDE_IN_1X1 is True in the checkpoint and False in the config"
    ]


def test_sizes_and_thresholds_may_differ(with_classes, tmp_path):
    cfg = with_classes("cat", "dog", "emu")
    path = save(cfg, tmp_path)
    cfg.INPUT.MIN_SIZE_TEST, cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 400, 0.3
    assert load(cfg, path).report.missing == ()


def test_checkpoint_without_a_manifest_loads_as_before(with_classes, tmp_path):
    cfg = with_classes("cat", "dog", "emu")
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "theirs.pth")
    cfg.INPUT.FORMAT = "RGB"
    assert load(cfg, str(tmp_path / "theirs.pth")).report.missing == ()


def test_other_order_of_classes_is_refused_or_mapped(with_classes, tmp_path):
    path = save(with_classes("cat", "dog", "emu"), tmp_path)
    cfg = with_classes("emu", "cat", "dog")
    with pytest.raises(
        SetupError, match="class 0 is 'cat' in the checkpoint and 'emu' in the data.*\n.*MODEL.LOAD by_class_name"
    ):
        load(cfg, path)
    cfg.MODEL.LOAD = "by_class_name"
    checkpointer = load(cfg, path)
    old = class_bias(torch.load(path, weights_only=True)["model"], 3)
    assert torch.equal(class_bias(checkpointer.model.state_dict(), 3), old[:, [2, 0, 1]])
    assert checkpointer.report.missing == ()


@pytest.mark.parametrize("mapped", [True, False])
def test_ignored_manifest_keeps_the_rows_unless_they_are_mapped(with_classes, tmp_path, mapped):
    path = save(with_classes("cat", "dog", "emu"), tmp_path)
    cfg = with_classes("emu", "cat", "dog")
    cfg.INPUT.FORMAT, cfg.MODEL.LOAD = "RGB", "ignore_manifest+by_class_name" if mapped else "ignore_manifest"
    old = class_bias(torch.load(path, weights_only=True)["model"], 3)
    expected = old[:, [2, 0, 1]] if mapped else old
    assert torch.equal(class_bias(load(cfg, path).model.state_dict(), 3), expected)


def test_same_anchors_of_another_generator_are_no_contradiction(with_classes, tmp_path):
    cfg = with_classes("cat")
    path = save(cfg, tmp_path)
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "OctaveAnchorGenerator"
    assert load(cfg, path).report.missing == ()
    cfg.MODEL.ANCHOR_GENERATOR.BASE_SIZE = 3.0
    with pytest.raises(SetupError, match="level 1 are 32, 40.317, 50.797 in the checkpoint and 24, 30.238, 38.098 in"):
        load(cfg, path)


def test_mapped_detector_gives_the_same_under_the_new_ids(with_classes, tmp_path, batch):
    cfg = with_classes("cat", "dog", "emu")
    path = save(cfg, tmp_path)
    first = load(cfg, path).model.eval()
    cfg = with_classes("emu", "cat", "dog")
    cfg.MODEL.LOAD = "by_class_name"
    second = load(cfg, path).model.eval()
    with torch.no_grad():
        ours, theirs = (model(batch)[0]["instances"] for model in (second, first))
    assert len(theirs) > 0
    new_id = torch.tensor([1, 2, 0])
    assert torch.equal(ours.pred_classes, new_id[theirs.pred_classes])
    torch.testing.assert_close(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)


def test_subset_and_new_class_start_from_what_there_is(with_classes, tmp_path, caplog):
    path = save(with_classes("cat", "dog", "emu"), tmp_path)
    cfg = with_classes("dog", "fox")
    with pytest.raises(SetupError, match="(?s)has shape .*MODEL.LOAD by_class_name to keep the classes in common"):
        load(cfg, path)
    cfg.MODEL.LOAD = "by_class_name"
    with caplog.at_level("INFO", logger="retina_plugin"):
        checkpointer = load(cfg, path)
    assert "1 classes taken by name (dog); new, starting with the prior: fox; left out: 2" in caplog.text
    bias = class_bias(checkpointer.model.state_dict(), 2)
    assert torch.equal(bias[:, 0], class_bias(torch.load(path, weights_only=True)["model"], 3)[:, 1])
    torch.testing.assert_close(bias[:, 1], torch.full((9,), -4.59512))  # log(0.01 / 0.99)
    assert checkpointer.report.missing == ("class fox",), "--eval-only must not score it unasked"


def test_other_classes_of_the_same_number_start_afresh_when_asked(with_classes, tmp_path, caplog):
    path = save(with_classes("cat", "dog", "emu"), tmp_path)
    cfg = with_classes("car", "bus", "van")
    with pytest.raises(SetupError, match="class 0 is 'cat' in the checkpoint and 'car' in the data"):
        load(cfg, path)
    cfg.MODEL.LOAD = "skip_mismatched"
    with caplog.at_level("INFO", logger="retina_plugin"):
        checkpointer = load(cfg, path)
    assert "the class layer starts from the prior" in caplog.text
    assert checkpointer.report.missing == ("head.cls_score.weight", "head.cls_score.bias")
    torch.testing.assert_close(checkpointer.model.head.cls_score.bias, torch.full((27,), -4.59512))


def test_resumed_run_does_not_map(with_classes, tmp_path):
    class Trainer:
        def state_dict(self):
            return {}

        load_state_dict = None

    path = save(with_classes("cat", "dog"), tmp_path)
    cfg = with_classes("dog", "cat")
    cfg.MODEL.LOAD = "by_class_name"
    checkpointer = build_checkpointer(cfg, build_model(cfg), classes=config_class_names(cfg), trainer=Trainer())
    with pytest.raises(SetupError, match="Go on with the data set that the run began with"):
        checkpointer.load(path)
    build_checkpointer(cfg, build_model(cfg), classes=config_class_names(cfg), trainer=Trainer()).load(
        path, checkpointables=[]
    )


def test_names_that_are_not_there_cannot_be_mapped(with_classes, tmp_path):
    cfg = with_classes("cat", "dog")
    cfg.MODEL.LOAD = "by_class_name"
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "theirs.pth")
    with pytest.raises(SetupError, match="MODEL.LOAD is by_class_name, but .*theirs.pth does not have the names"):
        load(cfg, str(tmp_path / "theirs.pth"))
    cfg.MODEL.LOAD = "strict"  # the remedy of the message
    assert load(cfg, str(tmp_path / "theirs.pth")).report.missing == ()


def test_map_class_layer_by_hand():
    # 2 anchors, classes a, b -> b, c; the row of anchor i and class j is 10 i + j.
    state = {"head.cls_score.bias": torch.tensor([0.0, 1.0, 10.0, 11.0])}
    initial = {"head.cls_score.bias": torch.full((4,), -5.0)}
    map_class_layer(state, initial, ["a", "b"], ["b", "c"])
    assert state["head.cls_score.bias"].tolist() == [1.0, -5.0, 11.0, -5.0]
