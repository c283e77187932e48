"""Convert an fp32 ONNX model to mixed fp16 for GPUs. Inputs and outputs keep their types."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export.graph_passes import fold_pixel_scale, merge_heads
from export.graph_utils import STATISTICS, drop_unused, nodes_before_relu, pixel_nodes, producers, spatial_convolutions
from export.merge_moments import merge_moments

# Square roots in the network take sums of squares.
ROOTS = frozenset(["Sqrt"])


def to_fp16(source: Path, target: Path) -> None:
    """Write `source` with its convolutions in fp16 and with fewer kernels, whose launches bound the time of one window.

    Three parts stay in fp32: the layers that read pixels, because generator traces are in the last bits; statistics over
    feature maps and spectra, because squares overflow fp16 and a variance is a small difference of large numbers; and the
    heads after the statistics.
    """
    # Pixels that are not divided are whole or half numbers, which fp16 and TF32 represent exactly.
    model = merge_heads(merge_moments(fold_pixel_scale(onnx.load(source))))
    converted = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=DEFAULT_OP_BLOCK_LIST,
        node_block_list=full_precision_nodes(model),
    )
    OnnxModel(converted).topological_sort()
    _drop_round_trips(converted, model)
    onnx.checker.check_model(converted, full_check=True)
    onnx.save(converted, target)


def full_precision_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that stay in fp32.

    These are the pixel nodes before the first activated convolutions, statistics and roots with the nodes that lead to
    them from the preceding layer, and everything after the statistics.
    """
    nodes = list(model.graph.node)
    spatial = set(spatial_convolutions(model))
    kept = set(pixel_nodes(model)) - (nodes_before_relu(model) & spatial)
    pooled: set[str] = set()
    for node in nodes:
        if node.op_type in STATISTICS or pooled & set(node.input):
            pooled.update(node.output)
            kept.add(node.name)
    sources = producers(model.graph)
    pending = [node for node in nodes if node.op_type in STATISTICS | ROOTS]
    while pending:
        node = pending.pop()
        kept.add(node.name)
        inputs = [sources[name] for name in node.input if name in sources]
        pending += [p for p in inputs if p.name not in kept and p.op_type != "Relu" and p.name not in spatial]
    # Concatenate fp16 maps in fp16, once for the statistics and for the next layer.
    for node in nodes:
        if node.op_type == "Concat" and not any(
            name not in sources or sources[name].name in kept for name in node.input
        ):
            kept.discard(node.name)
    return [node.name for node in nodes if node.name in kept]


def _casts_to(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == kind


def _drop_round_trips(converted: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Remove casts from fp32 to fp16 and back, in place.

    The converter wraps every fp32 node in casts, so values and weights between two such nodes are rounded for nothing.
    """
    graph = converted.graph
    sources = producers(graph)
    weights = {tensor.name: tensor for tensor in source.graph.initializer}
    originals: dict[str, str] = {}
    for node in graph.node:
        if not _casts_to(node, TensorProto.FLOAT):
            continue
        before = sources.get(node.input[0])
        if before is not None and _casts_to(before, TensorProto.FLOAT16):
            originals[node.output[0]] = before.input[0]
            # The name has to stay because it may be an output of the graph.
            node.CopyFrom(helper.make_node("Identity", [before.input[0]], [node.output[0]], node.name))
        elif node.input[0] in weights:
            tensor = graph.initializer.add()
            tensor.CopyFrom(weights[node.input[0]])
            tensor.name = originals[node.output[0]] = f"{node.input[0]}_fp32"
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = originals.get(name, name)
    drop_unused(graph)
