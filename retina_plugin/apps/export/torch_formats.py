"""Writes the detector as TorchScript or as a ``torch.export`` program, and the weights as safetensors."""

import io
import warnings
from collections.abc import Mapping

import torch
from torch import nn
from torch.fx.experimental import _config as shape_config

from .detector import ExportableDetector

__all__ = [
    "DYNAMIC_AXES", "EXAMPLE_SHAPE", "exported_program_settings", "to_safetensors", "to_torch_export", "to_torchscript",
]  # fmt: skip

# Shape of the example images: N, 3, H, W. Sizes are all different and no level has a single row or column, because
# the tracer would treat a size of 1, or one equal to another, as a constant.
EXAMPLE_SHAPE = (2, 3, 288, 320)
DYNAMIC_AXES = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}


def exported_program_settings():
    """Context in which torch.export treats a size of 1 (a batch of one, P7 of a small image) like any other size."""
    return shape_config.patch(backed_size_oblivious=True)


@torch.no_grad()
def to_torchscript(detector: ExportableDetector, *, dtype: torch.dtype) -> bytes:
    """Trace the detector; to run it, torch and torchvision (for its NMS) are needed."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # docs/export.md says that torch.jit is deprecated, and Detectron2's asserts on shapes hold at any size.
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*deprecated")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        torch.jit.save(torch.jit.trace(detector, torch.zeros(EXAMPLE_SHAPE, dtype=dtype)), buffer)
    return buffer.getvalue()


def to_torch_export(detector: ExportableDetector, *, dtype: torch.dtype) -> bytes:
    """Export a ``torch.export`` program (.pt2); to run it, torch and torchvision are needed."""
    buffer = io.BytesIO()
    with exported_program_settings(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*create_unbacked_symint.*deprecated")  # torchvision's own
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")  # concerns GPUs
        images = torch.zeros(EXAMPLE_SHAPE, dtype=dtype)
        program = torch.export.export(detector, (images,), dynamic_shapes=(DYNAMIC_AXES,), strict=False)
        torch.export.save(program, buffer)
    return buffer.getvalue()


def to_safetensors(model: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """Serialise the model's state dict, with Detectron2's keys and the metadata in the header."""
    from safetensors.torch import save  # here, because safetensors is optional

    state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    return save(state, metadata=dict(metadata))
