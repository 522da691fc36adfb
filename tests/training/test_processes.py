"""Several processes: the gradients and the evaluation are those of one; torchrun; what cannot be started."""

import json
import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import defaults
from detectron2.engine.launch import _find_free_port
from detectron2.utils import comm
from guarded_training import Training
from torch.multiprocessing import ProcessExitedException
from torch.testing import assert_close
from two_processes import DATASET, evaluation, gradients, step_and_evaluate, train_through_faults, under_torchrun

from retina_cli.main import build_parser
from retina_plugin.errors import RunFault, SetupError
from retina_plugin.training import processes
from retina_plugin.training.trainer import RetinaTrainer

pytest_plugins = ("tiny_detector",)


@pytest.fixture
def two_process_folder(tmp_path, tiny_cfg, make_batch, make_picture):
    """A batch of four images and a detector with a set of five, for two_processes.py."""
    # One size: an image is padded to the largest of its batch, and padding is background.
    torch.save(make_batch(*[(96, 96, boxes) for boxes in (1, 3, 0, 2)]), tmp_path / "batch.pth")
    tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.MAX_SIZE_TEST = 64, 128
    tiny_cfg.DATASETS.TEST = (DATASET,)
    tiny_cfg.DATALOADER.NUM_WORKERS = 0
    normalizer = tiny_cfg.MODEL.RETINANET.NORMALIZER
    normalizer.SYNC = True
    # The average begins with the positives of a process: half of those of the whole batch.
    for normalizer.NAME, normalizer.INITIAL in (("batch", 1.0), ("ema", 5.0)):
        (tmp_path / f"{normalizer.NAME}.yaml").write_text(tiny_cfg.dump())
    _write_set_and_detector(tmp_path, tiny_cfg, make_picture)
    yield tmp_path
    if DATASET in DatasetCatalog:
        DatasetCatalog.remove(DATASET)
        MetadataCatalog.remove(DATASET)


def _write_set_and_detector(folder, cfg, make_picture):
    names = [make_picture(f"{i}.png", seed=i).name for i in range(5)]
    boxes = [[8 * i, 4 * i, 30, 20] for i in range(5)]
    content = {
        "images": [{"id": i + 1, "file_name": name, "width": 80, "height": 60} for i, name in enumerate(names)],
        "annotations": [
            {"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": box, "area": 600, "iscrowd": 0}
            for i, box in enumerate(boxes)
        ],
        "categories": [{"id": i, "name": f"class {i}"} for i in (1, 2, 3)],
    }
    (folder / "five.json").write_text(json.dumps(content))
    model = RetinaTrainer.build_model(cfg)
    # Wide logits instead of the prior's: every image has detections.
    torch.nn.init.normal_(model.head.cls_score.weight, std=0.1)
    torch.nn.init.constant_(model.head.cls_score.bias, -2.0)
    torch.save(model.state_dict(), folder / "weights.pth")


def detections(folder):
    found = json.loads((folder / "inference" / DATASET / "coco_instances_results.json").read_text())
    return sorted(found, key=lambda one: (one["image_id"], -one["score"], one["bbox"]))


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_two_processes_give_the_gradients_and_the_evaluation_of_one(two_process_folder, tiny_cfg):
    folder = two_process_folder
    mp.spawn(under_torchrun, (step_and_evaluate, str(folder), _find_free_port()), nprocs=2)

    batch = torch.load(folder / "batch.pth", weights_only=False)
    normalizer = tiny_cfg.MODEL.RETINANET.NORMALIZER
    for normalizer.NAME, normalizer.INITIAL in (("batch", 1.0), ("ema", 10.0)):
        whole = gradients(tiny_cfg, batch)
        norm = sum(grad.square().sum() for grad in whole.values()).sqrt()
        for rank in (0, 1):
            parts = torch.load(folder / f"gradients_{normalizer.NAME}_{rank}.pth")
            assert parts.keys() == whole.keys() and norm > 0
            difference = sum((parts[name] - whole[name]).square().sum() for name in whole).sqrt()
            assert difference / norm < 1e-5, (normalizer.NAME, rank)
            for name in whole:
                assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6 * norm.item())

    tiny_cfg.OUTPUT_DIR = str(folder / "one")
    results = json.loads(json.dumps(evaluation(tiny_cfg, folder)))
    assert {one["image_id"] for one in detections(folder / "one")} == {1, 2, 3, 4, 5}
    assert detections(folder / "two") == detections(folder / "one")
    assert json.dumps(json.loads((folder / "results_0.json").read_text())) == json.dumps(results)
    assert json.loads((folder / "results_1.json").read_text()) == {}  # of the main process alone


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_parts_and_skipped_steps_of_two_processes(two_process_folder, make_batch, tiny_cfg):
    """A step in parts equals one of the whole batch in one process; a step skipped by one is skipped by both."""
    folder = two_process_folder
    torch.save([make_batch(*[(96, 96, boxes) for boxes in (1, 3, 0, 2)]) for _ in range(3)], folder / "batches.pth")
    mp.spawn(under_torchrun, (train_through_faults, str(folder), _find_free_port()), nprocs=2)

    def trained_on(indices):
        torch.manual_seed(0)
        tiny_cfg.OUTPUT_DIR = str(folder)
        tiny_cfg.MODEL.RETINANET.NORMALIZER.NAME = "batch"
        batches = torch.load(folder / "batches.pth", weights_only=False)
        training = Training(tiny_cfg, [batches[i] for i in indices])
        training.train(0, len(indices))
        return training.model.state_dict()

    whole, without_second = trained_on([0, 1, 2]), trained_on([0, 2])
    for name, expected, skipped in [
        ("parts", whole, 0),
        ("NaN in parts", without_second, 1),
        ("NaN", without_second, 1),
    ]:
        for rank in (0, 1):
            found = torch.load(folder / f"{name}_{rank}.pth", weights_only=True)
            assert found["skipped"] == skipped, (name, rank)
            for key, value in expected.items():
                assert_close(found["weights"][key], value, rtol=1e-5, atol=1e-6, msg=f"{name} {rank} {key}")


# --- What cannot be started ---


@pytest.mark.parametrize(
    ("changes", "gpus", "message"),
    [
        ({"num_gpus": 2}, 0, "--num-gpus 2: this machine shows 0 GPUs. Give 1, or --num-processes"),
        ({"num_gpus": 9}, 8, "--num-gpus 9: this machine shows 8 GPUs. Give 8"),
        ({"num_gpus": 2, "num_processes": 2}, 2, "not both"),
        ({"num_processes": -1}, 0, "--num-processes must be 1 or more, got -1"),
        ({"dist_timeout": 0}, 0, "--dist-timeout must be above 0 seconds, got 0"),
    ],
)
def test_impossible_numbers_of_processes(monkeypatch, changes, gpus, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    args = build_parser("train").parse_args([])  # which refuses some of them itself
    vars(args).update(changes)
    with pytest.raises(SetupError, match=message):
        processes.start(pytest.fail, args)


TORCHRUN = {
    "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "environment", "gpus", "message"),
    [
        (["--num-gpus", "2"], {}, 0, "leave out --num-gpus"),
        (["--num-processes", "2"], {}, 0, "leave out --num-gpus"),
        (["--num-machines", "2"], {}, 0, "leave out --num-gpus"),
        ([], {"WORLD_SIZE": "3"}, 0, "torchrun started 3 processes, 2 of them on this machine"),
        ([], {}, 1, "torchrun --nproc-per-node 2: this machine shows 1 GPUs"),
    ],
)
def test_torchrun_that_cannot_be_joined(monkeypatch, words, environment, gpus, message):
    for name, value in {**TORCHRUN, **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    with pytest.raises(SetupError, match=message):
        processes.start(pytest.fail, build_parser("train").parse_args(words))


@pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), (2, "nccl")])
@pytest.mark.parametrize(
    ("words", "restarts", "resumes"), [([], "0", False), ([], "1", True), (["--eval-only"], "1", False)]
)
@pytest.mark.parametrize("of_agent", ["True", "False"])
def test_torchrun_is_joined_and_a_restart_resumes(monkeypatch, gpus, backend, words, restarts, resumes, of_agent):
    environment = {"TORCHELASTIC_RESTART_COUNT": restarts, "TORCHELASTIC_USE_AGENT_STORE": of_agent}
    for name, value in {**TORCHRUN, **environment}.items():
        monkeypatch.setenv(name, value)
    calls = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda rank: calls.append(("device", rank)))
    store = dist.HashStore()
    monkeypatch.setattr(processes, "rendezvous", lambda url, timeout: iter([(store, 1, 2)]))

    def join(name, *, store, rank, world_size, timeout):
        calls.append((name, timeout, rank, world_size))
        store.set("address", "mine")

    monkeypatch.setattr(processes.dist, "init_process_group", join)
    monkeypatch.setattr(processes.dist, "destroy_process_group", lambda: calls.append("destroyed"))
    monkeypatch.setattr(processes.comm, "create_local_process_group", lambda size: calls.append(("local", size)))
    monkeypatch.setattr(processes.comm, "synchronize", lambda: calls.append("all are there"))
    args = build_parser("train").parse_args(["--dist-timeout", "90", *words])
    processes.start(lambda args: calls.append(args.resume), args)
    named = [call for call in calls if call != ("device", 1)]
    assert named[0] == (backend, timedelta(seconds=90), 1, 2)
    # Not what processes before the restart have left in the agent's store.
    assert store.check([f"restart_{restarts}/address" if of_agent == "True" else "address"])
    assert named[1:] == [("local", 2), "all are there", resumes, "destroyed"]
    assert (("device", 1) in calls) == (gpus > 0)

    def lose(_):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(processes.comm, "get_world_size", lambda: 2)
    with pytest.raises(RunFault, match="lost another one"):
        processes.start(lose, args)
    assert calls[-1] == "destroyed"


@pytest.fixture
def launched(monkeypatch):
    """What Detectron2's launcher is called with, by name."""
    found = {}
    names = ("main", "number")
    monkeypatch.setattr(
        processes, "launch", lambda *args, **named: found.update(zip(names, args, strict=True), **named)
    )
    return found


def test_processes_on_the_cpu_see_no_gpu(monkeypatch, launched):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    processes.start(pytest.fail, build_parser("train").parse_args(["--num-processes", "2"]))
    assert launched["number"] == 2
    assert processes.os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("words", "gpus", "number"), [([], 0, 1), (["--num-gpus", "0"], 0, 1), (["--num-gpus", "2"], 2, 2)]
)
def test_processes_are_launched_as_the_arguments_say(monkeypatch, launched, words, gpus, number):
    monkeypatch.setenv("RANK", "0")  # other launchers set it: alone it is not torchrun's
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    more = ["--num-machines", "3", "--machine-rank", "2", "--dist-url", "tcp://a:1", "--dist-timeout", "90"]
    args = build_parser("train").parse_args([*words, *more])
    processes.start(pytest.fail, args)
    assert launched == {
        "main": processes._run_watched, "number": number, "num_machines": 3, "machine_rank": 2,
        "dist_url": "tcp://a:1", "args": (pytest.fail, args), "timeout": timedelta(seconds=90),
    }  # fmt: skip


# --- A process that is lost ---


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4"),
        RuntimeError("NCCL communicator was aborted on rank 0."),
        RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Socket closed"),
        RuntimeError("Connection reset by peer"),
        RuntimeError("Broken pipe"),
        dist.DistBackendError("communicator was aborted"),
        RuntimeError("Timed out waiting 90000ms for recv operation to complete"),
    ],
)
def test_lost_process_is_told(monkeypatch, error):
    def run(_):
        raise error

    monkeypatch.setattr(processes.comm, "get_world_size", lambda: 2)
    with pytest.raises(RunFault, match="process 0 of 2 lost another one.*at most 90 s.*--resume"):
        processes._run_watched(run, SimpleNamespace(dist_timeout=90.0))
    monkeypatch.undo()
    with pytest.raises(type(error), match="peer|abort|Timed|Socket|Broken"):  # of one process it is another fault
        processes._run_watched(run, SimpleNamespace(dist_timeout=90.0))


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), RunFault("DataLoader worker: Timed out")])
def test_own_error_of_a_process_is_left_alone(monkeypatch, error):
    def run(_):
        raise error

    monkeypatch.setattr(processes.comm, "get_world_size", lambda: 2)
    with pytest.raises(type(error), match="^(mat1|DataLoader)"):
        processes._run_watched(run, SimpleNamespace(dist_timeout=90.0))


@pytest.mark.parametrize(("name", "code", "said"), [
    ("SIGKILL", -9, "SIGKILL (the system does so when memory runs out), and"), ("SIGSEGV", -11, "SIGSEGV, and"),
    (None, 3, "status 3, and"),
])  # fmt: skip
def test_ended_process_is_named(monkeypatch, name, code, said):
    def launch(*_, **__):
        raise ProcessExitedException("gone", error_index=1, error_pid=7, exit_code=code, signal_name=name)

    monkeypatch.setattr(processes, "launch", launch)
    with pytest.raises(RunFault, match=rf"^process 1 was ended by {re.escape(said)}.*--resume"):
        processes.start(pytest.fail, build_parser("train").parse_args([]))


@pytest.mark.parametrize(("device", "expected"), [("cpu", {"device_ids": None}), ("meta", {"device_ids": [0]})])
def test_model_on_the_cpu_is_wrapped_without_the_number_of_a_gpu(monkeypatch, device, expected):
    given = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_local_rank", lambda: 0)
    monkeypatch.setattr(defaults, "DistributedDataParallel", lambda model, **options: given.append(options))
    defaults.create_ddp_model(torch.nn.Linear(1, 1, device=device))
    assert given == [expected]
