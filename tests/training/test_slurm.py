"""configs/examples/slurm.sh with a srun and a scontrol that only say what they were asked."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "configs/examples/slurm.sh"


@pytest.fixture
def submit(tmp_path):
    """submit(status of srun, content of run_record.json, arguments) -> exit status, what was called."""
    log = tmp_path / "log"
    (tmp_path / "srun").write_text(f'#!/bin/bash\necho srun "$@" >> {log}\nexit $SRUN_STATUS\n')
    (tmp_path / "scontrol").write_text(f'#!/bin/bash\necho scontrol "$@" >> {log}\necho node1\necho node2\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)

    def run(srun_status, record, *arguments):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "run_record.json").write_text(record)
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "SRUN_STATUS": str(srun_status), "SLURM_JOB_ID": "7",
            "SLURM_NNODES": "2", "SLURM_GPUS_PER_NODE": "8", "SLURM_JOB_NODELIST": "node[1-2]",
        }  # fmt: skip
        done = subprocess.run(["bash", str(SCRIPT), *arguments], cwd=tmp_path, env=environment, capture_output=True)
        return done.returncode, log.read_text() if log.exists() else ""

    return run


@pytest.mark.parametrize(
    ("srun_status", "record", "requeued"),
    [
        (0, '"status": "finished"', False),
        (1, '"status": "interrupted"', True),
        (1, '"status": "running"', True),
        (1, '"status": "diverged"', False),
        (1, '"status": "failed"', False),
    ],
)
def test_only_what_was_interrupted_is_queued_again(submit, srun_status, record, requeued):
    status, called = submit(srun_status, record, "--config-file", "a b.yaml", "OUTPUT_DIR", "run", "SEED", "3")
    assert status == srun_status and ("scontrol requeue 7" in called) == requeued
    assert "srun torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 3" in called
    assert "--rdzv-endpoint node1:29500 train_net.py --resume --config-file a b.yaml OUTPUT_DIR run SEED 3" in called


def test_output_dir_must_be_given(submit):
    status, called = submit(0, "", "--config-file", "a.yaml")
    assert status != 0 and "srun" not in called
