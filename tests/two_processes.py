"""What runs in two gloo processes for ``test_processes.py``: a spawned process imports this file, without conftest."""

import json
import os
from pathlib import Path

import torch

# Detectron2 v0.6 has to come after retina_plugin.compat.
from retina_plugin import get_retina_cfg  # isort: skip
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import SimpleTrainer, defaults
from detectron2.utils.events import EventStorage
from guarded_training import Training

from retina_cli.main import build_parser
from retina_plugin.training import processes
from retina_plugin.training.accumulation import AccumulatingTrainer
from retina_plugin.training.trainer import RetinaTrainer

DATASET = "five_images"


def under_torchrun(rank: int, job, folder: str, port: int) -> None:
    """Call ``job(folder)`` as one of two processes that torchrun has started."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )  # fmt: skip
    args = build_parser("train").parse_args(["--dist-timeout", "60"])
    processes.start(lambda _: job(Path(folder)), args)


def gradients(cfg, batch: list[dict]) -> dict[str, torch.Tensor]:
    """Of one step from the weights of the seed, in one process or averaged over those of its group."""
    torch.manual_seed(0)
    model = defaults.create_ddp_model(RetinaTrainer.build_model(cfg), broadcast_buffers=False)
    with EventStorage():
        sum(model(batch).values()).backward()
    return {name.removeprefix("module."): p.grad for name, p in model.named_parameters() if p.grad is not None}


def evaluation(cfg, folder: Path) -> dict:
    """Metrics of the detector in ``folder`` on the five images; its detections go into ``cfg.OUTPUT_DIR``."""
    register_coco_instances(DATASET, {}, str(folder / "five.json"), str(folder))
    model = RetinaTrainer.build_model(cfg)
    model.load_state_dict(torch.load(folder / "weights.pth", weights_only=True))
    return RetinaTrainer.test(cfg, model)


def step_and_evaluate(folder: Path) -> None:
    """The half of a batch, then two or three of the five images."""
    rank = torch.distributed.get_rank()
    for name in ("batch", "ema"):
        cfg = get_retina_cfg()
        cfg.merge_from_file(str(folder / f"{name}.yaml"))
        batch = torch.load(folder / "batch.pth", weights_only=False)
        torch.save(gradients(cfg, batch[2 * rank : 2 * rank + 2]), folder / f"gradients_{name}_{rank}.pth")
    cfg.OUTPUT_DIR = str(folder / "two")
    results = evaluation(cfg, folder)
    (folder / f"results_{rank}.json").write_text(json.dumps(results))


def train(cfg, batches: list[list[dict]]) -> Training:
    """Train on each process's half of the batches."""
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    training = Training(cfg, [batch[2 * rank : 2 * rank + 2] for batch in batches])
    training.model = defaults.create_ddp_model(training.model, broadcast_buffers=False)
    training._trainer = (
        AccumulatingTrainer(training.model, training.data_loader, training.optimizer, num_parts=2, amp=False)
        if cfg.SOLVER.ACCUMULATION_STEPS == 2
        else SimpleTrainer(training.model, training.data_loader, training.optimizer)
    )
    training.train(0, len(batches))
    return training


def train_through_faults(folder: Path) -> None:
    """In parts; and, in parts or not, with a NaN in a batch of process 0."""
    rank = torch.distributed.get_rank()
    for name, parts, content in (("parts", 2, "images"), ("NaN in parts", 2, "NaN"), ("NaN", 1, "NaN")):
        cfg = get_retina_cfg()
        cfg.merge_from_file(str(folder / "batch.yaml"))
        cfg.OUTPUT_DIR = str(folder / name)
        cfg.SOLVER.FAULTS.NONFINITE_LOSS, cfg.SOLVER.ACCUMULATION_STEPS = "skip", parts
        batches = torch.load(folder / "batches.pth", weights_only=False)
        if content == "NaN":
            batches[1][0]["image"] = torch.full_like(batches[1][0]["image"], float("nan"), dtype=torch.float32)
        training = train(cfg, batches)
        found = {"skipped": training.guard.num_skipped, "weights": training.model.module.state_dict()}
        torch.save(found, folder / f"{name}_{rank}.pth")
