"""A checkpoint is complete in itself: no training folder, data set, config or loss is needed to use it."""

import contextlib
import os

import pytest
import torch

from retina_cli.main import main
from retina_plugin import RetinaPredictor, get_retina_cfg
from retina_plugin.config.load import load_config
from retina_plugin.data.register import as_paths
from retina_plugin.errors import SetupError
from retina_plugin.training.trained_model import describe_model, evaluation_config, find_weights
from retina_plugin.training.trainer import RetinaTrainer
from retina_plugin.weights.manifest import build_manifest, describes_model

pytest_plugins = ("tiny_detector",)
CLASSES = ["cat", "dog", "emu"]


@pytest.fixture
def own_run(run_folder, tiny_cfg, tmp_path):
    """The run of a set in a folder that is not here, with a loss that nobody has registered."""
    cfg = tiny_cfg.clone()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 128
    cfg.DATASETS.TRAIN_PATH, cfg.DATASETS.VAL_FRACTION = str(tmp_path / "gone"), 0.3
    cfg.MODEL.RETINANET.CLS_LOSS_NAME = "MyLoss"
    (run_folder / "config.yaml").write_text(cfg.dump())
    path = run_folder / "model_final.pth"
    manifest = build_manifest(cfg, RetinaTrainer.build_model(tiny_cfg), CLASSES)
    torch.save({**torch.load(path), "manifest": manifest}, path)
    return run_folder


@pytest.fixture
def picture(make_picture):
    return str(make_picture())


def test_a_checkpoint_finds_the_same_alone_and_in_its_run(own_run, picture, tmp_path, monkeypatch):
    inside = RetinaPredictor(None, own_run)(picture)
    (tmp_path / "elsewhere").mkdir()
    alone = (own_run / "model_final.pth").rename(tmp_path / "elsewhere" / "any.pth")
    monkeypatch.chdir(alone.parent)
    found = RetinaPredictor(None, "any.pth")(picture)
    assert len(found) > 0 and found.class_names == tuple(CLASSES)
    assert (found.boxes == inside.boxes).all() and (found.scores == inside.scores).all()
    assert not os.listdir(alone.parent)[1:]  # a prediction by itself writes nothing


@pytest.mark.parametrize("command", ["predict", "export"])
def test_commands_need_the_checkpoint_alone(own_run, picture, tmp_path, capsys, command):
    (own_run / "config.yaml").unlink()
    words = {
        "predict": [picture, "--output", str(tmp_path / "found"), "--score", "0.01"],
        "export": ["--output", str(tmp_path / "a.safetensors")],
    }
    assert main([command, str(own_run / "model_final.pth"), *words[command]]) == 0, capsys.readouterr().err


def test_what_lies_beside_the_weights_later_changes_nothing(own_run, picture):
    before = RetinaPredictor(None, own_run)(picture)
    cfg = get_retina_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.MODEL.RETINANET.NUM_CLASSES = 32, 7
    (own_run / "config.yaml").write_text(cfg.dump())
    after = RetinaPredictor(None, own_run)(picture)
    assert (after.boxes == before.boxes).all() and (after.classes == before.classes).all()


def test_own_keys_stand_over_the_checkpoints(own_run, picture):
    predictor = RetinaPredictor(None, own_run, opts=["INPUT.MIN_SIZE_TEST", "32"])
    assert predictor.cfg.INPUT.MIN_SIZE_TEST == 32 and predictor.cfg.INPUT.MAX_SIZE_TEST == 128


def test_own_config_with_the_training_folder_and_no_number_of_classes(own_run, picture, tmp_path):
    cfg = load_config(own_run / "config.yaml", ["MODEL.RETINANET.NUM_CLASSES", "0"])
    (tmp_path / "my.yaml").write_text(cfg.dump())
    assert RetinaPredictor(tmp_path / "my.yaml", own_run / "model_final.pth").class_names == tuple(CLASSES)


def test_run_folder_means_its_best_checkpoint_then_its_last(own_run, tmp_path):
    assert find_weights(own_run) == str(own_run / "model_final.pth")
    for name in ("model_0000009.pth", "model_0000019.pth"):
        (own_run / name).write_bytes(b"")
    assert find_weights(own_run) == str(own_run / "model_final.pth")
    (own_run / "model_final.pth").unlink()
    assert find_weights(own_run) == str(own_run / "model_0000019.pth")
    (own_run / "model_best.pth").write_bytes(b"")
    assert find_weights(own_run) == str(own_run / "model_best.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SetupError, match=r"empty has no model_best.pth, model_final.pth"):
        find_weights(tmp_path / "empty")
    with pytest.raises(SetupError, match="none does not exist: give a checkpoint"):
        find_weights(tmp_path / "none")


PERMISSIONS = {
    "MODEL.LOAD": "trust+partial+ignore_manifest",
    "MODEL.TRUST_WEIGHTS": True,
    "DATASETS.ALLOW_OUTSIDE_PATHS": True,
    "OUTPUT_DIR": "elsewhere",
    "MODEL.WEIGHTS": "other.pth",
    "MODEL.DEVICE": "meta",
    "DATASETS.TRAIN_PATH": "/",
}


@pytest.mark.parametrize("in_manifest", [True, False])
@pytest.mark.parametrize("key", PERMISSIONS)
def test_files_of_strangers_give_no_permission(own_run, key, in_manifest):
    path = own_run / "model_final.pth"
    if in_manifest:
        content = torch.load(path)
        content["manifest"]["config"][key] = PERMISSIONS[key]
        torch.save(content, path)
    else:
        content = torch.load(path)
        del content["manifest"]
        torch.save(content, path)
        group, name = key.rsplit(".", 1) if "." in key else ("", key)
        line = f"{name}: {PERMISSIONS[key]}\n"
        text = (own_run / "config.yaml").read_text()
        lines = [row for row in text.splitlines(keepends=True) if not row.strip().startswith(f"{name}:")]
        at = lines.index(f"{group}:\n") + 1 if group else 0
        lines.insert(at, f"  {line}" if group else line)
        (own_run / "config.yaml").write_text("".join(lines))
    cfg, _ = describe_model(own_run)
    fresh = get_retina_cfg()
    expected = {"MODEL.WEIGHTS": str(path)}
    for node, name in (("MODEL", "LOAD"), ("MODEL", "WEIGHTS"), ("DATASETS", "TRAIN_PATH")):
        assert cfg[node][name] == expected.get(f"{node}.{name}", fresh[node][name])
    assert cfg.OUTPUT_DIR == fresh.OUTPUT_DIR and cfg.MODEL.DEVICE != "meta" and not cfg.DATASETS.ALLOW_OUTSIDE_PATHS
    assert not evaluation_config(own_run, None, ["DATASETS.VAL_PATH", str(own_run)]).DATASETS.ALLOW_OUTSIDE_PATHS
    assert not describes_model(key)


@pytest.mark.parametrize("base", ["other.yaml", "../other.yaml", "http://localhost:9/other.yaml"])
def test_base_beside_weights_is_not_followed(own_run, base):
    path = own_run / "model_final.pth"
    content = torch.load(path)
    del content["manifest"]
    torch.save(content, path)
    (own_run / "config.yaml").write_text(f"_BASE_: {base}\nMODEL:\n  LOAD: trust\n")
    for name in ("other.yaml", "../other.yaml"):
        (own_run / name).write_text("MODEL:\n  LOAD: trust\n")
    with pytest.raises(SetupError, match="in _BASE_, which is not followed beside weights"):
        describe_model(own_run)


def test_test_set_is_the_one_of_the_command_line_then_that_of_the_run(own_run, tmp_path):
    cfg = evaluation_config(own_run, None, ["DATASETS.VAL_PATH", str(tmp_path)])
    assert not cfg.DATASETS.VAL_FRACTION and not cfg.DATASETS.TRAIN_PATH
    with pytest.raises(SetupError, match="test set of this run is not here: .*gone. Name one: DATASETS.VAL_PATH"):
        evaluation_config(own_run)
    (tmp_path / "gone").mkdir()
    assert tmp_path / "gone" in as_paths(evaluation_config(own_run).DATASETS.TRAIN_PATH)
    # A config of the user's, whose split is not what the command line names.
    cfg = evaluation_config(own_run, own_run / "config.yaml", ["DATASETS.VAL_JSON", "b.json"])
    assert (cfg.DATASETS.VAL_FRACTION, cfg.DATASETS.VAL_JSON) == (0, "b.json")


def test_read_only_run_is_enough(own_run, picture):
    for path in (*own_run.iterdir(), own_run):
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert len(RetinaPredictor(None, own_run)(picture)) > 0
    finally:
        with contextlib.suppress(OSError):
            own_run.chmod(0o700)
