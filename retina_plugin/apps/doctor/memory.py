"""What a training step of a config needs of memory: counted on tensors without data, so no GPU is needed to know."""

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
# What the loss holds beside the saved activations, in copies of the logits and deltas: the levels joined, what its
# backward pass reads, and the gradient. Measured (docs/doctor.md); mining sorts and suppresses every candidate.
_LOSS_COPIES = {"OHEMLoss": 13}
_USUAL_COPIES = 3
# Of the trained weights, while torch updates all of them together. AdamW's is measured (tests/test_doctor.py), SGD's is
# the gradients with weight decay added.
_UPDATE_COPIES = {"SGD": 1, "AdamW": 2}
# CUDA itself, cuDNN's and cuBLAS's workspaces; the allocator's unused rest of its blocks. Guards, not measured.
CUDA_BYTES, CUDA_SLACK = 700 * 2**20, 1.1
# Python, torch and a data loader's process, each of which imports all of it.
PROCESS_BYTES = 500 * 2**20


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one process with ``images`` images of ``height`` x ``width`` (padded) pixels."""

    images: int
    height: int
    width: int
    state: int  # weights, their gradients and the optimiser's buffers
    activations: int  # kept from the forward for the backward pass
    loss: int
    update: int  # the optimiser's own tensors, when the activations are gone

    @property
    def total(self) -> int:
        """The most at once."""
        return self.state + max(self.activations + self.loss, self.update)


def largest_input(cfg: CfgNode, contents: Sequence[DatasetContent], divisibility: int) -> tuple[int, int]:
    """Height and width of the largest padded batch: the largest sides of one orientation (Detectron2 groups by it)."""
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
        cfg: gives batch, optimiser and precision.
        model: of ``build_detector``, whose weights take no memory.
        height, width: of the padded batch, pixels.
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
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return MemoryNeed(
        images=images,
        height=height,
        width=width,
        state=_state_bytes(cfg, model),
        activations=activations // 2 if half else activations,
        loss=_LOSS_COPIES.get(cfg.MODEL.RETINANET.CLS_LOSS_NAME, _USUAL_COPIES) * outputs * _FLOAT,
        update=_UPDATE_COPIES[cfg.SOLVER.OPTIMIZER] * trained * _FLOAT,
    )


def _state_bytes(cfg: CfgNode, model: RetinaNet) -> int:
    values = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    copies = 3 if cfg.SOLVER.OPTIMIZER == "AdamW" else 2  # the gradient, and one or two moments
    half = values // 2 if cfg.SOLVER.AMP.ENABLED else 0  # the weights once more, in two bytes
    return _FLOAT * (values + copies * trained + half)


def available_memory() -> int:
    """Bytes of memory of this machine, or of the container where that has less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return total
