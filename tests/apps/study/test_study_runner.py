"""The runner: what is done stays done, what fails is recorded, two runners do not collide."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from retina_plugin.apps.study import runner
from retina_plugin.apps.study.plan import PlannedRun
from retina_plugin.apps.study.runner import StudyRunner, clock, run_is_over

# Stands in for train_net.py: writes what the row's name asks for, and counts its calls.
TRAINING = """
import json, os, signal, sys, time
name, folder = sys.argv[1:]
open(os.path.join(folder, "calls"), "a").write("x")
record = {"status": "finished", "wall_seconds": 2.0, "results": {"bbox": {"AP": 12.5, "AP50": 30.0}}}
write = lambda **facts: json.dump({**record, **facts}, open(os.path.join(folder, "run_record.json"), "w"))
if name == "diverges":
    write(status="diverged", reason="the loss is not finite"); sys.exit(3)
if name == "memory":
    write(status="running"); os.kill(os.getpid(), signal.SIGKILL)
if name == "mistake":
    print("error: DATASETS.TRAIN names nothing"); sys.exit(2)
if name == "crash":
    write(status="failed", reason="boom"); sys.exit(1)
if name == "interrupted":
    sys.exit(130)
if name == "slow":
    time.sleep(30)
open(os.path.join(folder, "model_0000001.pth"), "w"); open(os.path.join(folder, "model_final.pth"), "w")
write()
"""


@pytest.fixture(autouse=True)
def training(monkeypatch):
    monkeypatch.setattr(
        runner, "training_command", lambda run, device: [sys.executable, "-c", TRAINING, run.name, str(run.folder)]
    )


@pytest.fixture
def make_runs(tmp_path):
    def make(*names):
        return [PlannedRun(name, "c.yaml", [], tmp_path / "runs" / f"{name}-1a2b" / "seed0", 0, 10) for name in names]

    return make


def work(runs, *, retry_failed=False, devices=("cpu",)):
    lines = []
    failures = StudyRunner(runs, list(devices), retry_failed=retry_failed, say=lines.append).run()
    return failures, lines


def test_run_that_somebody_interrupts_is_said_and_tried_again(make_runs):
    runs = make_runs("interrupted", "fine")
    failures, lines = work(runs)
    assert failures == 1
    assert "interrupted seed 0: interrupted; the same command goes on with it" in lines
    assert not run_is_over(runs[0], retry_failed=False) and run_is_over(runs[1], retry_failed=False)


def calls(run) -> int:
    return len((run.folder / "calls").read_text())


def record_of(run) -> dict:
    return json.loads((run.folder / "run_record.json").read_text())


def test_finished_run_is_never_run_again(make_runs):
    runs = make_runs("one", "two")
    assert work(runs)[0] == 0
    _, lines = work(runs)
    assert [calls(run) for run in runs] == [1, 1]
    assert lines == ["2 of 2 runs are done; 0 to go on cpu"]


def test_each_ended_run_gets_a_line_that_stands_for_its_folder(make_runs, tmp_path):
    runs = make_runs("a", "crash")
    work(runs)
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [(line["path"], line["record"]["status"]) for line in lines] == [
        ("runs/a-1a2b/seed0", "finished"),
        ("runs/crash-1a2b/seed0", "failed"),
    ]
    shutil.rmtree(tmp_path / "runs")
    assert [run.status for run in runs] == ["finished", "failed"]
    work(runs)
    assert not (tmp_path / "runs").exists()  # nothing was begun again


def test_progress_says_result_and_what_is_left(make_runs):
    _, lines = work(make_runs("one", "two"))
    assert lines[1].startswith("one seed 0: 10 iterations on cpu, log ") and lines[1].endswith("console.txt")
    assert lines[2].startswith("one seed 0: AP 12.5, AP50 30.0 in 2 s; 1 of 2 done, about")
    assert "2 of 2 done, about 0 s left" in lines[4]


def test_intermediate_checkpoints_go_when_a_run_is_finished(make_runs):
    (run,) = make_runs("one")
    work([run])
    assert [path.name for path in run.folder.glob("*.pth")] == ["model_final.pth"]


def test_divergence_is_a_result_and_stops_nothing(make_runs):
    runs = make_runs("diverges", "one")
    failures, lines = work(runs)
    assert failures == 0 and "diverged: the loss is not finite" in lines[2]
    assert record_of(runs[0])["status"] == "diverged" and runs[1].status == "finished"
    assert run_is_over(runs[0], retry_failed=True)


@pytest.mark.parametrize(
    ("name", "reason", "over"),
    [
        ("memory", "killed by signal 9", True),
        ("mistake", "DATASETS.TRAIN names nothing", False),  # the user mends it and calls again
        ("crash", "boom", True),
    ],
)
def test_failure_is_recorded_and_stops_nothing(make_runs, name, reason, over):
    runs = make_runs(name, "one")
    failures, _ = work(runs)
    assert failures == 1 and runs[1].status == "finished"
    assert record_of(runs[0])["status"] == "failed" and reason in record_of(runs[0])["reason"]
    assert run_is_over(runs[0]) is over
    assert not run_is_over(runs[0], retry_failed=True)


def test_mistake_is_told_and_not_the_one_before_it(make_runs):
    (run,) = make_runs("mistake")
    run.folder.mkdir(parents=True)
    earlier = {"status": "failed", "reason": "mended since", "setup_error": True}
    (run.folder / "run_record.json").write_text(json.dumps(earlier))
    _, lines = work([run])
    assert "DATASETS.TRAIN names nothing" in record_of(run)["reason"] and "mended since" not in lines[1]
    assert json.loads((run.folder / "run_record.1.json").read_text()) == earlier


def test_two_runners_do_not_collide(make_runs):
    runs = make_runs("slow", "one")
    runs[0].folder.mkdir(parents=True)
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True)"
        "; time.sleep(30)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(runs[0].folder / ".run.lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        _, lines = work(runs)
    finally:
        other.kill()
    assert "slow seed 0: another runner has it" in lines
    assert not (runs[0].folder / "calls").exists() and runs[1].status == "finished"


def test_several_devices_share_the_runs(make_runs):
    runs = make_runs("one", "two", "three")
    assert work(runs, devices=("0", "1"))[0] == 0
    assert [calls(run) for run in runs] == [1, 1, 1]


def test_terminated_runner_ends_its_training_and_leaves_it_to_be_resumed(make_runs):
    (run,) = make_runs("slow")
    study = StudyRunner([run], ["cpu"], retry_failed=False, say=lambda line: None)

    def terminate_when_running():
        while not (run.folder / "calls").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    import threading

    threading.Thread(target=terminate_when_running, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        study.run()
    assert run.status == "" and not run_is_over(run)


def test_error_of_a_worker_is_raised(make_runs, monkeypatch):
    monkeypatch.setattr(runner, "record_outcome", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work(make_runs("one"))


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (89, "89 s"), (150, "2 min"), (3720, "1 h 02 min")])
def test_clock(seconds, text):
    assert clock(seconds) == text
