"""torchvision's RetinaNet weights, converted: equal outputs of a model with random weights, none downloaded."""

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn
from torchvision.models import resnet18
from torchvision.models._meta import _COCO_CATEGORIES
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.ops import misc
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from retina_cli.main import main
from retina_plugin import SetupError
from retina_plugin.config.load import load_config
from retina_plugin.data.class_names import config_class_names
from retina_plugin.weights.checkpointer import build_checkpointer
from retina_plugin.weights.torchvision import convert_torchvision

CONFIG = "configs/retina_R50_FPN_torchvision.yaml"
HEIGHT, WIDTH = 192, 160  # no multiple of 128: P6 and P7 have torchvision's own steps


def make_theirs(num_classes: int, frozen: bool) -> RetinaNet:
    """Their model as ``retinanet_resnet50_fpn`` builds it, with statistics and logits worth comparing."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, trainable_layers=5, returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256), norm_layer=misc.FrozenBatchNorm2d if frozen else nn.BatchNorm2d,
    )  # fmt: skip
    model = RetinaNet(
        backbone, num_classes, min_size=min(HEIGHT, WIDTH), max_size=max(HEIGHT, WIDTH), score_thresh=0.3,
        nms_thresh=1.0, detections_per_img=100, topk_candidates=200, anchor_generator=_default_anchorgen(),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, misc.FrozenBatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            if frozen:
                module.eps = 0.0  # what torchvision's overwrite_eps does for its COCO weights
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.constant_(parameter, 0.2)  # sixteen blocks add up to features of about 1
    for name, buffer in model.named_buffers():
        if name.endswith("bn3.weight"):
            buffer.fill_(0.2)
    for module in [*model.head.classification_head.modules(), *model.head.regression_head.modules()]:
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
    nn.init.normal_(model.head.classification_head.cls_logits.bias, -2, 1)
    return model.eval()


@pytest.fixture
def make_ours(tmp_path):
    def make(theirs, num_classes: int):
        cfg = load_config(CONFIG, [
            "MODEL.DEVICE", "cpu", "MODEL.RETINANET.NUM_CLASSES", str(num_classes),
            "MODEL.RETINANET.SCORE_THRESH_TEST", "0.3", "MODEL.RETINANET.NMS_THRESH_TEST", "1.0",
            "MODEL.RETINANET.TOPK_CANDIDATES_TEST", "200",
        ])  # fmt: skip
        torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
        checkpointer = build_checkpointer(cfg, build_model(cfg), classes=config_class_names(cfg))
        checkpointer.load(str(tmp_path / "theirs.pth"))
        assert checkpointer.report.missing == ()
        return checkpointer.model.eval()

    return make


@pytest.fixture
def image():
    return torch.randint(256, (3, HEIGHT, WIDTH), dtype=torch.uint8)


@torch.no_grad()
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "batch_norm"])
def test_head_outputs_and_detections_are_equal(make_ours, image, frozen):
    # In double precision: what fp32 rounds differs by the order of sums.
    theirs = make_theirs(4, frozen)
    ours = make_ours(theirs, 4).double()
    theirs = theirs.double()
    images, _ = theirs.transform([image.double() / 255])
    features = list(theirs.backbone(images.tensors).values())
    expected = theirs.head(features)
    prepared = ours.preprocess_image([{"image": image}])
    torch.testing.assert_close(prepared.tensor, images.tensors, rtol=0, atol=1e-5)
    our_features = [ours.backbone(prepared.tensor)[name] for name in ours.head_in_features]
    logits, deltas = ours._transpose_dense_predictions(ours.head(our_features), [4, 4])
    for a, b in zip(our_features, features, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6 * b.abs().max().item())
    anchors = torch.cat([boxes.tensor for boxes in ours.anchor_generator(our_features)])
    (their_anchors,) = theirs.anchor_generator(images, features)
    torch.testing.assert_close(size_first(anchors).double(), their_anchors)
    torch.testing.assert_close(size_first(torch.cat(logits, 1)[0]), expected["cls_logits"][0], rtol=0, atol=1e-4)
    torch.testing.assert_close(size_first(torch.cat(deltas, 1)[0]), expected["bbox_regression"][0], rtol=0, atol=1e-4)
    # The whole detector but NMS, which theirs does on boxes that are clipped to the image and Detectron2 before.
    found, (wanted,) = ours([{"image": image}])[0]["instances"], theirs([image.double() / 255])
    assert len(found) == len(wanted["boxes"]) == 100
    torch.testing.assert_close(found.scores.double(), wanted["scores"], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.pred_boxes.tensor.double(), wanted["boxes"], rtol=0, atol=0.01)
    assert torch.equal(found.pred_classes, wanted["labels"])


def size_first(value):
    """Rows of ours (cell, size, ratio) in the order of theirs (cell, ratio, size)."""
    return value.view(-1, 3, 3, value.shape[-1]).transpose(1, 2).reshape(-1, value.shape[-1])


def small_state(num_classes: int) -> dict:
    """A state dict with torchvision's keys of 2023's file, thin layers, and rows that tell themselves apart."""
    rows = torch.arange(9 * num_classes).float()
    state = {
        "backbone.body.conv1.weight": torch.zeros(1),
        "backbone.body.bn1.running_var": torch.ones(1),
        "backbone.fpn.inner_blocks.2.weight": torch.zeros(1),
        "head.classification_head.cls_logits.weight": rows.view(-1, 1, 1, 1),
        "head.classification_head.cls_logits.bias": rows,
        "head.regression_head.bbox_reg.weight": torch.zeros(36, 1, 1, 1),
        "head.regression_head.bbox_reg.bias": torch.arange(36.0),
    }
    for i in (0, 2, 4, 6):
        state[f"head.classification_head.conv.{i}.weight"] = torch.zeros(1)
    return state


def test_keys_of_the_published_file_are_known():
    converted, manifest = convert_torchvision(small_state(91), 80)
    assert {"head.cls_subnet.0.weight", "head.cls_subnet.6.weight", "backbone.fpn_lateral5.weight"} <= converted.keys()
    assert "backbone.bottom_up.stem.conv1.norm.running_var" in converted
    assert converted["backbone.bottom_up.stem.conv1.norm.running_var"].item() == pytest.approx(1 - 1e-5, abs=1e-7)
    # Anchor 1 of ours (size 0, ratio 1) is 3 of theirs; the 80 classes skip the gaps of the 91.
    bias = converted["head.cls_score.bias"].view(9, 80)
    assert bias[1, 0].item() == 3 * 91 + _COCO_CATEGORIES.index("person")
    assert bias[1, 79].item() == 3 * 91 + _COCO_CATEGORIES.index("toothbrush") == 3 * 91 + 90
    assert converted["head.bbox_pred.bias"].view(9, 4)[1].tolist() == [12, 13, 14, 15]
    assert manifest["classes"][11] == "stop sign" and len(manifest["classes"]) == 80


def test_background_row_is_left_out():
    converted, _ = convert_torchvision(small_state(3), 2)
    assert converted["head.cls_score.bias"].view(9, 2)[0].tolist() == [1, 2]
    assert convert_torchvision(small_state(3), 3)[0]["head.cls_score.bias"].view(9, 3)[0].tolist() == [0, 1, 2]


def test_other_config_is_refused_with_the_file_that_fits(tiny_cfg, tmp_path):
    torch.save(small_state(4), tmp_path / "theirs.pth")
    checkpointer = build_checkpointer(tiny_cfg, build_model(tiny_cfg), classes=None)
    with pytest.raises(SetupError, match="INPUT.FORMAT is RGB in the checkpoint and BGR in the config(?s:.*)FPN_torch"):
        checkpointer.load(str(tmp_path / "theirs.pth"))


def test_resnet_of_imagenet_is_a_backbone(tiny_cfg, tmp_path, image):
    theirs = resnet18(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(SetupError, match="INPUT.FORMAT is RGB in the checkpoint and BGR in the config"):
        build_checkpointer(tiny_cfg, build_model(tiny_cfg), classes=None).load(str(tmp_path / "resnet.pth"))
    tiny_cfg.INPUT.FORMAT = "RGB"
    tiny_cfg.MODEL.PIXEL_MEAN, tiny_cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    checkpointer = build_checkpointer(tiny_cfg, build_model(tiny_cfg), classes=None)
    checkpointer.load(str(tmp_path / "resnet.pth"))
    assert not any("bottom_up" in key for key in checkpointer.report.missing)
    ours = checkpointer.model.eval()
    prepared = ours.preprocess_image([{"image": image}]).tensor
    with torch.no_grad():
        found = ours.backbone.bottom_up(prepared)["res5"]
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(prepared))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_command_writes_what_detectron2_loads(tmp_path, capsys):
    torch.save({"model": small_state(91)}, tmp_path / "theirs.pth")
    assert main(["convert-weights", str(tmp_path / "theirs.pth"), str(tmp_path / "new" / "ours.pth")]) == 0
    assert "ours.pth: 80 classes, for configs/retina_R50_FPN_torchvision.yaml" in capsys.readouterr().out
    saved = torch.load(tmp_path / "new" / "ours.pth", weights_only=True)
    assert saved["model"]["head.cls_score.bias"].shape == (720,) and len(saved["manifest"]["classes"]) == 80


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "cannot be read as weights"),
        ({"a": torch.zeros(1)}, "has not the keys of torchvision's retinanet_resnet50_fpn"),
        ([1, 2], "cannot be read as weights (it holds list, not a state dict)"),
        (None, "cannot be read as weights"),
    ],
)
def test_command_refuses_in_a_sentence(tmp_path, capsys, content, message):
    if isinstance(content, bytes):
        (tmp_path / "bad.pth").write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / "bad.pth")
    assert main(["convert-weights", str(tmp_path / "bad.pth"), str(tmp_path / "ours.pth")]) == 2
    said = capsys.readouterr().err
    assert "bad.pth" in said and message in said and len(said.splitlines()) == 1
    assert not (tmp_path / "ours.pth").exists()


def test_version_2_and_other_anchors_are_refused():
    state = {**small_state(4), "head.classification_head.conv.0.1.weight": torch.zeros(1)}
    with pytest.raises(SetupError, match="retinanet_resnet50_fpn_v2, whose head has group norms"):
        convert_torchvision(state)
    assert "head.classification_head.conv.0.1.weight" in retinanet_resnet50_fpn_v2(weights=None).state_dict()
    state = {**small_state(4), "head.regression_head.bbox_reg.bias": torch.zeros(12)}
    with pytest.raises(SetupError, match="has 3 anchors per location"):
        convert_torchvision(state)
