"""Correct the biases of a quantised network for the mean shift that rounding causes.

Rounding weights and activations shifts the mean of every output channel a little. Statistics over positions, which the
heads read, average noise away but keep that shift. This is "bias correction" of Nagel et al., 2019 (arXiv 1906.04721), with
measured means.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.graph_utils import copy_model, drop_unused

BATCH = 32


def correct_biases(
    quantized: onnx.ModelProto, reference: onnx.ModelProto, names: Sequence[str], windows: NDArray[np.uint8]
) -> None:
    """Change the biases of the named convolutions, in place, so that their outputs have the reference's means.

    Corrects them in graph order, so each sees the effect of the corrections before it. Convolutions without a bias stay
    as they are.

    Args:
        quantized: The network with quantise/dequantise pairs. Its convolutions have the reference's names.
        reference: The fp32 network.
        names: The convolutions to correct.
        windows: uint8[N, S, S, 3] of training pictures.
    """
    references = {node.name: node for node in reference.graph.node}
    convolutions = [node for node in quantized.graph.node if node.name in names and len(node.input) > 2]
    expected = channel_means(reference, [references[node.name].output[0] for node in convolutions], windows)
    for node, mean in zip(convolutions, expected, strict=True):
        (actual,) = channel_means(quantized, [node.output[0]], windows)
        add_to_bias(quantized.graph, node, mean - actual)


def channel_means(
    model: onnx.ModelProto, values: Sequence[str], windows: NDArray[np.uint8]
) -> list[NDArray[np.float64]]:
    """Return the mean of every channel over windows and positions, float64[C], for each named value [N, C, H, W]."""
    model = copy_model(model)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in values)
    drop_unused(model.graph)
    options = onnxruntime.SessionOptions()
    # Without optimisation, the pairs are computed in float32. Integer kernels of this CPU would round differently.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Hide warnings about outputs without a shape.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums: list[NDArray[np.float64]] = [np.zeros(1)] * len(values)
    for start in range(0, len(windows), BATCH):
        outputs = session.run(list(values), {"windows": windows[start : start + BATCH]})
        sums = [total + x.mean((2, 3), dtype=np.float64).sum(0) for total, x in zip(sums, outputs, strict=True)]
    return [total / len(windows) for total in sums]


def add_to_bias(graph: onnx.GraphProto, node: NodeProto, shift: NDArray[np.float64]) -> None:
    """Add float[C] to a convolution's bias, stored as float32 or as int32 with a scale per channel."""
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
