"""Counts of labels by hand and by the model itself; the initial loss of the fact sheet."""

import pytest
import torch
from detectron2.structures import ImageList

from retina_plugin import ops
from retina_plugin.apps.analysis import imbalance
from retina_plugin.apps.analysis.imbalance import count_labels, initial_loss
from retina_plugin.errors import SetupError
from retina_plugin.ops.anchors import grid_sizes
from retina_plugin.training.trainer import RetinaTrainer

pytest_plugins = ("tiny_sets", "tiny_analysis")

FOCAL = {"value": ops.FocalTerm(gamma=2.0), "alpha": 0.25}


def test_initial_loss_of_the_paper():
    # One 600 x 800 image: 91260 anchors, 80 classes, prior 0.01 (paper Sec. 3.3 and 4.1).
    loss = initial_loss(1, 91259, num_classes=80, prior=0.01, **FOCAL)
    assert loss.of_a_positive == pytest.approx(1.12838, rel=1e-5)
    assert loss.of_a_negative == pytest.approx(7.538e-7, rel=1e-4)
    assert loss.negatives == pytest.approx(5.5, abs=0.05)


def test_initial_loss_without_the_prior():
    loss = initial_loss(0, 91260, num_classes=80, prior=0.5, **FOCAL)
    assert loss.of_a_negative == pytest.approx(0.12997, rel=1e-4)
    assert loss.negatives == pytest.approx(949_000, rel=1e-3)
    assert loss.share_of_positives == 0


def test_initial_cross_entropy_without_alpha():
    loss = initial_loss(2, 10, num_classes=1, prior=0.01, value=ops.FocalTerm(), alpha=None)
    # -log 0.01 and -log 0.99.
    assert (loss.of_a_positive, loss.of_a_negative) == pytest.approx((4.60517, 0.0100503), rel=1e-5)
    assert loss.share_of_positives == pytest.approx(2 * 4.60517 / (2 * 4.60517 + 10 * 0.0100503), rel=1e-5)


def test_initial_loss_is_that_of_the_trained_loss():
    labels = torch.tensor([0, 2, 3, 3, 3, -1])
    logits = torch.full((6, 3), float(torch.logit(torch.tensor(0.01))))
    trained = ops.dense_classification_loss(logits, labels, FOCAL["value"], alpha=0.25)
    loss = initial_loss(2, 3, num_classes=3, prior=0.01, **FOCAL)
    assert loss.positives + loss.negatives == pytest.approx(float(trained), rel=1e-5)


def test_initial_loss_of_no_anchors_is_zero():
    loss = initial_loss(0, 0, num_classes=3, prior=0.01, **FOCAL)
    assert (loss.positives, loss.negatives, loss.share_of_positives) == (0, 0, 0)


def test_count_labels_by_hand():
    assert count_labels(torch.tensor([0, 1, 2, 2, 2, -1, -1]), 2) == [2, 2, 3]
    assert count_labels(torch.zeros(0, dtype=torch.long), 2) == [0, 0, 0]


def test_grid_sizes_of_an_image_of_the_paper():
    # 600 is padded to 608: the 91260 anchors of the fact sheet, 9 a place.
    [sizes] = grid_sizes(torch.tensor([[600, 800]]), [8, 16, 32, 64, 128], size_divisibility=32).tolist()
    assert [tuple(size) for size in sizes] == [(76, 100), (38, 50), (19, 25), (10, 13), (5, 7)]
    assert 9 * sum(height * width for height, width in sizes) == 91260


@pytest.mark.parametrize(("height", "width"), [(1, 1), (97, 129), (128, 64)])
def test_grid_sizes_are_those_of_the_network(tiny_cfg, height, width):
    model = RetinaTrainer.build_model(tiny_cfg).eval()
    divisor = model.backbone.size_divisibility
    images = ImageList.from_tensors([torch.zeros(3, height, width)], divisor)
    with torch.no_grad():
        features = model.backbone(images.tensor)
    found = [tuple(features[name].shape[-2:]) for name in model.head_in_features]
    [sizes] = grid_sizes(
        torch.tensor([[height, width]]), model.anchor_generator.strides, size_divisibility=divisor
    ).tolist()
    assert found == [tuple(size) for size in sizes]


def test_run_counts_what_the_model_labels(tmp_path, run_analysis, tiny_cfg, capsys):
    numbers = run_analysis(imbalance, pictures=True)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"imbalance.{suffix}" for suffix in ("png", "svg", "csv", "json")}
    rows = numbers["anchors_per_image"]
    assert list(rows) == ["P3", "P4", "P5", "P6", "P7", "all"]
    for group in ("positive", "ignored", "negative"):
        assert rows["all"][group] == pytest.approx(sum(rows[f"P{level}"][group] for level in range(3, 8)))
    # The middle size of 60, 90, 120: 40 x 30 images become 120 x 90, padded to 128 x 96.
    places = sum(height * width for height, width in ((12, 16), (6, 8), (3, 4), (2, 2), (1, 1)))
    assert sum(rows["all"].values()) == 9 * places
    assert rows["all"]["positive"] > 0
    assert numbers["negatives_per_positive"] == rows["all"]["negative"] / rows["all"]["positive"]
    assert numbers["initial_loss"]["of_a_positive_term"] == pytest.approx(1.12838, rel=1e-5)
    assert "1.12838 a positive term, 7.538e-07 a negative term" in capsys.readouterr().out


def test_counting_asks_for_no_gpu(run_analysis, caplog):
    run_analysis(imbalance, "MODEL.DEVICE", "cuda")
    assert "MODEL.DEVICE" not in caplog.text


def test_picture_writes_a_zero_where_a_bar_would_be(tmp_path, run_analysis):
    rows = run_analysis(imbalance, pictures=True)["anchors_per_image"]
    num_zeros = sum(count == 0 for row in rows.values() for count in row.values())
    assert num_zeros > 0
    svg = (tmp_path / "out" / "imbalance.svg").read_text()
    assert svg.count(">0</text>") == num_zeros


def test_prior_loss_and_ohem_of_the_config_are_used(run_analysis):
    # FOCAL_LOSS_ALPHA 0.25 applies to OHEM's cross entropy too: 0.25 and 0.75 times log 2.
    loss = run_analysis(
        imbalance, "MODEL.RETINANET.USE_PRIOR", "False", "MODEL.RETINANET.CLS_LOSS_NAME", "OHEMLoss"
    )["initial_loss"]  # fmt: skip
    assert (loss["of_a_positive_term"], loss["of_a_negative_term"]) == pytest.approx((0.173287, 0.519860), rel=1e-5)
    assert "OHEM's selection among them is not included" in loss["note"]


def test_same_seed_gives_the_same_augmented_counts(run_analysis):
    first, second = (run_analysis(imbalance, "--augment", "--seed", seed) for seed in (3, 3))
    assert first == second and first["resize"] == "augment"


def test_network_is_never_run(run_analysis, monkeypatch):
    def refuse(*args):
        raise AssertionError("the network was run")

    monkeypatch.setattr("detectron2.modeling.backbone.fpn.FPN.forward", refuse)
    assert run_analysis(imbalance)["images"] == 2


def test_model_that_is_no_retinanet_is_refused(run_analysis):
    with pytest.raises(SetupError, match="MODEL.META_ARCHITECTURE GeneralizedRCNN is not a RetinaNet"):
        run_analysis(imbalance, "MODEL.META_ARCHITECTURE", "GeneralizedRCNN")


def test_loss_of_no_positives_is_written_as_zero(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(imbalance, "save_figure", lambda figure, stem: figures.append(figure))
    rows = {"all": {"positive": 0, "ignored": 2.0, "negative": 9.0}}
    loss = {"loss": "FocalLoss", "positives_per_image": 0.0, "negatives_per_image": 3.0, "share_of_positives": 0.0}
    imbalance._draw(tmp_path / "imbalance", {"anchors_per_image": rows, "initial_loss": loss})
    right = figures[0].axes[1]
    assert [text.get_text() for text in right.texts] == ["", "100 %", "0"]
