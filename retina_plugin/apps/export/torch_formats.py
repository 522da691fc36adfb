"""The detector as TorchScript and as a ``torch.export`` program, and the weights as safetensors."""

import io
import warnings
from collections.abc import Mapping

import torch
from torch import nn
from torch.fx.experimental import _config as shape_config

from .detector import ExportableDetector

__all__ = [
    "DYNAMIC_AXES",
    "EXAMPLE_SHAPE",
    "exported_program_settings",
    "to_safetensors",
    "to_torch_export",
    "to_torchscript",
]

# Of the images: batch, height, width. Every level of the example has more than one row and column, and the numbers
# differ: a size that is 1, or equal to another, is taken for a constant.
EXAMPLE_SHAPE = (2, 3, 288, 320)
DYNAMIC_AXES = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}


def exported_program_settings():
    """A context in which a dimension of size 1 is no other than the rest: P7 of a small image, a batch of one."""
    return shape_config.patch(backed_size_oblivious=True)


@torch.no_grad()
def to_torchscript(detector: ExportableDetector, *, dtype: torch.dtype) -> bytes:
    """A traced program; needs torch and torchvision (whose NMS it calls) where it runs."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # torch.jit is no longer developed; docs/export.md says so. And Detectron2's asserts on shapes hold at any size.
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*deprecated")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        torch.jit.save(torch.jit.trace(detector, torch.zeros(EXAMPLE_SHAPE, dtype=dtype)), buffer)
    return buffer.getvalue()


def to_torch_export(detector: ExportableDetector, *, dtype: torch.dtype) -> bytes:
    """A ``torch.export`` program (.pt2); needs torch and torchvision where it runs."""
    buffer = io.BytesIO()
    with exported_program_settings(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*create_unbacked_symint.*deprecated")  # torchvision's own
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")  # of interest off the CPU
        images = torch.zeros(EXAMPLE_SHAPE, dtype=dtype)
        program = torch.export.export(detector, (images,), dynamic_shapes=(DYNAMIC_AXES,), strict=False)
        torch.export.save(program, buffer)
    return buffer.getvalue()


def to_safetensors(model: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """The state dict of the model, with Detectron2's keys, and the metadata in the header."""
    from safetensors.torch import save  # here: it may be missing

    state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    return save(state, metadata=dict(metadata))
