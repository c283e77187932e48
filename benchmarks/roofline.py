"""How much a network has to compute and to move, counted on its ONNX graph, and how fast a device could be at most.

A roofline (Williams, Waterman and Patterson, CACM 2009): with so many operations a byte, either the matrix units or the memory bind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, shape_inference

# Nodes that give a tensor another shape or name, and move nothing.
VIEWS = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Shape"])
PRODUCTS = frozenset(["Conv", "MatMul", "Gemm"])


@dataclass(frozen=True)
class Work:
    """What a network does.

    Attributes:
        flops: operations a window, two for each multiply-add of convolutions and matrix products; all others are not counted.
        weight_bytes: of all parameters, read once a batch.
        least_bytes: a window's pixels and outputs, which no implementation gets around.
        moved_bytes: what all layers together read and write of activations a window, where each runs by itself but for a convolution
            with the addition and the ReLU behind it, which are one.
    """

    flops: int
    weight_bytes: int
    least_bytes: int
    moved_bytes: int

    def to_json(self) -> dict[str, int]:
        """The fields."""
        return dict(vars(self))


def count(model: onnx.ModelProto) -> Work:
    """What a model does for a window.

    Raises:
        ValueError: a tensor's shape cannot be inferred.
    """
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    weights = {tensor.name: tensor for tensor in graph.initializer}

    def size(name: str) -> int:
        """Bytes of an activation of one window."""
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


def reached(work: Work, batch: int, ms: float, tflops: float, bandwidth_tb_s: float) -> dict[str, Any]:
    """How near a measured time is to the rooflines, with the fewest bytes and with those that the layers move.

    Args:
        ms: of a batch on the device.
        tflops: the device's measured rate of matrix products, 10^12 operations a second.
        bandwidth_tb_s: its measured rate of copying, 10^12 bytes read and written a second.
    """
    flops, seconds = work.flops * batch, ms / 1e3
    found: dict[str, Any] = {"batch": batch, "ms": ms, "ridge_flops_per_byte": tflops / bandwidth_tb_s}
    for name, each in (("least", work.least_bytes), ("moved", work.moved_bytes)):
        moved = work.weight_bytes + each * batch
        matrix, memory = flops / (tflops * 1e12), moved / (bandwidth_tb_s * 1e12)
        found[name] = {
            "bytes": moved,
            "flops_per_byte": flops / moved,
            "binds": "matrix" if matrix >= memory else "memory",
            "floor_ms": max(matrix, memory) * 1e3,
            "share_of_matrix_peak": matrix / seconds,
            "share_of_bandwidth": memory / seconds,
        }
    return found


def _kernels(graph: onnx.GraphProto) -> Iterator[tuple[list[str], list[str]]]:
    """What each kernel reads and writes."""
    consumers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    kept = {value.name for value in graph.output}
    fused: set[str] = set()
    for node in graph.node:
        if node.op_type in VIEWS or node.output[0] in fused:
            continue
        reads, last = list(node.input), node
        if node.op_type == "Conv":
            for wanted in ("Add", "Relu"):
                follows = consumers.get(last.output[0], [])
                if len(follows) == 1 and follows[0].op_type == wanted and last.output[0] not in kept:
                    reads += [name for name in follows[0].input if name != last.output[0]]
                    last = follows[0]
                    fused.add(last.output[0])
        yield reads, list(last.output)


def _elements(shapes: dict[str, Any], name: str) -> int:
    """Values of an activation of one window."""
    if name not in shapes or not shapes[name].HasField("shape"):
        raise ValueError(f"the shape of {name} cannot be inferred")
    return int(np.prod([dimension.dim_value or 1 for dimension in shapes[name].shape.dim], dtype=np.int64))


def _width(kind: int) -> int:
    return 0 if kind == TensorProto.UNDEFINED else helper.tensor_dtype_to_np_dtype(kind).itemsize


def _flops(node: NodeProto, shapes: dict[str, Any], weights: dict[str, TensorProto]) -> int:
    """Two operations for each multiply-add: as many as each output value has weights."""
    if node.input[1] not in weights:
        raise ValueError(f"{node.op_type} {node.name} multiplies by what is no parameter, which is not counted here")
    dims = list(weights[node.input[1]].dims)
    if node.op_type == "Conv":
        each = int(np.prod(dims[1:]))
    else:
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        each = dims[-1] if turned else dims[-2]
    return 2 * each * _elements(shapes, node.output[0])
