"""Checkpoints as files: written whole, checked, passed over if damaged, read once, pruned; a full disk."""

import errno
import os
import zipfile

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from records import damage
from weight_files import note_reads

from retina_plugin.errors import SetupError
from retina_plugin.files import remove_parts, write_durably
from retina_plugin.weights import files
from retina_plugin.weights.checkpointer import RetinaCheckpointer
from retina_plugin.weights.files import (
    ResumePoint,
    find_resume_point,
    last_named,
    name_last,
    prune,
    resume_candidates,
    write_checkpoint,
)


def content(iteration: int = 0) -> dict:
    return {"model": {"weight": torch.arange(500.0)[None] + iteration}, "iteration": iteration}


@pytest.fixture
def run(tmp_path):
    """A folder with the checkpoints of three iterations, the last of them named."""
    for iteration in (1, 3, 5):
        write_checkpoint(tmp_path / f"model_{iteration:07d}.pth", content(iteration))
    name_last(tmp_path, "model_0000005.pth")
    return tmp_path


def names(paths) -> list[str]:
    return [path.name for path in paths]


def flip(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_whole_checkpoint_has_no_damage_and_no_part_is_left(run):
    assert damage(run / "model_0000005.pth") == ""
    assert sorted(names(run.iterdir())) == [
        "last_checkpoint", "model_0000001.pth", "model_0000003.pth", "model_0000005.pth",
    ]  # fmt: skip


def test_flipped_bit_of_a_weight_is_seen_where_torch_sees_none(run):
    path = run / "model_0000005.pth"
    raw = path.read_bytes()
    weights = content(5)["model"]["weight"].numpy().tobytes()
    flip(path, raw.index(weights) + 100)
    assert damage(path).startswith("the checksum of its part")
    changed = torch.load(path, weights_only=True)["model"]["weight"]
    assert not torch.equal(changed, content(5)["model"]["weight"]), "torch.load gives the wrong weights without a word"


@pytest.mark.parametrize(
    ("place", "reason"),
    # Of an entry of the central directory: its CRC-32; the number of its disk, which zipfile does not look at.
    [(16 + 3, "the checksum of its part"), (34, "PytorchStreamReader")],
)
def test_changed_header_is_seen(run, place, reason):
    path = run / "model_0000005.pth"
    flip(path, path.read_bytes().index(b"PK\x01\x02") + place)
    assert damage(path).startswith(reason)


def test_changed_first_byte_does_not_pass_for_a_format_without_checksums(run):
    path = run / "model_0000005.pth"
    flip(path, 0)
    assert damage(path).startswith("the checksum of its part")


class Touch:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_checkpoint_with_more_than_tensors_is_refused_and_not_run(run):
    write_checkpoint(run / "model_0000005.pth", {**content(5), "train_order": {"seed": Touch(run / "made")}})
    with pytest.raises(SetupError, match=r"0000005.pth asks for .*mkdir, which is no part of weights"):
        find_resume_point(run)
    assert not (run / "made").exists()
    find_resume_point(run, trust=True)
    assert (run / "made").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_checkpoint_is_seen(run, share):
    path = run / "model_0000005.pth"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert damage(path)


@pytest.mark.parametrize(
    ("data", "reason"), [(None, "not there"), (b"", "empty"), (bytes(5000), "zeros"), (b"PK\x03\x04zip", "cut short")]
)
def test_what_is_no_checkpoint_at_all(tmp_path, data, reason):
    if data is not None:
        (tmp_path / "a.pth").write_bytes(data)
    assert reason in damage(tmp_path / "a.pth")


def test_format_without_checksums_passes(run):
    torch.save(content(), run / "model_0000005.pth", _use_new_zipfile_serialization=False)
    assert damage(run / "model_0000005.pth") == ""


def test_folder_in_place_of_a_checkpoint_is_passed_over(run):
    (run / "model_0000005.pth").unlink()
    (run / "model_0000005.pth").mkdir()
    assert "it is a folder" in damage(run / "model_0000005.pth")
    assert find_resume_point(run).path.name == "model_0000003.pth"


def test_damaged_checkpoints_are_passed_over_and_named(run):
    found = find_resume_point(run)
    assert (found.path.name, found.passed_over) == ("model_0000005.pth", "")
    flip(run / "model_0000005.pth", 700)
    (run / "model_0000003.pth").unlink()
    found = find_resume_point(run)
    assert found.path.name == "model_0000001.pth" and found.content["iteration"] == 1
    assert "model_0000005.pth cannot be resumed from: the checksum of its part" in found.passed_over
    (run / "model_0000001.pth").write_bytes(b"")
    with pytest.raises(SetupError, match=r"--resume: .*0000005.pth .*; .*0000001.pth .*empty. Start again"):
        find_resume_point(run)
    (run / "model_0000005.pth").unlink()
    with pytest.raises(SetupError, match="model_0000005.pth cannot be resumed from: it is not there"):
        find_resume_point(run)


def test_folder_without_checkpoints_has_no_resume_point(tmp_path):
    assert find_resume_point(tmp_path) is None and find_resume_point(tmp_path / "nowhere") is None


def test_resuming_reads_the_checkpoint_once(run, monkeypatch):
    read_files = note_reads(monkeypatch)
    torch.load(run / "model_0000001.pth", weights_only=True)
    assert read_files == ["model_0000001.pth"], "it sees the reads of torch too"
    flip(run / "model_0000005.pth", 700)
    read_files.clear()
    model = torch.nn.Linear(500, 1, bias=False)
    found = find_resume_point(run)
    RetinaCheckpointer(model, str(run)).resume_or_load("", resume=found)
    assert read_files == ["model_0000005.pth", "model_0000003.pth"]
    assert found.content is None, "the memory is free once the weights are loaded"
    assert torch.equal(model.weight, content(3)["model"]["weight"])


def test_other_processes_get_path_and_seed_and_no_content(run, monkeypatch):
    write_checkpoint(run / "model_0000005.pth", {**content(5), "train_order": {"seed": 41}})
    sent = []
    monkeypatch.setattr(comm, "all_gather", lambda value: sent.append(value) or [value])
    main = find_resume_point(run)
    assert main.content["iteration"] == 5 and sent[0] == ResumePoint(run / "model_0000005.pth", 41, 6, "", None)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "all_gather", lambda value: [sent[0], value])
    monkeypatch.setattr(files, "read_weights", lambda *args, **kwargs: pytest.fail("another process has read it"))
    assert find_resume_point(run) is sent[0]
    monkeypatch.setattr(comm, "all_gather", lambda value: [SetupError("--resume: nothing is whole"), value])
    with pytest.raises(SetupError, match="nothing is whole"):
        find_resume_point(run)


def test_older_checkpoint_that_the_user_names_is_taken(run):
    name_last(run, "model_0000003.pth")
    assert names(resume_candidates(run)) == ["model_0000003.pth", "model_0000001.pth"]
    name_last(run, "mine.pth")
    numbered = ["model_0000005.pth", "model_0000003.pth", "model_0000001.pth"]
    assert names(resume_candidates(run)) == ["mine.pth", *numbered]


@pytest.mark.parametrize(
    "name", [b"", b"\0\0\0\0", b"\xff\xfe", b"../model_0000001.pth"], ids=["empty", "zeros", "no text", "outside"]
)
def test_name_that_is_none_leaves_the_numbered_ones(run, name):
    (run / "last_checkpoint").write_bytes(name)
    assert last_named(run) is None
    assert names(resume_candidates(run)) == ["model_0000005.pth", "model_0000003.pth", "model_0000001.pth"]


def test_final_checkpoint_comes_before_the_numbered_ones(run):
    write_checkpoint(run / "model_final.pth", content(7))
    write_checkpoint(run / "model_best.pth", content(2))
    name_last(run, "model_final.pth")
    assert names(resume_candidates(run))[:2] == ["model_final.pth", "model_0000005.pth"]
    (run / "last_checkpoint").unlink()  # weights that were put there to start from
    assert names(resume_candidates(run))[0] == "model_0000005.pth"


def test_age_goes_by_the_number_and_not_by_its_spelling(run):
    (run / "last_checkpoint").unlink()
    for iteration in (9_999_999, 10_000_000):
        write_checkpoint(run / f"model_{iteration:07d}.pth", content())
    assert names(resume_candidates(run))[:2] == ["model_10000000.pth", "model_9999999.pth"]


@pytest.mark.parametrize(("keep", "left"), [(0, [1, 3, 5, 9]), (1, [5, 9]), (2, [3, 5, 9]), (7, [1, 3, 5, 9])])
def test_prune_keeps_the_newest_and_what_a_later_run_left(run, keep, left):
    write_checkpoint(run / "model_0000009.pth", content())  # of a run that was taken back to iteration 5
    write_checkpoint(run / "model_best.pth", content())
    prune(run, keep, run / "model_0000005.pth")
    assert names(sorted(run.glob("model_0*.pth"))) == [f"model_{i:07d}.pth" for i in left]
    assert (run / "model_best.pth").is_file()
    prune(run, 1, run / "model_final.pth")  # which is none of those with a number
    assert len(list(run.glob("model_0*.pth"))) == len(left)


def test_seed_of_a_run(run):
    assert find_resume_point(run).seed == -1
    write_checkpoint(run / "model_0000005.pth", {**content(), "train_order": None})
    assert find_resume_point(run).seed == -1
    write_checkpoint(run / "model_0000005.pth", {**content(), "train_order": {"seed": 41}})
    assert find_resume_point(run).seed == 41
    write_checkpoint(run / "model_0000003.pth", {**content(), "train_order": {"seed": 40}})
    flip(run / "model_0000005.pth", 700)
    assert find_resume_point(run).seed == 40, "of the checkpoint that the run goes on from"


def full_disk(file, data) -> None:
    file.write(b"some")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_leaves_what_was_there(run, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda data, file: full_disk(file, data))
    before = (run / "model_0000005.pth").read_bytes()
    with pytest.raises(
        SetupError, match=r"model_0000005.pth could not be written: No space left on device. The last whole checkpoint "
        r"is .*model_0000005.pth. The device has \d+ MiB free; 0 MiB were written. Free space, or set SOLVER.KEEP_CHECK"
    ):  # fmt: skip
        write_checkpoint(run / "model_0000005.pth", content(9))
    assert (run / "model_0000005.pth").read_bytes() == before
    assert not list(run.glob(".*"))


@pytest.mark.parametrize(("number", "remedy"), [
    (errno.EDQUOT, "Free space, or set SOLVER.KEEP_CHECKPOINTS"), (errno.EFBIG, "Free space, or set SOLVER"),
    (errno.EACCES, "Fix that, and go on with --resume"),
])  # fmt: skip
def test_remedy_fits_what_refused_the_write(tmp_path, monkeypatch, number, remedy):
    def refuse(data, file):
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise RuntimeError("of torch") from error

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(SetupError, match=rf"could not be written: {os.strerror(number)}\. No checkpoint .*{remedy}"):
        write_checkpoint(tmp_path / "a.pth", content())


def test_failed_write_into_a_file_leaves_the_former_one(tmp_path):
    write_durably(tmp_path / "a", lambda file: file.write(b"first"))
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "a", lambda file: full_disk(file, None))
    assert (tmp_path / "a").read_bytes() == b"first" and names(tmp_path.iterdir()) == ["a"]


def test_parts_of_killed_processes_are_removed(tmp_path):
    for name in (".model_0000001.pth.17.part", ".eval_record.json.18.part", "model_0000001.pth"):
        (tmp_path / name).touch()
    assert names(remove_parts(tmp_path, ".pth")) == [".model_0000001.pth.17.part"]
    assert len(list(tmp_path.iterdir())) == 2


def test_name_is_written_after_the_file(tmp_path, monkeypatch):
    model = torch.nn.Linear(2, 2)
    checkpointer = RetinaCheckpointer(model, str(tmp_path), keep=1)
    checkpointer.save("model_0000001")
    monkeypatch.setattr(torch, "save", lambda data, file: full_disk(file, data))
    with pytest.raises(SetupError):
        checkpointer.save("model_0000003")
    assert last_named(tmp_path).name == "model_0000001.pth"
    monkeypatch.undo()
    checkpointer.save("model_0000003")
    assert names(sorted(tmp_path.glob("*.pth"))) == ["model_0000003.pth"]
    assert last_named(tmp_path).name == "model_0000003.pth"


def test_checkpointer_resumes_from_the_previous_one_and_names_it(tmp_path):
    model = torch.nn.Linear(2, 2)
    trainer = torch.optim.SGD(model.parameters(), lr=0.1)
    for iteration in (1, 3):
        model.bias.data.fill_(iteration)
        RetinaCheckpointer(model, str(tmp_path), trainer=trainer).save(f"model_{iteration:07d}", iteration=iteration)
    flip(tmp_path / "model_0000003.pth", 600)
    evaluated = RetinaCheckpointer(torch.nn.Linear(2, 2), str(tmp_path))
    assert evaluated.resume_or_load("", resume=True)["iteration"] == 1
    assert last_named(tmp_path).name == "model_0000003.pth", "an evaluation changes nothing in the folder of a run"
    resumed = RetinaCheckpointer(model, str(tmp_path), trainer=trainer)
    assert resumed.resume_or_load("", resume=True)["iteration"] == 1
    assert model.bias.tolist() == [1, 1]
    assert last_named(tmp_path).name == "model_0000001.pth", "what is named is whole"
    with pytest.raises(SetupError, match=r"0000003.pth cannot be read as a checkpoint: .*Copy or download it again"):
        resumed.load(str(tmp_path / "model_0000003.pth"))


def test_plain_detectron2_reads_and_writes_them(tmp_path):
    ours, theirs = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    RetinaCheckpointer(ours, str(tmp_path)).save("model_0000001", iteration=1)
    assert DetectionCheckpointer(theirs, str(tmp_path)).resume_or_load("")["iteration"] == 1
    assert torch.equal(ours.weight, theirs.weight)
    DetectionCheckpointer(theirs, str(tmp_path)).save("model_0000002", iteration=2)
    assert damage(tmp_path / "model_0000002.pth") == ""
    assert RetinaCheckpointer(ours, str(tmp_path)).resume_or_load("")["iteration"] == 2


def test_packed_archive_is_refused_before_it_is_unpacked(run, monkeypatch):
    path = run / "model_0000003.pth"
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content + bytes(10**6))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *args: pytest.fail("it was unpacked"))
    assert damage(path).startswith("its parts are larger than the file")
