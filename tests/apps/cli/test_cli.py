"""train_net.py from the command line, on a sample set of a few images: train, resume, evaluate, refuse."""

import json
import logging
import os
import shutil
from importlib.metadata import version

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessRaisedException

from retina_cli.main import build_parser, main
from retina_plugin.data.sample.files import make_sample_dataset
from retina_plugin.errors import EXIT_DIVERGED, EXIT_FAULT, EXIT_INTERRUPTED, EXIT_SETUP
from retina_plugin.modeling import CLASSIFICATION_LOSS_REGISTRY, ClassificationLoss
from retina_plugin.training import processes
from retina_plugin.training import run as cli

ITERATIONS = 2


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Detectron2 keeps a logger's first output stream, which pytest closes after each test."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "retina_plugin"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    yield make_sample_dataset(tmp_path_factory.mktemp("sample") / "set", num_train=10, num_val=4)
    for name in ("custom_train", "custom_val"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture(scope="module")
def arguments(sample):
    """Command-line arguments of a run of seconds; further ones go behind."""
    return [
        "--config-file", "configs/quickstart.yaml",
        "DATASETS.TRAIN_JSON", str(sample / "annotations/train.json"),
        "DATASETS.TRAIN_IMAGES", str(sample / "images/train"),
        "DATASETS.VAL_JSON", str(sample / "annotations/val.json"),
        "DATASETS.VAL_IMAGES", str(sample / "images/val"),
        "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MIN_SIZE_TEST", "64",
        "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", str(ITERATIONS),
        "SOLVER.WARMUP_ITERS", "0", "VIS_PERIOD", "1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(arguments, tmp_path_factory):
    """The folder of a finished run; tests that write copy it."""
    output = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *arguments, "OUTPUT_DIR", str(output)]) == 0
    return output


@pytest.fixture
def copy_of_trained(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def record_of(output, name="run_record.json"):
    return json.loads((output / name).read_text())


def test_train_leaves_everything_in_output_dir(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "config_diff.yaml", "metrics.json", "model_final.pth", "run_record.json"} <= names
    assert any(name.startswith("events.out") for name in names)
    assert (trained / "inference/custom_val/coco_instances_results.json").is_file()


def test_run_record_says_what_was_run(trained):
    record = record_of(trained)
    assert record["status"] == "finished" and record["iterations"] == ITERATIONS
    assert record["data"]["sets"]["custom_train"]["images"] == 10
    assert record["difference_from_base"]["SOLVER.MAX_ITER"] == ITERATIONS
    assert record["results"]["bbox"].keys() >= {"AP", "AP50", "AP75", "APs", "APm", "APl"}
    assert record["evaluator"] == {"custom_val": f"hotcoco {version('hotcoco')}"}
    assert record["losses"].keys() == {"loss_cls", "loss_box_reg", "total_loss"}
    assert record["versions"]["torch"] == torch.__version__
    assert record["wall_seconds"] > 0 and record["peak_memory_mb"]["process"] > 100


def test_vis_period_draws_into_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained))
    events.Reload()
    tags = events.Tags()
    assert len(tags["images"]) == 1 and "total_loss" in tags["scalars"]


def test_checkpoint_keeps_the_normalizer(trained):
    checkpoint = torch.load(trained / "model_final.pth", weights_only=True)
    assert checkpoint["training_state"].keys() == {"loss_normalizer"}
    assert not any("normalizer" in key for key in checkpoint["model"])


def seconds_in(checkpoint):
    return torch.load(checkpoint, weights_only=True)["trainer"]["hooks"]["WallTimeHook"]["seconds"]


def test_interrupted_and_resumed_run_ends_with_the_same_weights(arguments, tmp_path, monkeypatch):
    # Several sizes and workers: what Detectron2 draws anew on a resume.
    more = ["SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "INPUT.MIN_SIZE_TRAIN", "(48,56,64,72,80)",
            "SEED", "5", "TEST.EVAL_PERIOD", "0"]  # fmt: skip
    straight, interrupted = tmp_path / "straight", tmp_path / "interrupted"
    assert main(["train", *arguments, *more, "OUTPUT_DIR", str(straight)]) == 0

    def stop_at_3(trainer):
        if trainer.iter == 3:
            raise KeyboardInterrupt
        super(cli.RetinaTrainer, trainer).run_step()

    with monkeypatch.context() as patch:
        patch.setattr(cli.RetinaTrainer, "run_step", stop_at_3)
        assert main(["train", *arguments, *more, "OUTPUT_DIR", str(interrupted)]) == EXIT_INTERRUPTED
    assert 0 < seconds_in(interrupted / "model_0000001.pth") < record_of(interrupted)["wall_seconds"] + 0.05  # rounded
    resumed = [*arguments, *more, "DATALOADER.NUM_WORKERS", "1", "OUTPUT_DIR", str(interrupted)]
    assert main(["train", "--resume", *resumed]) == 0
    assert record_of(interrupted)["start_iteration"] == 2
    spent = [seconds_in(interrupted / f"model_{name}.pth") for name in ("0000001", "0000003")]
    assert spent[0] < spent[1] <= record_of(interrupted)["wall_seconds"] + 0.05
    weights, expected = (
        torch.load(run / "model_final.pth", weights_only=True)["model"] for run in (interrupted, straight)
    )
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_resume_goes_on_where_it_stopped(arguments, copy_of_trained, monkeypatch):
    seen = []
    monkeypatch.setattr(
        cli.RetinaTrainer,
        "run_step",
        lambda trainer: seen.append(trainer.iter) or super(cli.RetinaTrainer, trainer).run_step(),
    )
    longer = ["--resume", *arguments, "SOLVER.MAX_ITER", str(ITERATIONS + 2), "OUTPUT_DIR", str(copy_of_trained)]
    assert main(["train", *longer]) == 0
    assert seen == [ITERATIONS, ITERATIONS + 1]
    assert record_of(copy_of_trained)["start_iteration"] == ITERATIONS
    assert record_of(copy_of_trained, "run_record.1.json")["iterations"] == ITERATIONS, "the first record is kept"
    assert (copy_of_trained / "config.1.yaml").is_file()


def test_resume_with_another_loss_warns(arguments, copy_of_trained, capfd):
    run = ["--resume", *arguments, "OUTPUT_DIR", str(copy_of_trained), "SOLVER.MAX_ITER", str(ITERATIONS + 1)]
    assert main(["train", *run, "MODEL.RETINANET.CLS_LOSS_NAME", "CrossEntropyLoss"]) == 0
    said = capfd.readouterr().out
    assert "--resume with another MODEL.RETINANET.CLS_LOSS_NAME: 'CrossEntropyLoss'" in said
    warned = {line.split(":")[-2].strip() for line in said.splitlines() if "--resume with another" in line}
    assert len(warned) == 1, "a longer schedule is what resuming is for"


def test_resume_of_a_finished_run_evaluates_again(arguments, copy_of_trained, capfd):
    before = record_of(copy_of_trained)["results"]
    assert main(["train", "--resume", *arguments, "OUTPUT_DIR", str(copy_of_trained)]) == 0
    assert "nothing to train" in capfd.readouterr().out
    record = record_of(copy_of_trained)
    assert record["results"] == before
    assert record["iterations"] == record["start_iteration"] == ITERATIONS


def test_a_folder_with_a_run_is_not_overwritten(arguments, trained, capsys):
    before = (trained / "model_final.pth").stat().st_mtime_ns
    assert main(["train", *arguments, "OUTPUT_DIR", str(trained)]) == EXIT_SETUP
    assert "holds a run already. Add --resume" in capsys.readouterr().err
    assert (trained / "model_final.pth").stat().st_mtime_ns == before


def test_eval_only_scores_the_checkpoint(arguments, trained, tmp_path):
    weights = str(trained / "model_final.pth")
    assert main(["train", "--eval-only", *arguments, "OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", weights]) == 0
    record = record_of(tmp_path, "eval_record.json")
    assert record["results"] == record_of(trained)["results"]
    assert record["evaluator"] == record_of(trained)["evaluator"]
    assert record["weights_loaded"].startswith("100.0 % of the model")


def test_eval_only_refuses_random_weights(arguments, tmp_path, capsys):
    assert main(["train", "--eval-only", *arguments, "OUTPUT_DIR", str(tmp_path)]) == EXIT_SETUP
    assert "would score random weights: MODEL.WEIGHTS is empty" in capsys.readouterr().err


def test_eval_only_refuses_a_checkpoint_without_the_head(arguments, trained, tmp_path, capsys):
    state = torch.load(trained / "model_final.pth", weights_only=True)["model"]
    backbone = {key: value for key, value in state.items() if not key.startswith("head.")}
    torch.save({"model": backbone}, tmp_path / "backbone.pth")
    run = ["--eval-only", *arguments, "OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", str(tmp_path / "backbone.pth")]
    assert main(["train", *run]) == EXIT_SETUP
    assert "not in it: head.cls_subnet.0.weight" in capsys.readouterr().err
    assert main(["train", *run, "MODEL.LOAD", "partial"]) == 0


def test_other_class_count_loads_only_when_asked(arguments, trained, tmp_path, sample, capsys):
    annotations = json.loads((sample / "annotations/train.json").read_text())
    kept = [c for c in annotations["categories"] if c["name"] in ("zero", "one")]
    annotations["categories"] = kept
    ids = {c["id"] for c in kept}
    annotations["annotations"] = [a for a in annotations["annotations"] if a["category_id"] in ids]
    (tmp_path / "two.json").write_text(json.dumps(annotations))
    run = [
        *arguments, "OUTPUT_DIR", str(tmp_path / "run"), "MODEL.WEIGHTS", str(trained / "model_final.pth"),
        "DATASETS.TRAIN_JSON", str(tmp_path / "two.json"), "DATASETS.VAL_JSON", "", "DATASETS.VAL_IMAGES", "",
        "DATASETS.TEST", "()", "MODEL.RETINANET.NUM_CLASSES", "0",
    ]  # fmt: skip
    assert main(["train", *run]) == EXIT_SETUP
    assert (
        "head.cls_score.weight has shape (90, 64, 3, 3), the config asks for (18, 64, 3, 3)" in capsys.readouterr().err
    )
    assert main(["train", *run, "MODEL.LOAD", "skip_mismatched"]) == 0


def test_divergence_names_the_loss_and_keeps_the_checkpoint(arguments, tmp_path, capsys):
    run = [*arguments, "OUTPUT_DIR", str(tmp_path), "SOLVER.BASE_LR", "1e20", "SOLVER.MAX_ITER", "9",
           "SOLVER.CHECKPOINT_PERIOD", "1"]  # fmt: skip
    assert main(["train", *run]) == EXIT_DIVERGED
    error = capsys.readouterr().err
    assert "is not finite for every image of the batch" in error and "SOLVER.BASE_LR" in error
    assert "The last checkpoint is" in error
    record = record_of(tmp_path)
    assert record["status"] == "diverged" and "not finite" in record["reason"]
    assert not (tmp_path / "model_final.pth").exists()


def test_divergence_names_the_guilty_image(arguments, tmp_path, capsys, sample):
    @CLASSIFICATION_LOSS_REGISTRY.register()
    class NanOnSixLoss(ClassificationLoss):
        def forward(self, logits, labels, divisor=None):
            return super().forward(logits, labels, divisor) * (float("nan") if (labels == 6).any() else 1)

        def value(self, x_t):
            return torch.relu(1 - x_t)

    try:
        run = [*arguments, "OUTPUT_DIR", str(tmp_path), "MODEL.RETINANET.CLS_LOSS_NAME", "NanOnSixLoss",
               "SOLVER.MAX_ITER", "40"]  # fmt: skip
        assert main(["train", *run]) == EXIT_DIVERGED
    finally:
        del CLASSIFICATION_LOSS_REGISTRY._obj_map["NanOnSixLoss"]
    annotations = json.loads((sample / "annotations/train.json").read_text())
    with_six = {a["image_id"] for a in annotations["annotations"] if a["category_id"] == 7}
    names = {image["file_name"]: image["id"] in with_six for image in annotations["images"]}
    error = capsys.readouterr().err
    named = [name for name in names if name in error]
    assert "loss_cls" in error and named and all(names[name] for name in named)


def test_missing_device_is_replaced(arguments, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    args = build_parser("train").parse_args([*arguments, "OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cuda"])
    args.command = "test"
    cfg, _, _ = cli.set_up(args)
    assert cfg.MODEL.DEVICE == "cpu"
    assert "MODEL.DEVICE cuda is not there: running on cpu" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.WEIGHTS", "no/such.pth"], "MODEL.WEIGHTS no/such.pth is not a file"),
        (["MODEL.RETINANET.NUM_CLASSES", "3"], "NUM_CLASSES"),
        (["MODEL.RETINANET.FOCAL_LOSS_GAMMA", "-1"], "FOCAL_LOSS_GAMMA"),
        (["MODEL.RETINANET.CLS_LOSS_NAME", "FocalLos"], "FocalLoss"),
        (["MODEL.RETINANET.FOCAL_LOSS_GAMA", "2"], "FOCAL_LOSS_GAMMA"),
        (["DATASETS.TRAIN_JSON", "no/such.json"], "no/such.json"),
        (
            ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.CLS_LOSS_NAME", "OHEMLoss"],
            "Set MODEL.META_ARCHITECTURE FocalRetinaNet",
        ),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(arguments, tmp_path, capsys, opts, message):
    output = tmp_path / "run"
    assert main(["train", *arguments, "OUTPUT_DIR", str(output), *opts]) == EXIT_SETUP
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") <= 2
    assert not output.exists()


def test_too_many_gpus_is_an_error(capsys):
    assert main(["train", "--config-file", "configs/quickstart.yaml", "--num-gpus", "99"]) == EXIT_SETUP
    assert "--num-gpus 99" in capsys.readouterr().err


def test_eval_only_of_the_last_checkpoint(arguments, copy_of_trained):
    scored = (copy_of_trained / "inference/custom_val/coco_instances_results.json").stat().st_mtime_ns
    assert main(["train", "--eval-only", "--resume", *arguments, "OUTPUT_DIR", str(copy_of_trained)]) == 0
    assert record_of(copy_of_trained, "eval_record.json")["weights"].endswith("model_final.pth")
    after = (copy_of_trained / "inference/custom_val/coco_instances_results.json").stat().st_mtime_ns
    assert after == scored, "the training's own detections stay"


@pytest.mark.parametrize(
    ("error", "exit_status", "recorded"),
    [(KeyboardInterrupt(), EXIT_INTERRUPTED, "interrupted"), (OSError("disk full"), None, "failed")],
)
def test_record_of_a_run_that_stops(arguments, tmp_path, monkeypatch, error, exit_status, recorded):
    def stop(trainer):
        raise error

    monkeypatch.setattr(cli.RetinaTrainer, "run_step", stop)
    run = [*arguments, "OUTPUT_DIR", str(tmp_path)]
    if exit_status:
        assert main(["train", *run]) == exit_status
    else:
        with pytest.raises(OSError, match="disk full"):
            main(["train", *run])
    record = record_of(tmp_path)
    assert record["status"] == recorded and record["iterations"] == 0


@pytest.mark.parametrize(
    ("text", "exit_status"),
    [
        ("-- Process 1 terminated\nTraceback\nretina_plugin.errors.SetupError: WEIGHTS is gone", EXIT_SETUP),
        ("-- Process 0 terminated\nTraceback\nFloatingPointError: WEIGHTS is gone", EXIT_DIVERGED),
        ("-- Process 0 terminated\nTraceback\nretina_plugin.errors.RunFault: WEIGHTS is gone", EXIT_FAULT),
    ],
)
def test_errors_of_a_spawned_process_are_told_apart(arguments, monkeypatch, capsys, text, exit_status):
    def start(*_, **__):
        raise ProcessRaisedException(text, 0, 1)

    monkeypatch.setattr(processes, "launch", start)
    assert main(["train", *arguments]) == exit_status
    assert capsys.readouterr().err == "error: WEIGHTS is gone\n"


def test_prepare_takes_what_the_machine_has(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 3}, raising=False)
    opts = ["OUTPUT_DIR", str(tmp_path), "SOLVER.AMP.ENABLED", "True", "DATALOADER.NUM_WORKERS", "8"]
    args = build_parser("train").parse_args([*arguments, *opts])
    args.command = "test"
    cfg, _, _ = cli.set_up(args)
    assert not cfg.SOLVER.AMP.ENABLED, "Detectron2's AMP needs CUDA"
    assert cfg.DATALOADER.NUM_WORKERS == 3


def test_a_run_without_a_seed_records_the_one_it_took(trained):
    assert record_of(trained)["seed"] >= 0


ALL_OPTIONS = [
    "--config-file", "a.yaml", "--resume", "--eval-only", "--num-gpus", "2", "--num-machines", "3",
    "--machine-rank", "1", "--dist-url", "tcp://host:1", "SEED", "-1",
]  # fmt: skip


@pytest.mark.parametrize("words", [[], ALL_OPTIONS], ids=["defaults", "all"])
def test_arguments_are_those_of_detectron2(words):
    ours, theirs = build_parser("train"), default_argument_parser()
    added = {"num_processes": 0, "dist_timeout": DEFAULT_TIMEOUT.total_seconds(), "verbose": False}
    assert vars(ours.parse_args(words)) == {**vars(theirs.parse_args(words)), **added}
    options = [[action.option_strings for action in parser._actions] for parser in (ours, theirs)]
    own = (["--num-processes"], ["--dist-timeout"], ["--verbose"])
    assert [option for option in options[0] if option not in own] == options[1]
    assert len(options[1]) == 9  # with --help
