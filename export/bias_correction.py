"""Take out of a quantised network the shift that rounding put into it.

Rounded weights and activations move the mean of every output channel a little, and statistics over positions, which the heads read,
keep such a shift while they average noise away. The biases can undo it: "bias correction" of Nagel et al., 2019 (arXiv 1906.04721),
with means that are measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.onnx_rewrite import copied, drop_unused

BATCH = 32


def correct_biases(
    quantized: onnx.ModelProto, reference: onnx.ModelProto, names: Sequence[str], windows: NDArray[np.uint8]
) -> None:
    """Change, in place, the biases of the convolutions of these names so that their outputs have the means that `reference` gives.

    One after the other, in the order in which the network computes them: each sees what the corrections before it leave. Convolutions
    without a bias stay as they are.

    Args:
        quantized: the network with quantise/dequantise pairs; its convolutions have the names of the reference's.
        windows: uint8[N, S, S, 3] of training pictures.
    """
    theirs = {node.name: node for node in reference.graph.node}
    convolutions = [node for node in quantized.graph.node if node.name in names and len(node.input) > 2]
    expected = channel_means(reference, [theirs[node.name].output[0] for node in convolutions], windows)
    for node, mean in zip(convolutions, expected, strict=True):
        (found,) = channel_means(quantized, [node.output[0]], windows)
        add_to_bias(quantized.graph, node, mean - found)


def channel_means(
    model: onnx.ModelProto, values: Sequence[str], windows: NDArray[np.uint8]
) -> list[NDArray[np.float64]]:
    """The mean over windows and positions of every channel, float64[C], of these values [N, C, H, W] inside a network."""
    model = copied(model)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in values)
    drop_unused(model.graph)
    options = onnxruntime.SessionOptions()
    # As the pairs say, in float32: the integer kernels of this machine's CPU would have a rounding of their own.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # It warns of shapes that the outputs leave open.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums: list[NDArray[np.float64]] = [np.zeros(1)] * len(values)
    for start in range(0, len(windows), BATCH):
        found = session.run(list(values), {"windows": windows[start : start + BATCH]})
        sums = [total + x.mean((2, 3), dtype=np.float64).sum(0) for total, x in zip(sums, found, strict=True)]
    return [total / len(windows) for total in sums]


def add_to_bias(graph: onnx.GraphProto, node: NodeProto, shift: NDArray[np.float64]) -> None:
    """Add float[C] to a convolution's bias, be it stored as float32 or as int32 with a scale a channel."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    if node.input[2] in weights:
        bias = weights[node.input[2]]
        changed = (numpy_helper.to_array(bias) + shift).astype(np.float32)
    else:
        (dequantize,) = (other for other in graph.node if node.input[2] in other.output)
        bias = weights[dequantize.input[0]]
        steps = np.rint(shift / numpy_helper.to_array(weights[dequantize.input[1]]))
        changed = (numpy_helper.to_array(bias) + steps).astype(np.int32)
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
