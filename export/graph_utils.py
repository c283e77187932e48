"""Queries on ONNX graphs and small in-place helpers that the exporters share.

Graphs keep their nodes in topological order, as ONNX requires; every function here relies on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

# Operators that reduce a whole feature map. Everything after them works on a few numbers per window and costs nothing.
STATISTICS = frozenset(["ReduceMean", "ReduceSum", "ReduceL2", "GlobalAveragePool"])


def copy_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a deep copy of the model."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Map each value's name to the node that computes it."""
    return {name: node for node in graph.node for name in node.output}


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Replace all nodes of a graph, in place."""
    del graph.node[:]
    graph.node.extend(nodes)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove, in place, the nodes and weights that no output depends on."""
    needed = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in needed}
    del graph.initializer[:]
    graph.initializer.extend(weights.values())
    replace_nodes(graph, nodes[::-1])


def spatial_convolutions(model: onnx.ModelProto) -> list[str]:
    """Return the names of the convolutions with kernels larger than 1x1, in graph order.

    The others are fully connected layers written as 1x1 convolutions.
    """
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and max(sizes[node.input[1]][2:]) > 1]


def fully_connected_weights(model: onnx.ModelProto) -> list[str]:
    """Return the weight names of matrix products and of 1x1 convolutions that do not read pixels."""
    others = {*pixel_nodes(model), *spatial_convolutions(model)}
    return [node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm") and node.name not in others]


def nodes_before_relu(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes whose output a ReLU reads."""
    activated = {node.input[0] for node in model.graph.node if node.op_type == "Relu"}
    return {node.name for node in model.graph.node if activated & set(node.output)}


def pixel_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes between the input and the first activation or statistic, in graph order."""
    activated = nodes_before_relu(model)
    pixels = {value.name for value in model.graph.input}
    names = []
    for node in model.graph.node:
        if pixels & set(node.input):
            names.append(node.name)
            if node.op_type not in STATISTICS and node.name not in activated:
                pixels.update(node.output)
    return names
