"""Count what a network computes and moves on its ONNX graph, and bound its speed on a device.

This is a roofline model (Williams, Waterman and Patterson, CACM 2009): depending on its operations per byte, a network is
bound by the matrix units or by memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, shape_inference

# Nodes that change a tensor's shape or name and move no data.
VIEWS = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Shape"])
PRODUCTS = frozenset(["Conv", "MatMul", "Gemm"])


@dataclass(frozen=True)
class Work:
    """The work of a network.

    Attributes:
        flops: Operations per window, two for each multiply-add of convolutions and matrix products. Others do not count.
        weight_bytes: Bytes of all parameters, read once per batch.
        least_bytes: Bytes of a window's pixels and outputs, which every implementation moves.
        moved_bytes: Bytes of activations that all layers read and write per window. A convolution with the addition and
            ReLU after it is one layer.
    """

    flops: int
    weight_bytes: int
    least_bytes: int
    moved_bytes: int

    def to_json(self) -> dict[str, int]:
        """Return the fields."""
        return dict(vars(self))


def count(model: onnx.ModelProto) -> Work:
    """Count a model's work.

    Raises:
        ValueError: A tensor's shape cannot be inferred.
    """
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    weights = {tensor.name: tensor for tensor in graph.initializer}

    def size(name: str) -> int:
        """Return the bytes of an activation of one window."""
        return 0 if not name or name in weights else _elements(shapes, name) * _width(shapes[name].elem_type)

    outputs = [value.name for value in graph.output]
    moved = sum(
        sum(size(name) for name in reads) + sum(size(name) for name in writes) for reads, writes in _kernels(graph)
    )
    return Work(
        flops=sum(_flops(node, shapes, weights) for node in graph.node if node.op_type in PRODUCTS),
        weight_bytes=sum(int(np.prod(tensor.dims)) * _width(tensor.data_type) for tensor in weights.values()),
        least_bytes=sum(size(value.name) for value in graph.input) + sum(size(name) for name in outputs),
        moved_bytes=moved,
    )


def against_ceilings(work: Work, batch: int, ms: float, tflops: float, bandwidth_tb_s: float) -> dict[str, Any]:
    """Compare a measured time with the roofline, for the fewest bytes and for the bytes that layers move.

    Args:
        work: The network's work.
        batch: Windows in the batch.
        ms: Milliseconds of the batch on the device.
        tflops: VariantOutputs rate of matrix products, 10^12 operations a second.
        bandwidth_tb_s: VariantOutputs rate of copying, 10^12 bytes read and written a second.
    """
    flops, seconds = work.flops * batch, ms / 1e3
    compared: dict[str, Any] = {"batch": batch, "ms": ms, "ridge_flops_per_byte": tflops / bandwidth_tb_s}
    for name, each in (("least", work.least_bytes), ("moved", work.moved_bytes)):
        moved = work.weight_bytes + each * batch
        matrix, memory = flops / (tflops * 1e12), moved / (bandwidth_tb_s * 1e12)
        compared[name] = {
            "bytes": moved,
            "flops_per_byte": flops / moved,
            "binds": "matrix" if matrix >= memory else "memory",
            "floor_ms": max(matrix, memory) * 1e3,
            "share_of_matrix_peak": matrix / seconds,
            "share_of_bandwidth": memory / seconds,
        }
    return compared


def _kernels(graph: onnx.GraphProto) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the names that each kernel reads and writes."""
    consumers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    graph_outputs = {value.name for value in graph.output}
    fused: set[str] = set()
    for node in graph.node:
        if node.op_type in VIEWS or node.output[0] in fused:
            continue
        reads, last = list(node.input), node
        if node.op_type == "Conv":
            for wanted in ("Add", "Relu"):
                follows = consumers.get(last.output[0], [])
                if len(follows) == 1 and follows[0].op_type == wanted and last.output[0] not in graph_outputs:
                    reads += [name for name in follows[0].input if name != last.output[0]]
                    last = follows[0]
                    fused.add(last.output[0])
        yield reads, list(last.output)


def _elements(shapes: dict[str, Any], name: str) -> int:
    """Return the number of values of an activation of one window."""
    if name not in shapes or not shapes[name].HasField("shape"):
        raise ValueError(f"the shape of {name} cannot be inferred; export the network for one window size")
    return int(np.prod([dimension.dim_value or 1 for dimension in shapes[name].shape.dim], dtype=np.int64))


def _width(kind: int) -> int:
    return 0 if kind == TensorProto.UNDEFINED else helper.tensor_dtype_to_np_dtype(kind).itemsize


def _flops(node: NodeProto, shapes: dict[str, Any], weights: dict[str, TensorProto]) -> int:
    """Return two operations for each multiply-add; each output value has as many as it has weights."""
    if node.input[1] not in weights:
        raise ValueError(
            f"{node.op_type} {node.name} must multiply by a parameter; products of activations are not counted"
        )
    dims = list(weights[node.input[1]].dims)
    if node.op_type == "Conv":
        each = int(np.prod(dims[1:]))
    else:
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        each = dims[-1] if turned else dims[-2]
    return 2 * each * _elements(shapes, node.output[0])
