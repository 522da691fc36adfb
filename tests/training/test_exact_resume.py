"""A run that is stopped at any iteration and resumed ends with the bits of one that was not; faults around it."""

import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine.hooks import EvalHook
from detectron2.utils.logger import setup_logger
from weight_files import note_reads

from retina_cli.main import main
from retina_plugin.data.sample.files import make_sample_dataset
from retina_plugin.errors import EXIT_INTERRUPTED, EXIT_SETUP
from retina_plugin.prepare import choose_seed
from retina_plugin.training import determinism
from retina_plugin.training import run as cli
from retina_plugin.training.determinism import IterationSeed, ProcessStates
from retina_plugin.training.folder_lock import FolderLock
from retina_plugin.training.hooks.best_checkpoint import MetricHistory, MissedEvaluation
from retina_plugin.weights.files import find_resume_point, write_checkpoint

ITERATIONS = 4
KILLS = Path(__file__).parents[2] / "tools/faults/kills.py"


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Detectron2 keeps a logger's first output stream, which pytest closes after each test."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "retina_plugin"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    sample = make_sample_dataset(tmp_path_factory.mktemp("sample") / "set", num_train=7, num_val=2)
    yield [
        "--resume", "--config-file", "configs/quickstart.yaml",
        "DATASETS.TRAIN_JSON", str(sample / "annotations/train.json"),
        "DATASETS.TRAIN_IMAGES", str(sample / "images/train"), "DATASETS.TEST", "()",
        "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "INPUT.MIN_SIZE_TRAIN", "(48,56,64)", "SEED", "3",
        "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.WARMUP_ITERS", "2",
        "SOLVER.STEPS", "(3,)", "SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.ACCUMULATION_STEPS", "2",
        "SOLVER.EMA_DECAY", "0.5", "SOLVER.OPTIMIZER", "AdamW",
    ]  # fmt: skip
    DatasetCatalog.remove("custom_train")
    MetadataCatalog.remove("custom_train")


@pytest.fixture
def run(arguments):
    return lambda output, *more: main(["train", *arguments, "OUTPUT_DIR", str(output), *more])


@pytest.fixture(scope="module")
def straight(arguments, tmp_path_factory):
    output = tmp_path_factory.mktemp("straight") / "run"
    assert main(["train", *arguments, "OUTPUT_DIR", str(output)]) == 0
    return output


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        keys = one.keys() - {"WallTimeHook"}
        return keys == other.keys() - {"WallTimeHook"} and all(same(one[key], other[key]) for key in keys)
    return one == other


def assert_same_end(output, straight) -> None:
    """Weights, average, divisor, optimizer, schedule and order."""
    found, expected = (torch.load(run / "model_final.pth", weights_only=True) for run in (output, straight))
    assert expected.keys() == found.keys() >= {"model", "model_ema", "training_state", "trainer", "train_order"}
    assert [key for key in expected if not same(found[key], expected[key])] == []


@pytest.mark.parametrize("workers", ["0", "2"])
def test_stopped_at_every_iteration(run, straight, tmp_path, monkeypatch, workers):
    run_step, stopped = cli.RetinaTrainer.run_step, []

    def step_and_stop(trainer):
        run_step(trainer)
        if trainer.iter not in stopped:
            stopped.append(trainer.iter)
            raise KeyboardInterrupt  # before a checkpoint of this iteration: it is done again

    monkeypatch.setattr(cli.RetinaTrainer, "run_step", step_and_stop)
    for _ in range(ITERATIONS):
        assert run(tmp_path, "DATALOADER.NUM_WORKERS", workers) == EXIT_INTERRUPTED
    assert run(tmp_path, "DATALOADER.NUM_WORKERS", workers) == 0
    assert stopped == list(range(ITERATIONS))
    assert_same_end(tmp_path, straight)


@pytest.fixture
def stopped(straight, tmp_path):
    """The straight run as it was after three iterations."""
    shutil.copytree(straight, tmp_path, dirs_exist_ok=True)
    for name in ("model_0000003.pth", "model_final.pth"):
        (tmp_path / name).unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")


@pytest.mark.usefixtures("stopped")
def test_run_killed_before_its_final_checkpoint_gets_it(run, straight, tmp_path):
    shutil.copy(straight / "model_0000003.pth", tmp_path)  # of the last iteration
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    assert run(tmp_path) == 0
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert_same_end(tmp_path, straight)


@pytest.mark.usefixtures("stopped")
def test_damaged_checkpoint_costs_its_iterations_only(run, straight, tmp_path, capfd):
    damaged = tmp_path / "model_0000002.pth"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    assert run(tmp_path, "SOLVER.KEEP_CHECKPOINTS", "2") == 0
    kept = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert kept == ["model_0000002.pth", "model_0000003.pth", "model_final.pth"]
    said = capfd.readouterr().out
    assert f"{damaged} cannot be resumed from: it is cut short or overwritten in part; going on from {tmp_path}" in said
    assert "Starting training from iteration 2" in said
    assert_same_end(tmp_path, straight)


@pytest.mark.usefixtures("stopped")
def test_resumed_run_without_a_seed_reads_its_checkpoint_once(run, tmp_path, monkeypatch):
    read = note_reads(monkeypatch)
    assert run(tmp_path, "SEED", "-1", "SOLVER.MAX_ITER", "3", "MODEL.WEIGHTS", "gone.pth") == 0
    assert read == ["model_0000002.pth"], "and MODEL.WEIGHTS is not looked for"


@pytest.mark.usefixtures("stopped")
def test_full_disk_ends_the_run_and_leaves_the_previous_checkpoint(run, straight, tmp_path, capfd):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # half of a checkpoint
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "model_0000002.pth").stat().st_size // 2, before[1]))
        assert run(tmp_path) == EXIT_SETUP
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capfd.readouterr()
    assert f"error: {tmp_path}/model_0000003.pth could not be written: File too large" in said.err
    assert f"The last whole checkpoint is {tmp_path}/model_0000002.pth. " in said.err
    assert "Traceback" not in said.err + said.out
    assert not list(tmp_path.glob(".*.part"))
    assert run(tmp_path) == 0
    assert_same_end(tmp_path, straight)


def test_seed_of_a_run_is_taken_over(run, tmp_path):
    assert run(tmp_path, "SEED", "-1", "SOLVER.MAX_ITER", "1") == 0
    seed = torch.load(tmp_path / "model_final.pth", weights_only=True)["train_order"]["seed"]
    assert seed >= 0 and find_resume_point(tmp_path).seed == seed
    assert run(tmp_path, "SEED", "-1", "SOLVER.MAX_ITER", "2") == 0
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["train_order"]["seed"] == seed


def test_killed_runs_resume_exactly():
    # The series of docs/reliability.md, short.
    done = subprocess.run(
        [sys.executable, str(KILLS), "--kills", "2"], capture_output=True, text=True,
        cwd=KILLS.parents[2], env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    record = json.loads(done.stdout)
    assert record["kills"] == 2 and record["runs_bit_identical"] == record["runs_resumed_to_the_end"] > 0


def test_training_takes_the_lock_and_an_evaluation_does_not(arguments, run, tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(FolderLock, "hold", lambda lock, folder: held.append(folder))
    assert run(tmp_path, "SOLVER.MAX_ITER", "1") == 0
    assert set(held) == {tmp_path}
    held.clear()
    scored = [*arguments, "OUTPUT_DIR", str(tmp_path), "DATASETS.TEST", "('custom_train',)"]
    assert main(["train", "--eval-only", *scored]) == 0
    assert held == []


class Recorder(EvalHook):
    """Stands for what evaluates every second iteration."""

    def __init__(self):
        self.seen = []

    def after_step(self):
        if (self.trainer.iter + 1) % 2 == 0:
            self.seen.append(self.trainer.iter)


class Trainer:
    start_iter, max_iter, iter = 4, 9, 4

    class storage:
        iter = 4


@pytest.mark.parametrize(
    ("measured", "start", "seen"),
    [([1], 4, [3]), ([1, 3], 4, []), ([], 0, []), ([1, 3], 5, []), ([1], 8, [7]), ([1], 9, [])],
)
def test_evaluation_that_a_kill_cut_off_is_made_up_for(measured, start, seen):
    history, recorder, trainer = MetricHistory("bbox/AP", None), Recorder(), Trainer()
    for iteration in measured:
        history.add(iteration, 0.5)
    trainer.start_iter = trainer.iter = trainer.storage.iter = start
    trainer._hooks = [recorder]
    hook = MissedEvaluation(history)
    hook.trainer = recorder.trainer = trainer
    hook.before_train()
    assert recorder.seen == seen
    assert trainer.iter == trainer.storage.iter == start


def test_best_is_saved_before_it_is_noted(tmp_path):
    path = tmp_path / "history.json"
    order = []
    history = MetricHistory("bbox/AP", path)
    history.add(1, 0.5, lambda *_: order.append(path.exists()))
    history.add(3, 0.4, lambda *_: order.append("not the best"))
    assert order == [False]
    assert json.loads(path.read_text())["values"] == [[1, 0.5], [3, 0.4]]


def test_draws_of_an_iteration_are_those_of_its_seed_number_and_process(monkeypatch):
    def draw(seed: int, iteration: int, rank: int) -> float:
        hook = IterationSeed(seed)
        hook.trainer = SimpleNamespace(iter=iteration)
        monkeypatch.setattr(determinism.comm, "get_rank", lambda: rank)
        hook.before_step()
        return torch.rand(()).item()

    places = [(7, 2, 0), (7, 3, 0), (8, 2, 0), (7, 2, 1), (2, 7, 0), (0, 7, 2)]
    draws = [draw(*place) for place in places]
    assert draws == [draw(*place) for place in places] and len(set(draws)) == len(places)


def test_states_of_the_processes_are_collected_when_a_checkpoint_is_written():
    calls = []
    state = SimpleNamespace(forget=lambda: calls.append("forget"), gather=lambda: calls.append("gather"))
    hook = ProcessStates(state, 2)
    for iteration in range(5):
        hook.trainer = SimpleNamespace(iter=iteration, max_iter=5)
        hook.before_step()
        hook.after_step()
    assert calls == ["forget", "forget", "gather", "forget", "forget", "gather", "forget", "gather"]


def test_seed_0_is_a_seed_and_a_new_one_is_that_of_all_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(determinism.comm, "shared_random_seed", lambda: 41)
    assert choose_seed(None) == choose_seed(find_resume_point(tmp_path)) == 41
    write_checkpoint(tmp_path / "model_0000001.pth", {"model": {"a": torch.ones(1)}, "train_order": {"seed": 0}})
    assert choose_seed(find_resume_point(tmp_path)) == 0


def test_deterministic_algorithms_warn_where_there_are_none(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, **options: asked.append((mode, options)))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    for environment, expected in (({}, ":4096:8"), ({"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, ":16:8")):
        monkeypatch.setattr(os, "environ", environment)
        determinism.use_deterministic_algorithms()
        assert environment == {"CUBLAS_WORKSPACE_CONFIG": expected}
    assert asked == [(True, {"warn_only": True})] * 2 and not torch.backends.cudnn.benchmark


def test_deterministic_algorithms_are_asked_for(run, tmp_path):
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    assert before == (False, False)
    try:
        assert run(tmp_path, "SOLVER.DETERMINISTIC", "True", "SOLVER.MAX_ITER", "1") == 0
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
