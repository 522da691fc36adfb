"""What runs in two gloo processes for ``test_processes.py``: a spawned process imports this file, without conftest."""

import json
import os
from pathlib import Path

import torch

# Detectron2 v0.6 has to come after retina_plugin.compat.
from retina_plugin import get_retina_cfg  # isort: skip
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.events import EventStorage
from guarded_training import Training

from retina_plugin.errors import RunFault
from retina_plugin.training import processes
from retina_plugin.training.accumulation import AccumulatingTrainer
from retina_plugin.training.arguments import argument_parser
from retina_plugin.training.trainer import RetinaTrainer

DATASET = "five_images"


def under_torchrun(rank: int, job, folder: str, port: int) -> None:
    """Call ``job(folder)`` as one of two processes that torchrun has started."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )  # fmt: skip
    args = argument_parser().parse_args(["--dist-timeout", "60"])
    processes.start(lambda _: job(Path(folder)), args)


def gradients(cfg, batch: list[dict]) -> dict[str, torch.Tensor]:
    """Of one step from the weights of the seed, in one process or averaged over those of its group."""
    torch.manual_seed(0)
    model = processes.create_ddp_model(RetinaTrainer.build_model(cfg), broadcast_buffers=False)
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


def train_with_faults(cfg, batches: list[list[dict]], fits: int) -> Training:
    """Train on each process's half of the batches; at iteration 1 ``fits`` images fit into process 1's memory."""
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    training = Training(cfg, [batch[2 * rank : 2 * rank + 2] for batch in batches])

    def lack(model, inputs):
        if rank == 1 and training.iter == 1 and len(inputs[0]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    training.model.register_forward_pre_hook(lack)
    training.model = processes.create_ddp_model(training.model, broadcast_buffers=False)
    splits = cfg.SOLVER.FAULTS.OUT_OF_MEMORY == "split"
    training._trainer = AccumulatingTrainer(
        training.model, training.data_loader, training.optimizer, num_parts=cfg.SOLVER.ACCUMULATION_STEPS, amp=False,
        before_split=training.guard.begin_again if splits else None, agree=training.guard.agree,
    )  # fmt: skip
    training.train(0, len(batches))
    return training


# Name -> SOLVER.FAULTS, images that fit, what the second batch has.
FAULTS = {
    "split": ("split", "stop", 1, "images"),
    "skip": ("skip", "stop", 0, "images"),
    "parts": ("stop", "stop", 2, "images"),
    "NaN beside it": ("split", "skip", 0, "NaN"),
    "not even one": ("split", "stop", 0, "images"),
}


def train_through_faults(folder: Path) -> None:
    rank = torch.distributed.get_rank()
    for name, (memory, loss, fits, content) in FAULTS.items():
        cfg = get_retina_cfg()
        cfg.merge_from_file(str(folder / "batch.yaml"))
        cfg.OUTPUT_DIR = str(folder / name)
        cfg.SOLVER.FAULTS.OUT_OF_MEMORY, cfg.SOLVER.FAULTS.NONFINITE_LOSS = memory, loss
        cfg.SOLVER.ACCUMULATION_STEPS = 2 if name == "parts" else 1
        batches = torch.load(folder / "batches.pth", weights_only=False)
        if content == "NaN":
            batches[1][0]["image"] = torch.full_like(batches[1][0]["image"], float("nan"), dtype=torch.float32)
        try:
            training = train_with_faults(cfg, batches, fits)
        except RunFault as error:
            found = str(error)
        else:
            guard = training.guard
            weights = training.model.module.state_dict()
            found = {"skipped": guard.num_skipped, "split": guard.num_split, "weights": weights}
        torch.save(found, folder / f"{name}_{rank}.pth")
