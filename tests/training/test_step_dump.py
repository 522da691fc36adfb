"""A training step in a file: what it keeps, what is read of it, and that a replay is that step."""

import os
import zipfile

import pytest
import torch
from detectron2.utils.events import EventStorage

from retina_plugin.apps.cli import replay as replaying
from retina_plugin.apps.cli.replay import main, replay
from retina_plugin.errors import SetupError
from retina_plugin.training import step_dump
from retina_plugin.training.step_dump import (
    batch_of,
    not_finite_inputs,
    random_state,
    read_dump,
    restore_random_state,
    write_dump,
)
from retina_plugin.training.trainer import RetinaTrainer

AVERAGE = 7.0


@pytest.fixture
def dumped(tiny_cfg, make_batch, tmp_path):
    """A step whose losses are finite, of process 2, and the model as it was before."""
    model = RetinaTrainer.build_model(tiny_cfg).train()
    batch = make_batch((64, 64, 2), (64, 96, 1))
    model.loss_normalizer.average.fill_(AVERAGE)
    state = random_state()
    with EventStorage():
        losses = {name: loss.item() for name, loss in model(batch).items()}
    model.loss_normalizer.average.fill_(AVERAGE)
    tiny_cfg.MODEL.DEVICE, tiny_cfg.SOLVER.AMP.ENABLED = "cuda", True  # where it was; it is replayed elsewhere
    path = tmp_path / "bad_steps" / "a.pth"
    write_dump(path, tiny_cfg, model, batch, iteration=4, process=2, losses=losses, random_state=state)
    return path, batch, state


def change(path, **parts) -> None:
    torch.save({**torch.load(path, weights_only=True), **parts}, path)


def test_replay_is_the_step(dumped, capsys):
    path, _, state = dumped
    report = replay(path)
    assert report["same"] and report["then"] == pytest.approx(report["now"], rel=1e-6)
    assert report["gradients"] == [] and report["num_gradients"] > 0
    assert torch.equal(torch.get_rng_state(), state["torch"])  # restored before each part, in which nothing is drawn
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("iteration 4 of process 2\n") and "96 x 64, 1 boxes" in said
    assert "gradients not finite in 0 of" in said and " more" not in said


@pytest.mark.parametrize("change_losses", [
    lambda losses: {**losses, "loss_cls": losses["loss_cls"] * 1.01}, lambda losses: {**losses, "loss_cls": torch.nan},
    lambda losses: {**losses, "loss_more": 0.0}, lambda losses: {"loss_cls": losses["loss_cls"]},
], ids=["other", "not finite", "one more", "one less"])  # fmt: skip
def test_replay_with_other_losses_is_another_step(dumped, capsys, change_losses):
    path = dumped[0]
    change(path, losses=change_losses(read_dump(path)["losses"]))
    assert main([str(path)]) == 1
    assert capsys.readouterr().out.endswith("NOT the same as in the training\n")


def test_batch_in_parts_is_the_same_step_by_its_losses_that_are_not_finite(dumped):
    path = dumped[0]
    change(path, losses={}, in_parts=True)
    assert main([str(path)]) == 0
    change(path, losses={"loss_cls": torch.nan})
    assert main([str(path)]) == 1


def test_packed_dump_is_refused(dumped, capsys, tmp_path):
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(dumped[0]) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as small:
        for part in archive.infolist():
            small.writestr(part.filename, archive.read(part) + bytes(10**5))
    assert main([str(packed)]) == 2
    assert "packed.pth cannot be read as a dump: its parts are larger than the file" in capsys.readouterr().err


def test_infinities_of_either_sign_are_told_apart():
    agree = replaying._agree
    assert agree(torch.inf, torch.inf) and agree(torch.nan, torch.nan) and agree(1.0, 1.0005)
    assert not agree(torch.inf, -torch.inf) and not agree(torch.inf, torch.nan) and not agree(1.0, 1.002)


def test_many_gradients_are_counted():
    report = {"process": 0, "iteration": 1, "now": {}, "then": {}, "images": [], "num_gradients": 9, "same": True}
    said = replaying._format({**report, "gradients": list("abcdefg")})
    assert said.startswith("iteration 1\n") and "in 7 of 9 parameters: a, b, c, d, e and 2 more\n" in said


def test_dump_keeps_the_batch_the_average_and_the_precision(dumped):
    path, batch, _ = dumped
    dump = read_dump(path)
    assert dump["normalizers"]["loss_normalizer"].item() == AVERAGE and dump["amp"] is True
    assert (dump["iteration"], dump["process"]) == (4, 2)
    for found, record in zip(batch_of(dump), batch, strict=True):
        assert {name: found[name] for name in ("file_name", "height", "width")} == {
            name: record[name] for name in ("file_name", "height", "width")
        }
        assert torch.equal(found["image"], record["image"])
        assert found["instances"].image_size == record["instances"].image_size
        assert torch.equal(found["instances"].gt_boxes.tensor, record["instances"].gt_boxes.tensor)
        assert torch.equal(found["instances"].gt_classes, record["instances"].gt_classes)


@pytest.mark.parametrize("facts", [{"image_id": 3}, {"file_name": "a.jpg"}])
def test_image_without_boxes_comes_back(facts):
    record = {"image": torch.zeros(3, 4, 4), **facts}
    (found,) = batch_of({"batch": [step_dump._plain(record)]})
    assert found.keys() == record.keys() and not_finite_inputs(found) == []


def test_inputs_that_are_not_finite_are_named(batch):
    record = batch[0]
    record["instances"].gt_boxes.tensor[1, 2] = torch.nan
    assert not_finite_inputs(record) == ["boxes"]
    record["image"] = record["image"].float().fill_(torch.inf)
    assert not_finite_inputs(record) == ["image", "boxes"]


class Touch:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_dump_is_read_without_running_what_is_in_it(dumped, tmp_path):
    path = dumped[0]
    change(path, losses=Touch(tmp_path / "made"))
    with pytest.raises(SetupError, match="cannot be read as a dump"):
        replay(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [5, sorted(step_dump.KEYS)], ids=["number", "list of keys"])
def test_dump_of_another_content_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(SetupError, match="is no dump of a training step"):
        read_dump(tmp_path / "a.pth")


def test_dump_that_cannot_be_replayed_here_is_refused(dumped, monkeypatch, capsys):
    path = dumped[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([str(path), "--device", "cuda"]) == 2
    assert "--device cuda is not there: leave it out" in capsys.readouterr().err
    change(path, config=read_dump(path)["config"].replace("FocalRetinaNet", "OfTheirOwn"))
    assert main([str(path)]) == 2
    assert "has a part that is not registered here: " in capsys.readouterr().err


def test_dump_that_fails_leaves_no_file(tiny_cfg, tmp_path, monkeypatch):
    def save(content, file):
        file.write(b"some")
        raise OSError("no space")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="no space"):
        write_dump(
            tmp_path / "a.pth", tiny_cfg, torch.nn.Linear(1, 1), [], iteration=0, process=0, losses={}, random_state={}
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("of_cuda", [None, torch.tensor([1])])
def test_state_of_the_gpu_is_restored_where_there_is_one(monkeypatch, of_cuda):
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    restore_random_state({**random_state(), "cuda": of_cuda})
    assert restored == ([] if of_cuda is None else [of_cuda])
