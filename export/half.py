"""fp32 ONNX -> fp16 ONNX for GPUs: inputs and outputs keep their types, and statistics keep their precision."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export.onnx_rewrite import (
    STATISTICS,
    before_activation,
    dividing_in_weights,
    drop_unused,
    merged_heads,
    reading_pixels,
    spatial_convolutions,
    with_moments_together,
)

# Roots are taken of sums of squares.
ROOTS = frozenset(["Sqrt"])


def halve(source: Path, target: Path) -> None:
    """Write `source` with its convolutions in fp16, and in fewer kernels: a window takes a GPU as long as these take to start.

    In fp32 stay what reads the pixels, whose traces are their last bits, up to the first layers with an activation; statistics over
    feature maps, and spectra (squares overflow fp16, and a variance is a small difference of large numbers); and the heads behind the
    statistics.
    """
    # Undivided, pixels are whole and half numbers, of which neither fp16 nor TF32 takes anything.
    model = merged_heads(with_moments_together(dividing_in_weights(onnx.load(source))))
    half = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=DEFAULT_OP_BLOCK_LIST,
        node_block_list=full_precision_nodes(model),
    )
    OnnxModel(half).topological_sort()
    _drop_round_trips(half, model)
    onnx.checker.check_model(half, full_check=True)
    onnx.save(half, target)


def full_precision_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes before the first layers with an activation, of statistics and roots with what leads to them from the last layer
    before, and of everything behind statistics."""
    nodes = list(model.graph.node)
    spatial = set(spatial_convolutions(model))
    kept = set(reading_pixels(model)) - (before_activation(model) & spatial)
    pooled: set[str] = set()
    for node in nodes:  # ONNX keeps nodes in topological order
        if node.op_type in STATISTICS or pooled & set(node.input):
            pooled.update(node.output)
            kept.add(node.name)
    producers = {name: node for node in nodes for name in node.output}
    waiting = [node for node in nodes if node.op_type in STATISTICS | ROOTS]
    while waiting:
        node = waiting.pop()
        kept.add(node.name)
        before = [producers[name] for name in node.input if name in producers]
        waiting += [p for p in before if p.name not in kept and p.op_type != "Relu" and p.name not in spatial]
    # Maps that are in fp16 are put together in fp16, once for the statistics and for the next layer.
    for node in nodes:
        if node.op_type == "Concat" and not any(
            name not in producers or producers[name].name in kept for name in node.input
        ):
            kept.discard(node.name)
    return [node.name for node in nodes if node.name in kept]


def _casts(node: NodeProto, to: int) -> bool:
    return node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == to


def _drop_round_trips(half: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """The converter wraps every fp32 node in casts: where fp32 values, or weights, went through fp16 on their way from one such
    node to the next, give the next one the original."""
    graph = half.graph
    producers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in source.graph.initializer}
    originals: dict[str, str] = {}
    for node in graph.node:
        if not _casts(node, TensorProto.FLOAT):
            continue
        before = producers.get(node.input[0])
        if before is not None and _casts(before, TensorProto.FLOAT16):
            originals[node.output[0]] = before.input[0]
            # Where it is an output of the graph, the name has to stay.
            node.CopyFrom(helper.make_node("Identity", [before.input[0]], [node.output[0]], node.name))
        elif node.input[0] in weights:
            tensor = graph.initializer.add()
            tensor.CopyFrom(weights[node.input[0]])
            tensor.name = originals[node.output[0]] = f"{node.input[0]}_fp32"
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = originals.get(name, name)
    drop_unused(graph)
