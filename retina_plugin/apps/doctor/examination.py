"""Runs the checks of the doctor in order: devices, config, data, image files, anchors, memory, weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from detectron2.config import CfgNode

from ...config.checks import find_config_faults
from ...data.checks import check_sets
from ...data.dataset_content import DatasetContent
from ...data.register import fill_num_classes
from ...data.training_sense import epochs, find_doubtful
from ...errors import SetupError
from ...findings import ERROR, WARNING, Finding, finding
from ...modeling import CLASSIFICATION_LOSS_REGISTRY
from ...prepare import prepare, refuse_unknown_device, refuse_unread_keys, usable_processors
from ...training.trial import find_trial_faults
from ..analysis.anchor_layout import build_detector
from .anchors import examine_anchors
from .environment import find_device_faults, read_devices
from .image_findings import find_image_faults, find_leaks
from .image_scan import ScanCache, scan_images
from .memory import CUDA_BYTES, CUDA_SLACK, PROCESS_BYTES, MemoryNeed, available_memory, estimate_memory, largest_input
from .report import Report
from .statistics import describe_set
from .weights import find_weight_faults

__all__ = ["Plan", "examine"]

# Shares of the available memory. The estimate is within 10 % of the measured peak (docs/doctor.md): above 1.1 the step
# cannot fit.
_MEMORY_FULL, _MEMORY_TIGHT = 1.1, 0.9


@dataclass(frozen=True)
class Plan:
    """Options of an examination."""

    jobs: int = 1
    num_gpus: int = 1
    cache: ScanCache | None = None
    images: bool = True  # decode every file
    fit: bool = True  # propose anchors
    quiet: bool = False


def examine(report: Report, opts: Sequence[str], plan: Plan) -> None:
    """Examine the config file that ``report`` names, and add the findings to ``report``.

    Raises:
        SetupError: the config cannot be loaded, or a process that reads images died.
    """
    cfg = prepare(report.config_file, opts, use="look").cfg
    refuse_unknown_device(cfg.MODEL.DEVICE)
    _devices(report, cfg)
    try:
        fill_num_classes(cfg)
    except SetupError:  # the set that does not tell its classes is found below
        cfg.MODEL.RETINANET.NUM_CLASSES = 0
    report.add(find_config_faults(cfg, [name for name, _ in CLASSIFICATION_LOSS_REGISTRY]))
    try:
        refuse_unread_keys(cfg)
    except SetupError as error:
        report.add([finding("config-value", "MODEL.META_ARCHITECTURE", str(error))])
    contents: dict[str, DatasetContent] = {}
    report.add(check_sets(cfg, contents, train=True, open_images=False))
    train = [contents[name] for name in cfg.DATASETS.TRAIN if name in contents]
    test = [contents[name] for name in cfg.DATASETS.TEST if name in contents]
    if report.makes_sense:  # else an error that is named already would come again in other words
        report.add(find_trial_faults(cfg))
    config_holds = not any(found.check == "config-value" for found in report.findings)
    if config_holds:
        report.add(find_doubtful(cfg, contents))
        report.schedule = {
            "iterations": cfg.SOLVER.MAX_ITER,
            "images_per_batch": cfg.SOLVER.IMS_PER_BATCH,
            "epochs": epochs(cfg, train),
        }
        for name, content in contents.items():
            report.data[name] = describe_set(cfg, content, for_training=name in cfg.DATASETS.TRAIN)
    if plan.images:
        names = [content.file_names[i] for content in contents.values() for i in content.local_files]
        scans = scan_images(names, jobs=plan.jobs, cache=plan.cache, quiet=plan.quiet)
        for content in contents.values():
            report.add(find_image_faults(content, scans))
        for ours in train:
            for theirs in test:
                report.add(find_leaks(ours, theirs, scans))
    if config_holds:
        _detector(report, cfg, train, plan)


def _devices(report: Report, cfg: CfgNode) -> None:
    devices = read_devices()
    deformable = any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE)
    report.add(find_device_faults(devices, cfg.MODEL.DEVICE, deformable=deformable))
    names = [f"{name} ({size / 2**30:.0f} GiB)" for name, size in devices.gpus]
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda") and bool(names)
    fallback = "mps" if devices.has_mps and not cfg.MODEL.DEVICE.startswith("cpu") else "cpu"
    report.environment["device"] = ", ".join(names) if on_gpu else fallback
    report.environment.update(asdict(devices))


def _detector(report: Report, cfg: CfgNode, train: Sequence[DatasetContent], plan: Plan) -> None:
    """Run the checks that need the detector: anchors, memory, weights."""
    try:
        model, layout = build_detector(cfg, report.config_file)
    except SetupError as error:
        report.add([finding("config-value", "MODEL", str(error))])
        return
    if train and any(len(content.boxes) for content in train):
        found, report.anchors = examine_anchors(cfg, layout, train, fit=plan.fit)
        report.add(found)
    height, width = largest_input(cfg, train, layout.size_divisibility)
    try:
        need = estimate_memory(cfg, model, height, width, processes=plan.num_gpus)
    except (RuntimeError, ImportError, ValueError) as error:  # an operator is missing, or fails on "meta" tensors
        report.environment["memory_not_estimated"] = str(error).splitlines()[0]
    else:
        report.add(_memory(report, cfg, need))
    report.add(find_weight_faults(cfg, model))


def _memory(report: Report, cfg: CfgNode, need: MemoryNeed) -> list[Finding]:
    gpus = report.environment["gpus"]
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda") and bool(gpus)
    if on_gpu:
        needed, available = need.total * CUDA_SLACK + CUDA_BYTES, min(size for _, size in gpus)
    else:
        processes = 1 + min(cfg.DATALOADER.NUM_WORKERS, usable_processors())  # workers are limited as in a training
        needed, available = need.total + PROCESS_BYTES * processes, available_memory()
    report.memory = {"needed": round(needed), "available": available, "torch": torch.__version__, **asdict(need)}
    share = needed / available
    if share < _MEMORY_TIGHT:
        return []
    return [
        finding(
            "memory",
            "SOLVER.IMS_PER_BATCH",
            f"A training step with {need.images} images of {need.height} x {need.width} px is estimated at "
            f"{needed / 2**30:.1f} GiB, and there are {available / 2**30:.1f} GiB of "
            f"{'GPU memory' if on_gpu else 'memory'}",
            severity=ERROR if share > _MEMORY_FULL else WARNING,
        )
    ]
