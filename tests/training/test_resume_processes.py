"""Two processes, stopped and resumed: the same bits as without the stop; and one process that goes on after two."""

import os
import signal

import pytest
import torch
import torch.distributed as dist
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import defaults
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

from retina_plugin.data.register import register_config_datasets
from retina_plugin.data.sample.files import make_sample_dataset
from retina_plugin.training.hooks.interruption import Interrupted
from retina_plugin.training.trainer import RetinaTrainer

ITERATIONS = 4


class StoppedTrainer(RetinaTrainer):
    """Its second process gets SIGTERM in its second iteration."""

    def run_step(self):
        if self.iter == 1 and comm.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        super().run_step()


def train(cfg, folder, *, trainer=RetinaTrainer, iterations=ITERATIONS) -> None:
    cfg = cfg.clone()
    cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER = str(folder), iterations
    one = trainer(cfg)
    one.resume_or_load(resume=True)
    one.train()


def work(rank: int, cfg, folder) -> None:
    """One of two processes: a straight run, and one that is stopped and resumed."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", world_size=2, rank=rank)
    comm.create_local_process_group(2)
    defaults.create_ddp_model = lambda model, **options: DistributedDataParallel(model, **options)  # no device's number
    register_config_datasets(cfg, folder / "sets")
    torch.manual_seed(0)
    train(cfg, folder / "straight")
    torch.manual_seed(0)
    with pytest.raises(Interrupted):
        train(cfg, folder / "stopped", trainer=StoppedTrainer)
    train(cfg, folder / "stopped")
    dist.destroy_process_group()


@pytest.fixture
def folder(tiny_cfg, tmp_path):
    sample = make_sample_dataset(tmp_path / "set", num_train=9, num_val=1)
    tiny_cfg.DATASETS.TRAIN_JSON = str(sample / "annotations/train.json")
    tiny_cfg.DATASETS.TRAIN_IMAGES = str(sample / "images/train")
    tiny_cfg.DATASETS.TEST = ()
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (48, 64)
    tiny_cfg.MODEL.RETINANET.NUM_CLASSES = 10
    tiny_cfg.SOLVER.IMS_PER_BATCH, tiny_cfg.SOLVER.CHECKPOINT_PERIOD = 2, 50
    tiny_cfg.SOLVER.EMA_DECAY = 0.5
    tiny_cfg.DATALOADER.NUM_WORKERS, tiny_cfg.SEED = 0, 1
    yield tmp_path
    for name in ("custom_train", "custom_val"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_two_processes_resume_exactly_and_one_goes_on(tiny_cfg, folder, caplog):
    torch.multiprocessing.spawn(work, (tiny_cfg, folder), nprocs=2)
    found, expected = (
        torch.load(folder / name / "model_final.pth", weights_only=True) for name in ("stopped", "straight")
    )
    assert (folder / "stopped/model_0000001.pth").is_file(), "the run was stopped"
    for part in ("model", "model_ema", "training_state"):
        assert found[part].keys() == expected[part].keys()
        assert all(torch.equal(found[part][key], value) for key, value in expected[part].items()), part
    averages = found["training_state"]["loss_normalizer/of_processes"]
    assert len(averages) == 2 and averages[0] != averages[1], "each process counts alone"

    register_config_datasets(tiny_cfg, folder / "sets")
    train(tiny_cfg, folder / "stopped", iterations=ITERATIONS + 1)
    assert "--resume with 1 processes, 2 before: the images go on where they stopped" in caplog.text
    after = torch.load(folder / "stopped/model_final.pth", weights_only=True)
    assert after["iteration"] == ITERATIONS
    assert after["train_order"]["phases"] == [(0, 1, 2), (ITERATIONS, 2, 1)]
