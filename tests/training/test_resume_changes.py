"""A resumed run with another config: a change takes effect and is recorded, or is refused before a file is written."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.solver import build_lr_scheduler
from detectron2.utils.logger import setup_logger
from own_folders import write_yolo

from retina_cli.main import main
from retina_plugin.errors import EXIT_SETUP, SetupError
from retina_plugin.training.build import build_optimizer
from retina_plugin.training.resume import follow_schedule, names_of_trained, resume_optimizer
from retina_plugin.training.trainer import RetinaTrainer

CAT = "DATASETS.CLASSES", "['dog','cat','cow']"


@pytest.fixture(scope="module", autouse=True)
def clean_up():
    yield
    setup_logger.cache_clear()  # its handlers write to the output of these tests
    for name in ("detectron2", "fvcore", "retina_plugin"):
        logging.getLogger(name).handlers.clear()
    for name in ("custom_train",):
        for catalog in (DatasetCatalog, MetadataCatalog):
            catalog.remove(name)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    root = write_yolo(tmp_path_factory.mktemp("set") / "set")
    return [
        "--config-file", "configs/retina_R18_FPN_scratch.yaml", "DATASETS.TRAIN_PATH", str(root),
        "DATASETS.TEST", "()", "MODEL.RETINANET.NUM_CLASSES", "0", "MODEL.DEVICE", "cpu",
        "INPUT.MIN_SIZE_TRAIN", "32", "INPUT.MIN_SIZE_TEST", "32", "DATALOADER.NUM_WORKERS", "0",
        "SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0", "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR",
        "SOLVER.STEPS", "()", "SOLVER.BASE_LR", "0.001", "SOLVER.MAX_ITER", "2", "SEED", "1",
        "MODEL.FPN.OUT_CHANNELS", "64",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(arguments, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *arguments, "OUTPUT_DIR", str(output)]) == 0
    return output


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def content_of(folder: Path) -> dict[str, tuple]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def groups_of(run: Path) -> list[dict]:
    state = torch.load(run / "model_final.pth", weights_only=True)["trainer"]["_trainer"]
    return state["optimizer"]["param_groups"]


def test_rates_and_decays_take_effect_and_are_recorded(arguments, run, capsys):
    keys = {"SOLVER.BASE_LR": 1e-5, "SOLVER.WEIGHT_DECAY": 0.0, "SOLVER.BIAS_LR_FACTOR": 2.0}
    changed = [str(word) for pair in keys.items() for word in pair]
    changed += ["MODEL.WEIGHTS", "other.pth", "MODEL.LOAD", "by_class_name+trust"]
    for end, says in (("3", True), ("4", False)):
        assert main(["train", "--resume", *arguments, "OUTPUT_DIR", str(run), *changed, "SOLVER.MAX_ITER", end]) == 0
        said = capsys.readouterr().out
        assert ("--resume with another SOLVER.BASE_LR: 1e-05 from iteration 2 on, 0.001 so far" in said) == says
        assert "--resume does not read MODEL.WEIGHTS other.pth: the run began with random weights" in said
        assert f"going on at iteration {int(end) - 1} of {end}, learning rate 2e-05" in said
    groups = groups_of(run)
    assert {group["lr"] for group in groups} == {1e-5, 2e-5} and {group["weight_decay"] for group in groups} == {0.0}
    recorded = json.loads((run / "run_record.json").read_text())["difference_from_base"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["MODEL"]["WEIGHTS"] == "" and config["MODEL"]["LOAD"] == "trust"
    assert recorded["SOLVER.BASE_LR"] == 1e-5 and recorded["SOLVER.WEIGHT_DECAY"] == 0.0
    assert {f"SOLVER.{key}": config["SOLVER"][key] for key in ("BASE_LR", "WEIGHT_DECAY", "BIAS_LR_FACTOR")} == keys


def test_a_longer_schedule_goes_on_at_its_own_rate(tiny_cfg):
    tiny_cfg.SOLVER.LR_SCHEDULER_NAME, tiny_cfg.SOLVER.MAX_ITER, tiny_cfg.SOLVER.WARMUP_ITERS = "WarmupCosineLR", 2, 0
    optimizer = build_optimizer(tiny_cfg, RetinaTrainer.build_model(tiny_cfg))
    schedule = build_lr_scheduler(tiny_cfg, optimizer)
    # The state of a run that has ended after one iteration, at the rate 0.
    schedule.load_state_dict({"base_lrs": [0.1 for _ in schedule.base_lrs], "last_epoch": 1})
    optimizer.param_groups[0]["lr"] = 0.0
    follow_schedule(schedule, optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(tiny_cfg.SOLVER.BASE_LR / 2)]


def test_moments_stay_with_their_parameters(tiny_cfg):
    tiny_cfg.SOLVER.OPTIMIZER = "AdamW"
    model = RetinaTrainer.build_model(tiny_cfg)
    before = build_optimizer(tiny_cfg, model)
    names = names_of_trained(model, before)
    parameters = dict(model.named_parameters())
    state = before.state_dict() | {"state": {i: {"exp_avg": parameters[name]} for i, name in enumerate(names)}}
    tiny_cfg.SOLVER.BIAS_LR_FACTOR = 2.0
    after = build_optimizer(tiny_cfg, model)
    order = names_of_trained(model, after)
    assert order != names
    found = resume_optimizer(state, after, order, names)
    assert all(found["state"][i]["exp_avg"] is parameters[name] for i, name in enumerate(order))
    assert {group["lr"] for group in found["param_groups"]} == {0.001, 0.002}
    tiny_cfg.SOLVER.OPTIMIZER = "SGD"
    with pytest.raises(SetupError, match="SOLVER.OPTIMIZER is SGD, and the checkpoint has the state of AdamW"):
        resume_optimizer(state, build_optimizer(tiny_cfg, model), names, names)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["SOLVER.OPTIMIZER", "SGD"], "SOLVER.OPTIMIZER is SGD, and the checkpoint has the state of AdamW"),
        (["MODEL.BACKBONE.FREEZE_AT", "2"], "MODEL.BACKBONE.FREEZE_AT is 2, 0 so far: it freezes backbone.bottom_up"),
        (CAT, "class 2 is cow in the data of 3 classes, none in the run of 2"),
        ([*CAT, "MODEL.LOAD", "skip_mismatched"], "class 2 is cow in the data of 3 classes, none in the run of 2"),
        ([*CAT, "MODEL.LOAD", "by_class_name"], "class 2 is cow in the data of 3 classes, none in the run of 2"),
        (["MODEL.RETINANET.NUM_CONVS", "2"], "MODEL.RETINANET.NUM_CONVS is 2, 4 so far: head.bbox_subnet"),
        (["MODEL.ANCHOR_GENERATOR.BASE_SIZE", "3"], "anchor sizes of level 1"),
        (["MODEL.PIXEL_MEAN", "[1.0,2.0,3.0]"], "MODEL.PIXEL_MEAN is"),
        (["MODEL.RETINANET.PRIOR_PROB", "0.5"], "MODEL.RETINANET.PRIOR_PROB is 0.5, 0.01 so far, which only the start"),
    ],
)
def test_what_cannot_change_is_refused_and_its_remedy_works(
    arguments, trained, tmp_path, monkeypatch, capsys, changed, says
):
    before = content_of(trained)
    resume = [*arguments, "OUTPUT_DIR", str(trained), "SOLVER.MAX_ITER", "3", *changed]
    assert main(["train", "--resume", *resume]) == EXIT_SETUP
    error = capsys.readouterr().err
    assert error.startswith("error: --resume: ") and says in error and "Traceback" not in error
    assert content_of(trained) == before
    weights, load = re.search(r"MODEL.WEIGHTS (\S+?)(?: MODEL.LOAD (\S+?))?\.$", error.strip()).groups()
    remedy = ["OUTPUT_DIR", str(tmp_path / "new"), "MODEL.WEIGHTS", weights, "MODEL.LOAD", load or "strict"]
    monkeypatch.setattr(RetinaTrainer, "train", lambda trainer: None)  # the weights are loaded by then
    assert main(["train", *resume, *remedy]) == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["SOLVER.MAX_ITER", "1"], "SOLVER.MAX_ITER is 1, and the run in {run} has done 2 iterations: set it to 2"),
        (["SOLVER.BASE_LR", "0.1"], "SOLVER.BASE_LR is 0.1, 0.001 so far, but no iteration is left"),
    ],
)
def test_a_change_that_comes_too_late_is_refused(arguments, trained, capsys, changed, says):
    before = content_of(trained)
    assert main(["train", "--resume", *arguments, "OUTPUT_DIR", str(trained), *changed]) == EXIT_SETUP
    assert says.format(run=trained) in capsys.readouterr().err and content_of(trained) == before


def test_a_refused_training_leaves_nothing(arguments, tmp_path, capsys):
    refused = ["OUTPUT_DIR", str(tmp_path / "new"), "MODEL.RESNETS.NUM_GROUPS", "2"]
    assert main(["train", *arguments, *refused]) == EXIT_SETUP
    assert "Must set MODEL.RESNETS.NUM_GROUPS = 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_leaves_what_describes_the_run(arguments, run):
    before = content_of(run)
    other = ["MODEL.WEIGHTS", str(run / "model_final.pth"), "INPUT.MIN_SIZE_TEST", "40", "SOLVER.BASE_LR", "7.0",
             "DATASETS.TEST", "('custom_train',)"]  # fmt: skip
    assert main(["train", "--eval-only", *arguments, "OUTPUT_DIR", str(run), *other]) == 0
    after = content_of(run)
    new = {name for name in after if after[name] != before.get(name)}
    assert before.keys() <= after.keys() and "inference_eval_only/config.yaml" in new
    assert {name for name in new if not name.startswith("inference_eval_only/")} == {"eval_record.json"}
