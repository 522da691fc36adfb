"""``loss-cdf`` on a tiny model: numbers against a full sort, and what is refused."""

import csv

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from retina_plugin import ops
from retina_plugin.apps.analysis import loss_cdf
from retina_plugin.apps.analysis.loss_cdf import measure_spread, predict_logits
from retina_plugin.errors import SetupError
from retina_plugin.training.trainer import RetinaTrainer

pytest_plugins = ("tiny_sets", "tiny_analysis")


def test_logits_and_labels_are_those_of_a_training_step(tiny_cfg, make_batch, monkeypatch):
    model = RetinaTrainer.build_model(tiny_cfg).eval()  # BN is frozen: training differs in nothing else
    (image,) = make_batch((96, 128, 3))
    seen = []
    model.cls_loss.register_forward_hook(lambda module, inputs, output: seen.append(inputs))
    with torch.no_grad(), EventStorage():
        logits, labels = predict_logits(model, image)
        model.train()([image])
    assert (labels < model.num_classes).sum() > 0
    assert torch.equal(labels, seen[0][1][0])
    torch.testing.assert_close(logits, seen[0][0][0])


def test_image_without_objects_gives_negatives_alone(tiny_cfg, make_batch):
    model = RetinaTrainer.build_model(tiny_cfg).eval()
    (image,) = make_batch((64, 64, 0))
    image["instances"] = Instances((64, 64), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long())
    with torch.no_grad():
        logits, labels = predict_logits(model, image)
    assert ops.positive_terms(logits, labels).numel() == 0
    assert ops.negative_terms(logits, labels).numel() == logits.numel() > 0


def test_run_writes_curves_and_numbers_that_agree(tmp_path, run_analysis, weights, capsys):
    numbers = run_analysis(loss_cdf, "--weights", weights, "--gamma", "0,2", pictures=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"loss_cdf.{suffix}" for suffix in ("png", "svg", "csv", "json")
    }
    assert (numbers["images"], numbers["datasets"], numbers["weights"]) == (2, ["tiny_train"], str(weights))
    assert numbers["num_positives"] > 0
    assert numbers["negatives_per_positive"] == numbers["num_negatives"] / numbers["num_positives"]
    # All outputs near the prior: a positive costs CE 4.605 and a negative 0.01005.
    at_start = numbers["by_gamma"]["0"]
    assert at_start["mean_loss_of_a_positive"] == pytest.approx(4.605, rel=0.1)
    assert at_start["mean_loss_of_a_negative"] == pytest.approx(0.01005, rel=0.1)
    with (tmp_path / "out" / "loss_cdf.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    curve = [float(row["cumulative_loss"]) for row in rows if (row["group"], row["gamma"]) == ("negatives", "2")]
    assert len(curve) > 2 and curve == sorted(curve) and (curve[0], curve[-1]) == (0, 1)
    assert f"{numbers['num_negatives']:,} negatives (terms)" in capsys.readouterr().out


def test_numbers_are_those_of_a_full_sort(tiny_cfg, make_batch, monkeypatch):
    model = RetinaTrainer.build_model(tiny_cfg).eval()
    torch.nn.init.normal_(model.head.cls_score.weight, std=0.05)  # spread the logits
    images = make_batch((96, 128, 3), (64, 96, 2))
    monkeypatch.setattr(loss_cdf, "map_images", lambda records, mapper: iter(records))
    spread = measure_spread(model, tiny_cfg, images, [2.0], hardest_class_only=False)
    with torch.no_grad():
        parts = [predict_logits(model, image) for image in images]
    losses = torch.cat([ops.FocalTerm(gamma=2.0)(ops.negative_terms(*part).double()) for part in parts])
    assert spread.negatives.num_examples == len(losses)
    assert 1 < max(part[0].std() for part in parts) and max(part[0].abs().max() for part in parts) < 40
    hardest = losses.sort(descending=True).values[: round(len(losses) * 0.01)].sum() / losses.sum()
    assert spread.negatives.share_of_hardest(2.0, 0.01) == pytest.approx(float(hardest), abs=0.01)


def test_negatives_of_anchors_are_fewer_and_harder(run_analysis, weights):
    terms = run_analysis(loss_cdf, "--weights", weights)
    anchors = run_analysis(loss_cdf, "--weights", weights, "--negatives", "anchors")
    # Two classes: each positive anchor has one negative term, each background anchor two.
    assert anchors["num_negatives"] == (terms["num_negatives"] - terms["num_positives"]) / 2
    assert anchors["by_gamma"]["2"]["mean_loss_of_a_negative"] >= terms["by_gamma"]["2"]["mean_loss_of_a_negative"]


def test_no_weights_are_refused(run_analysis):
    with pytest.raises(SetupError, match="No weights: give a trained checkpoint, by --weights"):
        run_analysis(loss_cdf)


def test_weights_that_are_not_there_are_refused(run_analysis, tmp_path):
    with pytest.raises(SetupError, match="MODEL.WEIGHTS .*none.pth"):
        run_analysis(loss_cdf, "--weights", tmp_path / "none.pth")


def test_checkpoint_that_lacks_the_head_is_refused(run_analysis, weights):
    content = torch.load(weights)
    kept = {key: value for key, value in content["model"].items() if not key.startswith("head.cls_score")}
    torch.save({"model": kept}, weights)
    with pytest.raises(SetupError, match="would have random weights: .* not in it: head.cls_score"):
        run_analysis(loss_cdf, "--weights", weights)


def test_checkpoint_of_a_run_that_diverged_is_refused(run_analysis, weights):
    content = torch.load(weights)
    content["model"]["head.cls_score.bias"].fill_(float("nan"))
    torch.save(content, weights)
    with pytest.raises(SetupError, match="x_t must be finite.* Give a checkpoint of a run that did not diverge"):
        run_analysis(loss_cdf, "--weights", weights)


def test_images_without_positives_are_refused(run_analysis, weights):
    with pytest.raises(SetupError, match="None of the 2 images gives both positive and negative anchors"):
        run_analysis(
            loss_cdf, "--weights", weights, "MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES", "False",
            "MODEL.RETINANET.IOU_THRESHOLDS", "[0.98, 0.99]",
        )  # fmt: skip
