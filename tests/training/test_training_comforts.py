"""Whole runs with every comfort on: trained, interrupted, resumed, scored, from the command line."""

import json
import logging
import os
import signal

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.logger import setup_logger

from retina_cli.main import main
from retina_plugin.data.sample.files import make_sample_dataset
from retina_plugin.training import run as cli
from retina_plugin.weights.checkpointer import averaged_state


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Detectron2 keeps a logger's first output stream, which pytest closes after each test."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "retina_plugin"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A run of seconds with everything that is off by default."""
    sample = make_sample_dataset(tmp_path_factory.mktemp("sample") / "set", num_train=10, num_val=4)
    yield [
        "--config-file", "configs/quickstart.yaml",
        "DATASETS.TRAIN_JSON", str(sample / "annotations/train.json"),
        "DATASETS.TRAIN_IMAGES", str(sample / "images/train"),
        "DATASETS.VAL_JSON", str(sample / "annotations/val.json"),
        "DATASETS.VAL_IMAGES", str(sample / "images/val"),
        "MODEL.RETINANET.SCORE_THRESH_TEST", "0.0",
        "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TRAIN", "(48,64)",
        "INPUT.MIN_SIZE_TEST", "64", "SEED", "3",
        # Written for 4 images: 2 have half the rate and twice the iterations, 8.
        "SOLVER.IMS_PER_BATCH", "2", "SOLVER.REFERENCE_BATCH", "4", "SOLVER.MAX_ITER", "4",
        "SOLVER.STEPS", "(3,)", "SOLVER.WARMUP_ITERS", "1", "SOLVER.CHECKPOINT_PERIOD", "50",
        "SOLVER.BASE_LR", "0.002", "SOLVER.ACCUMULATION_STEPS", "2", "SOLVER.EMA_DECAY", "0.5",
        "SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm",
        "SOLVER.EARLY_STOPPING.PATIENCE", "9", "TEST.BEST_METRIC", "validation/total_loss",
        "TEST.LOSS_PERIOD", "1", "TEST.EVAL_PERIOD", "2", "ANALYSIS.LOSS_CDF_PERIOD", "1", "VIS_PERIOD", "4",
    ]  # fmt: skip
    for name in ("custom_train", "custom_val"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture(scope="module")
def straight(arguments, tmp_path_factory):
    output = tmp_path_factory.mktemp("straight") / "run"
    assert main(["train", *arguments, "OUTPUT_DIR", str(output)]) == 0
    return output


def record_of(output, name="run_record.json"):
    return json.loads((output / name).read_text())


def metrics_of(output):
    """Name -> {iteration: value}."""
    values = {}
    for line in (output / "metrics.json").read_text().splitlines():
        entry = json.loads(line)
        for name, value in entry.items():
            values.setdefault(name, {})[entry["iteration"]] = value
    return values


def load(path):
    return torch.load(path, weights_only=True)


def test_everything_at_once(straight):
    record = record_of(straight)
    assert (record["status"], record["iterations"]) == ("finished", 8)
    assert record["losses"].keys() == {"loss_cls", "loss_box_reg", "total_loss"}
    assert record["inference_ms_per_image"] > 0, "the averaged model is what was evaluated"
    names = {path.name for path in straight.glob("*.pth")}
    assert names == {"model_final.pth", "model_best.pth"}
    assert (straight / "last_checkpoint").read_text() == "model_final.pth"
    history = json.loads((straight / "best_metric.json").read_text())
    assert [iteration for iteration, _ in history["values"]] == [1, 3, 5, 7]
    best = load(straight / "model_best.pth")
    assert best["metric"] == {"validation/total_loss": min(value for _, value in history["values"])}
    assert "trainer" not in best and "model_ema" not in best


def test_checkpoint_has_both_weights_and_the_manifest(straight):
    final = load(straight / "model_final.pth")
    average = averaged_state(final["model_ema"])
    assert average.keys() == final["model"].keys()
    assert not torch.equal(average["head.cls_score.weight"], final["model"]["head.cls_score.weight"])
    assert len(final["manifest"]["classes"]) == 10 and final["manifest"]["anchors"]["strides"][0] == 8


def test_tensorboard_has_what_was_asked_for(straight):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(straight))
    events.Reload()
    tags = events.Tags()
    expected = {"total_loss", "lr", "validation/total_loss", "validation/loss_cls", "bbox/AP", "bbox/AP-zero",
                "cls_share/positives", "cls_share/negatives", "positives/p3", "positives/p5"}  # fmt: skip
    assert expected <= set(tags["scalars"])
    assert len(tags["images"]) == 1
    assert len(events.Scalars("bbox/AP-zero")) == 2  # EVAL_PERIOD 2, scaled to 4


def test_interrupted_and_resumed_run_ends_as_the_straight_one(arguments, straight, tmp_path, monkeypatch, capfd):
    run_step = cli.RetinaTrainer.run_step

    def step_and_signal(trainer):
        if trainer.iter == 4:
            os.kill(os.getpid(), signal.SIGINT)
        run_step(trainer)

    output = tmp_path / "run"
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored
    try:
        with monkeypatch.context() as patch:
            patch.setattr(cli.RetinaTrainer, "run_step", step_and_signal)
            assert main(["train", *arguments, "OUTPUT_DIR", str(output)]) == 130
    finally:
        signal.signal(signal.SIGINT, former)
    said = capfd.readouterr().err
    assert "SIGINT: finishing this iteration, then a checkpoint" in said
    assert f"stopped by SIGINT after iteration 5 of 8; {output}/model_0000004.pth is written. Go on with" in said
    assert (record_of(output)["status"], record_of(output)["iterations"]) == ("interrupted", 5)

    assert main(["train", "--resume", *arguments, "OUTPUT_DIR", str(output)]) == 0
    assert record_of(output)["start_iteration"] == 5
    found, expected = load(output / "model_final.pth"), load(straight / "model_final.pth")
    for part in ("model", "model_ema", "training_state"):
        assert found[part].keys() == expected[part].keys()
        assert all(torch.equal(found[part][key], value) for key, value in expected[part].items()), part
    history, wanted = (json.loads((run / "best_metric.json").read_text()) for run in (output, straight))
    assert history == wanted
    assert load(output / "model_best.pth")["metric"] == load(straight / "model_best.pth")["metric"]


def test_sigterm_has_its_own_status(arguments, tmp_path, monkeypatch):
    run_step = cli.RetinaTrainer.run_step

    def step_and_signal(trainer):
        os.kill(os.getpid(), signal.SIGTERM)
        run_step(trainer)

    monkeypatch.setattr(cli.RetinaTrainer, "run_step", step_and_signal)
    assert main(["train", *arguments, "OUTPUT_DIR", str(tmp_path / "run")]) == 143
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000000.pth"


def test_eval_only_scores_what_the_training_evaluated(arguments, straight, tmp_path):
    run = ["--eval-only", *arguments, "OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", str(straight / "model_final.pth")]
    assert main(["train", *run]) == 0
    found, expected = record_of(tmp_path, "eval_record.json"), record_of(straight)
    # Batch norms are folded here, which rounds otherwise: of many scores that are nearly equal some change places.
    for name, value in expected["results"]["bbox"].items():
        assert found["results"]["bbox"][name] == pytest.approx(value, abs=0.5), name
    raw = load(straight / "model_final.pth")
    torch.save({"model": raw["model"]}, tmp_path / "raw.pth")
    torch.save({"model": averaged_state(raw["model_ema"])}, tmp_path / "averaged.pth")
    for name, same in (("averaged", True), ("raw", False)):
        output = tmp_path / name
        run = ["--eval-only", *arguments, "OUTPUT_DIR", str(output), "MODEL.WEIGHTS", str(tmp_path / f"{name}.pth")]
        assert main(["train", *run]) == 0
        detections = (output / "inference_eval_only/custom_val/coco_instances_results.json").read_text()
        expected = (tmp_path / "inference_eval_only/custom_val/coco_instances_results.json").read_text()
        assert (detections == expected) == same


def test_eval_only_with_augmentation(arguments, straight, tmp_path):
    run = ["--eval-only", *arguments, "OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", str(straight / "model_final.pth"),
           "TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48,64)"]  # fmt: skip
    assert main(["train", *run]) == 0
    record = record_of(tmp_path, "eval_record.json")
    assert "AP" in record["results"]["bbox"]


def test_run_without_gain_stops_early_and_does_not_go_on(arguments, tmp_path, capfd):
    output = tmp_path / "run"
    # With hardly any rate the second evaluation is as good as the first.
    run = [*arguments, "OUTPUT_DIR", str(output), "SOLVER.BASE_LR", "1e-9", "SOLVER.EARLY_STOPPING.PATIENCE", "1",
           "SOLVER.EARLY_STOPPING.MIN_DELTA", "0.01"]  # fmt: skip
    assert main(["train", *run]) == 0
    assert "stopped early: no validation/total_loss better than" in capfd.readouterr().out
    record = record_of(output)
    assert (record["status"], record["iterations"]) == ("finished", 4)
    assert record["stopped_early"].startswith("stopped early") and record["results"]
    assert load(output / "model_final.pth")["iteration"] == 3
    assert main(["train", "--resume", *run]) == 0
    assert record_of(output)["start_iteration"] == record_of(output)["iterations"] == 4
