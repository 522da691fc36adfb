"""Exports the detector as an ONNX model with dynamic image size and batch, NMS inside, and metadata."""

import contextlib
import copy
import io
import logging
from collections.abc import Mapping

import onnx
import torch

from .detector import ExportableDetector
from .onnx_operator import OPERATOR_TRANSLATIONS, keep_by_operator
from .torch_formats import DYNAMIC_AXES, EXAMPLE_SHAPE, exported_program_settings

__all__ = ["to_onnx"]

# The oldest opset that torch's exporter writes without conversion, so that older runtimes can read the file.
OPSET = 18
OUTPUTS = ("boxes", "scores", "classes", "counts")
AXIS_NAMES = {0: "batch", 2: "height", 3: "width"}


def to_onnx(detector: ExportableDetector, metadata: Mapping[str, str], *, dtype: torch.dtype) -> onnx.ModelProto:
    """Export the detector, on the CPU.

    Args:
        metadata: texts for the file's ``metadata_props``.
        dtype: type of the images, ``torch.uint8`` or ``torch.float32``.

    Returns:
        A model with the input ``images`` (N, 3, H, W) and the outputs of ``ExportableDetector``; ONNX's checker has
        passed it.
    """
    detector = copy.copy(detector)
    detector.keep = keep_by_operator
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns about torch's own code, and prints its progress
    try:
        with exported_program_settings(), contextlib.redirect_stdout(io.StringIO()):
            program = torch.onnx.export(
                detector,
                (torch.zeros(EXAMPLE_SHAPE, dtype=dtype),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=list(OUTPUTS),
                dynamic_shapes=(DYNAMIC_AXES,),
                custom_translation_table=OPERATOR_TRANSLATIONS,
            )
    finally:
        logger.setLevel(level)
    model = program.model_proto
    graph = model.graph
    # Remove the file paths and lines of code that the exporter stores.
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
        del item.metadata_props[:]
        item.doc_string = ""
    # Give the dynamic axes readable names in place of the exporter's, such as s34.
    (images,) = graph.input
    names = {images.type.tensor_type.shape.dim[axis].dim_param: name for axis, name in AXIS_NAMES.items()}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:  # setting dim_param replaces a fixed size
                dim.dim_param = names[dim.dim_param]
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model
