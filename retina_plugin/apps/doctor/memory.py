"""Estimates the memory of a training step by counting bytes of tensors without data, so no GPU is needed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch.retinanet import RetinaNet

from ...data.dataset_content import DatasetContent
from ...data.resized import resized_sizes

__all__ = ["MemoryNeed", "available_memory", "estimate_memory", "largest_input"]

_FLOAT = 4
# Memory of the loss beside the saved activations, in copies of the logits and deltas: the joined levels, the tensors
# saved for its backward pass, and the gradient. Measured (docs/doctor.md); OHEM also sorts and suppresses all boxes.
_LOSS_COPIES = {"OHEMLoss": 13}
_USUAL_COPIES = 3
# Copies of the trained weights that torch makes while it updates all of them together. AdamW's number is measured
# (docs/doctor.md), SGD's copy is the gradients with weight decay added.
_UPDATE_COPIES = {"SGD": 1, "AdamW": 2}
# Bytes for CUDA itself and the workspaces of cuDNN and cuBLAS; a factor for unused parts of the allocator's blocks.
# Both are assumed, not measured.
CUDA_BYTES, CUDA_SLACK = 700 * 2**20, 1.1
# Bytes for Python and torch, in the training process and in each data loader process.
PROCESS_BYTES = 500 * 2**20


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one process with ``images`` images of ``height`` x ``width`` (padded) pixels."""

    images: int
    height: int
    width: int
    state: int  # weights, their gradients and the optimiser's buffers
    activations: int  # kept by the forward pass for the backward pass
    loss: int
    update: int  # temporary tensors of the optimiser's step, after the activations are freed

    @property
    def total(self) -> int:
        """Peak memory in bytes."""
        return self.state + max(self.activations + self.loss, self.update)


def largest_input(cfg: CfgNode, contents: Sequence[DatasetContent], divisibility: int) -> tuple[int, int]:
    """Height and width of the largest padded batch; Detectron2 batches wide and tall images separately."""
    sizes = np.concatenate([np.zeros((0, 2)), *(resized_sizes(cfg, content.sizes, max) for content in contents)])
    sizes = sizes[np.isfinite(sizes).all(axis=1)]
    if not len(sizes):
        sizes = np.array([[max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN]], dtype=float)
    wide = sizes[:, 0] > sizes[:, 1]
    groups = [sizes[wide], sizes[~wide]] if cfg.DATALOADER.ASPECT_RATIO_GROUPING else [sizes]
    width, height = max((group.max(axis=0) for group in groups if len(group)), key=np.prod)
    pad = max(divisibility, 1)
    return int(-(-height // pad) * pad), int(-(-width // pad) * pad)


def estimate_memory(cfg: CfgNode, model: RetinaNet, height: int, width: int, *, processes: int = 1) -> MemoryNeed:
    """Run backbone and head forward on the "meta" device and count what they keep.

    Args:
        cfg: batch size, optimiser and precision are read from it.
        model: from ``build_detector``; its weights take no memory.
        height, width: size of the padded batch, pixels.
        processes: GPUs that share the batch.
    """
    images = max(1, cfg.SOLVER.IMS_PER_BATCH // processes)
    kept: dict[int, torch.UntypedStorage] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    model.train()
    batch = torch.empty(images, len(cfg.MODEL.PIXEL_MEAN), height, width, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = model.backbone(batch)
        logits, deltas = model.head([features[name] for name in model.head_in_features])
    outputs = sum(output.numel() for output in (*logits, *deltas))
    activations = sum(storage.nbytes() for storage in kept.values()) + batch.nbytes
    half = cfg.SOLVER.AMP.ENABLED
    values = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    copies = 3 if cfg.SOLVER.OPTIMIZER == "AdamW" else 2  # the gradient, and one or two moments
    half_weights = values // 2 if half else 0  # AMP's copy of the weights, two bytes each
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return MemoryNeed(
        images=images,
        height=height,
        width=width,
        state=_FLOAT * (values + copies * trained + half_weights),
        activations=activations // 2 if half else activations,
        loss=_LOSS_COPIES.get(cfg.MODEL.RETINANET.CLS_LOSS_NAME, _USUAL_COPIES) * outputs * _FLOAT,
        update=_UPDATE_COPIES[cfg.SOLVER.OPTIMIZER] * trained * _FLOAT,
    )


def available_memory() -> int:
    """Return the bytes of memory of this machine, or of its container if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total
