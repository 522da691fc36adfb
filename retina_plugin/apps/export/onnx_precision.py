"""Converts the network of an ONNX detector to fp16 or int8; decoding, scores and NMS stay in fp32."""

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

__all__ = ["to_half", "to_int8"]


def network_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes from the first to the last convolutions, inclusive: backbone, FPN and head."""
    after, before = _reached(graph, forward=True), _reached(graph, forward=False)
    return [node for node in graph.node if node.name in after and node.name in before]


def last_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the convolutions that feed no other: the class and box layers of each level."""
    return [node.name for node in graph.node if node.op_type == "Conv" and not _feeds_convolution(graph, node)]


def _reached(graph: onnx.GraphProto, *, forward: bool) -> set[str]:
    """Names of the convolutions and of the nodes that depend on one (``forward``) or on which one depends."""
    reached, values = set(), set()
    # The nodes are in the order of computation.
    for node in graph.node if forward else reversed(graph.node):
        sources, results = (node.input, node.output) if forward else (node.output, node.input)
        if node.op_type == "Conv" or values.intersection(sources):
            reached.add(node.name)
            values.update(filter(None, results))
    return reached


def _feeds_convolution(graph: onnx.GraphProto, start: onnx.NodeProto) -> bool:
    values = set(start.output)
    for node in graph.node:
        if values.intersection(node.input):
            if node.op_type == "Conv":
                return True
            values.update(node.output)
    return False


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose network computes in fp16; images, decoding, scores and NMS keep their types."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    inside = network_nodes(half.graph)
    names, values = {node.name for node in inside}, {value for node in inside for value in (*node.input, *node.output)}
    # The converter rounds every value with a known type, even between two fp32 nodes: keep only the network's types.
    known = [value for value in half.graph.value_info if value.name in values]
    del half.graph.value_info[:]
    half.graph.value_info.extend(known)
    half = convert_float_to_float16(
        half,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[],
        node_block_list=[node.name for node in half.graph.node if node.name not in names],
    )
    OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)  # the converter appends its casts at the end
    del half.graph.value_info[:]  # optional, and some values are listed twice, as fp32 and fp16
    onnx.checker.check_model(half, full_check=True)
    return half


class _Images(CalibrationDataReader):
    def __init__(self, images: Iterable[np.ndarray]):
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image}


def to_int8(model: onnx.ModelProto, images: Iterable[np.ndarray]) -> onnx.ModelProto:
    """Return a copy whose convolutions compute in 8-bit integers, except for the class and box layers.

    Args:
        images: (1, 3, H, W) each, as the model takes them; used to measure the ranges of the activations.
    """
    logging.disable(logging.WARNING)  # it advises to fuse batch norms, which are folded already
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "int8.onnx")
            quantize_static(
                model,
                path,
                _Images(images),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                # 7-bit weights: sums of 8-bit products saturate on processors without VNNI.
                reduce_range=True,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=last_convolutions(model.graph),
            )
            quantised = onnx.load(path)
    finally:
        logging.disable(logging.NOTSET)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised
