"""A graph pass that computes the means and deviations of all feature maps together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_shapes

from export.graph_utils import copy_model, drop_unused, producers


@dataclass(frozen=True)
class _Moments:
    """The mean and mean square of one feature map, and the nodes from the mean square to the deviation, last node first."""

    mean: str
    square: str
    chain: list[onnx.NodeProto]


def merge_moments(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute the deviations of all feature maps with one chain of nodes instead of one chain per map.

    Means become one vector and deviations another; the layers that read them get their weights in the new order.
    The model is returned unchanged if it has no concatenation of several (mean, deviation) pairs, as
    `training.model.network` builds them.
    """
    model = copy_model(model)
    graph = model.graph
    sources = producers(graph)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in infer_shapes(model).graph.value_info}
    for concat in [node for node in graph.node if node.op_type == "Concat"]:
        parts = {name: found for name in concat.input if (found := _moments_of(name, sources))}
        if len(parts) < 2:
            continue
        widths = [shapes[name][-1].dim_value for name in concat.input]
        order = _merge(graph, concat, parts, widths)
        _reorder_weights(graph, concat.output[0], order)
    drop_unused(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _moments_of(name: str, sources: dict[str, onnx.NodeProto]) -> _Moments | None:
    """Match Concat(mean, sqrt(clip(square - mean * mean) + epsilon)), the output of `moments` in the network."""
    pair = sources.get(name)
    if pair is None or pair.op_type != "Concat" or len(pair.input) != 2:
        return None
    mean, value = pair.input
    chain = []
    for kind in ("Sqrt", "Add", "Clip", "Sub"):
        node = sources.get(value)
        if node is None or node.op_type != kind:
            return None
        chain.append(node)
        value = node.input[0]
    squared_mean = sources.get(chain[-1].input[1])
    if squared_mean is None or squared_mean.op_type != "Mul" or list(squared_mean.input) != [mean, mean]:
        return None
    return _Moments(mean, value, chain)


def _merge(graph: onnx.GraphProto, concat: onnx.NodeProto, parts: dict[str, _Moments], widths: list[int]) -> np.ndarray:
    """Rewrite one concatenation in place; return the new order of its columns, int64[sum of widths]."""
    name, first = concat.name, next(iter(parts))
    means = [part.mean for part in parts.values()]
    squares = [part.square for part in parts.values()]
    nodes = [
        helper.make_node("Concat", means, [f"{name}_means"], f"{name}_means", axis=1),
        helper.make_node("Concat", squares, [f"{name}_squares"], f"{name}_squares", axis=1),
        helper.make_node("Mul", [f"{name}_means"] * 2, [f"{name}_of_means"], f"{name}_of_means"),
    ]
    value = f"{name}_squares"
    for node in reversed(parts[first].chain):
        others = [f"{name}_of_means"] if node.op_type == "Sub" else list(node.input[1:])
        result = f"{name}_{node.op_type.lower()}"
        nodes.append(helper.make_node(node.op_type, [value, *others], [result], result))
        value = result
    columns = dict(zip(concat.input, np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1]), strict=True))
    inputs: list[str] = []
    order: list[np.ndarray] = []
    for part in concat.input:
        if part == first:
            inputs += [f"{name}_means", value]
            order += [np.split(columns[each], 2)[i] for i in (0, 1) for each in parts]
        elif part not in parts:
            inputs.append(part)
            order.append(columns[part])
    concat.input[:] = inputs
    start = list(graph.node).index(concat)
    for offset, node in enumerate(nodes):
        graph.node.insert(start + offset, node)
    return np.concatenate(order)


def _reorder_weights(graph: onnx.GraphProto, value: str, order: np.ndarray) -> None:
    """Permute the input channels of the dense layers, written as 1x1 convolutions, that read a vector."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    unsqueezed = {node.output[0] for node in graph.node if node.op_type == "Unsqueeze" and node.input[0] == value}
    for layer in graph.node:
        if layer.op_type == "Conv" and layer.input[0] in unsqueezed:
            weight = constants[layer.input[1]]
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, order], weight.name))
