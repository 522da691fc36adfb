"""Loading weights: reports, refusals, and Detectron2's own checkpoints."""

import copy
import pickle

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager

from retina_plugin import SetupError, TrainingState
from retina_plugin.weights.checkpointer import RetinaCheckpointer, check_weights


@pytest.fixture
def model(tiny_cfg):
    return build_model(tiny_cfg)


def save(path, state):
    torch.save({"model": state}, path)
    return str(path)


def test_load_reports_all_of_the_model(model, tmp_path):
    path = save(tmp_path / "all.pth", model.state_dict())
    checkpointer = RetinaCheckpointer(model)
    checkpointer.load(path)
    assert checkpointer.report.missing == ()
    assert checkpointer.report.num_loaded == checkpointer.report.num_values
    assert str(checkpointer.report).startswith("100.0 % of the model")


def test_load_reports_what_is_missing(model, tmp_path):
    state = model.state_dict()
    del state["head.bbox_pred.bias"]
    checkpointer = RetinaCheckpointer(model)
    checkpointer.load(save(tmp_path / "part.pth", state))
    assert checkpointer.report.missing == ("head.bbox_pred.bias",)
    assert checkpointer.report.num_values - checkpointer.report.num_loaded == 36  # 9 anchors x 4


def test_empty_path_leaves_no_report(model):
    checkpointer = RetinaCheckpointer(model)
    checkpointer.load("")
    assert checkpointer.report is None


def test_other_shape_is_refused_unless_asked(model, tmp_path, caplog):
    state = copy.deepcopy(model.state_dict())
    state["head.cls_score.bias"] = torch.zeros(5)
    path = save(tmp_path / "other.pth", state)
    with pytest.raises(SetupError, match=r"head.cls_score.bias has shape \(5,\), the config asks for \(27,\)"):
        RetinaCheckpointer(model).load(path)
    assert "Skip loading" not in caplog.text  # the sentence says it, once
    lenient = RetinaCheckpointer(model, rules={"skip_mismatched"})
    lenient.load(path)
    assert "Skip loading parameter 'head.cls_score.bias'" in caplog.text
    assert lenient.report.missing == ("head.cls_score.bias",)


def test_checkpoint_of_another_library_is_named(model, tmp_path):
    torch.save([model.state_dict()], tmp_path / "list.pth")
    with pytest.raises(SetupError, match="list.pth cannot be read as a checkpoint"):
        RetinaCheckpointer(model).load(str(tmp_path / "list.pth"))


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"PK\x03\x04 cut off"], ids=["html", "truncated"])
def test_a_file_that_is_no_checkpoint_is_named(model, tmp_path, content):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(SetupError, match="bad.pth cannot be read as a checkpoint"):
        RetinaCheckpointer(model).load(str(path))


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"model": torch.zeros(3)}], ids=["nothing", "empty", "tensor"])
def test_checkpoint_without_weights_is_told(model, tmp_path, content):
    torch.save(content, tmp_path / "bare.pth")
    with pytest.raises(SetupError, match=r"bare.pth cannot be read as a checkpoint \(it holds no weights\)"):
        RetinaCheckpointer(model).load(str(tmp_path / "bare.pth"))


def test_model_zoo_pickle_loads(model, tmp_path):
    # The model zoo's files: numpy arrays under "model", with "__author__".
    state = {key: value.numpy() + 1 for key, value in model.state_dict().items()}
    with (tmp_path / "zoo.pkl").open("wb") as file:
        pickle.dump({"model": state, "__author__": "test"}, file)
    checkpointer = RetinaCheckpointer(model)
    checkpointer.load(str(tmp_path / "zoo.pkl"))
    assert checkpointer.report.missing == ()
    torch.testing.assert_close(model.head.cls_score.bias.detach().numpy(), state["head.cls_score.bias"])


def test_checkpoints_go_both_ways_with_detectron2(tiny_cfg, tmp_path):
    ours = build_model(tiny_cfg)
    tiny_cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    theirs = build_model(tiny_cfg)
    RetinaCheckpointer(ours, str(tmp_path), training_state=TrainingState(ours)).save("ours")
    DetectionCheckpointer(theirs).load(str(tmp_path / "ours.pth"))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))

    DetectionCheckpointer(theirs, str(tmp_path)).save("theirs")
    checkpointer = RetinaCheckpointer(ours, training_state=TrainingState(ours))
    checkpointer.load(str(tmp_path / "theirs.pth"))
    assert checkpointer.report.missing == ()


def test_weights_that_cannot_be_fetched(tiny_cfg, monkeypatch):
    def refuse(path, **_):
        raise OSError("<urlopen error unreachable>")

    monkeypatch.setattr(PathManager, "get_local_path", refuse)
    tiny_cfg.MODEL.WEIGHTS = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    with pytest.raises(SetupError, match=r"R-50.pkl could not be fetched \(<urlopen error unreachable>\)"):
        check_weights(tiny_cfg.MODEL.WEIGHTS)


@pytest.mark.parametrize(
    ("name", "message"), [("gone.pth", "is not a file"), ("", "is not a file"), ("empty.pth", "is empty")]
)
def test_weights_that_are_not_there(tiny_cfg, tmp_path, name, message):
    (tmp_path / "empty.pth").touch()
    tiny_cfg.MODEL.WEIGHTS = str(tmp_path / name)
    with pytest.raises(SetupError, match=message):
        check_weights(tiny_cfg.MODEL.WEIGHTS)
