"""Passes over an ONNX graph that change its layout and not its results, except for rounding.

Each pass takes a model and returns a checked copy. `python -m benchmarks graph-passes` measures what each is worth on a CPU.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from export.graph_utils import (
    STATISTICS,
    copy_model,
    drop_unused,
    fully_connected_weights,
    producers,
    replace_nodes,
)


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    drop_unused(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def gemm_to_conv(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write fully connected layers (`Gemm`, x W^T + b) as 1x1 convolutions over one position.

    TensorRT for RTX compiles FP32 convolutions for Turing GPUs but refuses FP32 matrix products there.
    """
    model = copy_model(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "spatial_axes")
    nodes = []
    for node in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        unscaled = all(attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        weight = weights.get(node.input[1]) if node.op_type == "Gemm" else None
        if weight is None or not unscaled or attributes.get("transA", 0) or not attributes.get("transB", 0):
            nodes.append(node)
            continue
        name = node.name or node.output[0]
        # Another node may share these weights and needs their shape, so this node gets a copy.
        kernel = numpy_helper.from_array(numpy_helper.to_array(weight)[:, :, None, None], f"{weight.name}_kernel")
        if kernel.name not in weights:
            weights[kernel.name] = kernel
            model.graph.initializer.append(kernel)
        nodes += [
            helper.make_node("Unsqueeze", [node.input[0], axes.name], [f"{name}_in"], f"{name}_unsqueeze"),
            helper.make_node("Conv", [f"{name}_in", kernel.name, *node.input[2:]], [f"{name}_out"], f"{name}_conv"),
            helper.make_node("Squeeze", [f"{name}_out", axes.name], [node.output[0]], f"{name}_squeeze"),
        ]
    model.graph.initializer.append(axes)
    replace_nodes(model.graph, nodes)
    return _checked(model)


def conv_to_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Undo `gemm_to_conv`: each layer needs three kernels fewer."""
    model = copy_model(model)
    graph = model.graph
    sources = producers(graph)
    squeezes = {node.input[0]: node for node in graph.node if node.op_type == "Squeeze"}
    # Convolutions that were 1x1 from the start read a feature map, not an unsqueezed vector.
    layers = [
        node
        for node in graph.node
        if node.op_type == "Conv" and node.output[0] in squeezes and sources[node.input[0]].op_type == "Unsqueeze"
    ]
    dense = {node.input[1] for node in layers}
    for node in layers:
        squeeze = squeezes[node.output[0]]
        vector = sources[node.input[0]].input[0]
        node.CopyFrom(helper.make_node("Gemm", [vector, *node.input[1:]], squeeze.output[:1], node.name, transB=1))
        graph.node.remove(squeeze)
    for tensor in graph.initializer:
        if tensor.name in dense:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, :, 0, 0], tensor.name))
    del graph.value_info[:]
    return _checked(model)


def merge_heads(model: onnx.ModelProto) -> onnx.ModelProto:
    """Merge the dense layers that read the same vector into one layer, and split its output.

    Works on the output of `gemm_to_conv`. A dozen kernels are saved, each of which takes longer to start than to run.
    """
    model = copy_model(model)
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sources = producers(graph)
    squeezes = {node.input[0]: node for node in graph.node if node.op_type == "Squeeze"}
    dense = set(fully_connected_weights(model))
    by_input: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in dense:
            by_input.setdefault(sources[node.input[0]].input[0], []).append(node)
    for layers in (layers for layers in by_input.values() if len(layers) > 1):
        first, name = layers[0], f"{layers[0].name}_merged"
        kernels = [weights[node.input[1]] for node in layers]
        biases = [
            weights[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernel), kernel.dtype)
            for node, kernel in zip(layers, kernels, strict=True)
        ]
        sizes = np.array([len(kernel) for kernel in kernels], np.int64)
        for part, array in (("kernel", np.concatenate(kernels)), ("bias", np.concatenate(biases)), ("sizes", sizes)):
            graph.initializer.append(numpy_helper.from_array(array, f"{name}_{part}"))
        outputs = [squeezes[node.output[0]].output[0] for node in layers]
        squeeze = squeezes[first.output[0]]
        start = list(graph.node).index(first)
        for node in layers:
            graph.node.remove(squeezes[node.output[0]])
            graph.node.remove(node)
        merged = [
            helper.make_node("Conv", [first.input[0], f"{name}_kernel", f"{name}_bias"], [f"{name}_out"], name),
            helper.make_node("Squeeze", [f"{name}_out", squeeze.input[1]], [f"{name}_all"], f"{name}_squeeze"),
            helper.make_node("Split", [f"{name}_all", f"{name}_sizes"], outputs, f"{name}_split", axis=1),
        ]
        for offset, node in enumerate(merged):
            graph.node.insert(start + offset, node)
    return _checked(model)


def fold_pixel_scale(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold the division of the pixels into the convolutions that read them, which saves a pass over the pixels.

    Matches Cast, Div by one number, Sub, Transpose, Conv. Any other graph is returned unchanged.
    """
    model = copy_model(model)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def readers(value: str) -> list[onnx.NodeProto]:
        return [node for node in graph.node if value in node.input and node.op_type != "Shape"]

    def array(name: str) -> np.ndarray:
        return numpy_helper.to_array(constants[name])

    chain: list[onnx.NodeProto] = []
    value = graph.input[0].name
    for kind in ("Cast", "Div", "Sub", "Transpose"):
        following = readers(value)
        if [node.op_type for node in following] != [kind]:
            return model
        chain += following
        value = following[0].output[0]
    cast, div, sub, _ = chain
    convolutions = readers(value)
    if any(node.op_type != "Conv" for node in convolutions):
        return model
    if not {div.input[1], sub.input[1], *(node.input[1] for node in convolutions)} <= constants.keys():
        return model
    divisor = array(div.input[1])
    if divisor.size != 1:
        return model
    offset = numpy_helper.from_array(array(sub.input[1]) * divisor, f"{sub.name}_undivided")
    graph.initializer.append(offset)
    sub.input[:] = [cast.output[0], offset.name]
    for name in {node.input[1] for node in convolutions}:
        constants[name].CopyFrom(numpy_helper.from_array(array(name) / divisor, name))
    return _checked(model)


def share_dequantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let all statistics of a feature map read one dequantised copy of it.

    ONNX Runtime duplicates a `DequantizeLinear` for each reader, and each writes the whole map: three times for a mean
    and a mean square. A concatenation of one input blocks that; OpenVINO removes it.
    """
    model = copy_model(model)
    sources = producers(model.graph)
    shared: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        is_square = node.op_type == "Mul" and len(set(node.input)) == 1
        source = sources.get(node.input[0]) if is_square or node.op_type in STATISTICS else None
        if source is not None and source.op_type == "DequantizeLinear":
            value = node.input[0]
            if value not in shared:
                shared[value] = f"{value}_shared"
                nodes.append(helper.make_node("Concat", [value], [shared[value]], f"{source.name}_shared", axis=1))
            node.input[:] = [shared.get(name, name) for name in node.input]
        nodes.append(node)
    replace_nodes(model.graph, nodes)
    return _checked(model)


def channels_last_residuals(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give quantised convolutions the output of an fp32 convolution with channels last.

    ONNX Runtime computes quantised convolutions with channels last. It moves transposes through a residual sum only if
    both terms have one, which the first sum lacks. The two reshapes keep it from cancelling the transposes.

    Raises:
        ValueError: The size of a feature map is unknown.
    """
    model = copy_model(model)
    graph = model.graph
    sources = producers(graph)
    unquantized = {tensor.name for tensor in graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in infer_shapes(model).graph.value_info}

    def before_relu(value: str) -> onnx.NodeProto | None:
        node = sources.get(value)
        return before_relu(node.input[0]) if node is not None and node.op_type == "Relu" else node

    nodes = []
    for node in graph.node:
        nodes.append(node)
        source = before_relu(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if source is None or source.op_type != "Conv" or source.input[1] not in unquantized:
            continue
        _, channels, height, width = (dim.dim_value for dim in shapes[node.input[0]])
        if not channels * height * width:
            raise ValueError(f"{node.name} must read a map of fixed size; export the network for one window size")
        value, name = node.output[0], f"{node.name}_last"
        node.output[0] = f"{value}_first"
        for part, shape in (("flat", (0, height * width, channels)), ("shape", (0, height, width, channels))):
            graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}_{part}"))
        nodes += [
            helper.make_node("Transpose", [node.output[0]], [name], name, perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [name, f"{name}_flat"], [f"{name}_flattened"], f"{name}_flatten"),
            helper.make_node("Reshape", [f"{name}_flattened", f"{name}_shape"], [f"{name}_shaped"], f"{name}_reshape"),
            helper.make_node("Transpose", [f"{name}_shaped"], [value], f"{name}_back", perm=[0, 3, 1, 2]),
        ]
    replace_nodes(graph, nodes)
    return _checked(model)


def drop_quantize_before_relu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the quantise/dequantise pair between a convolution and a ReLU whose output is quantised itself.

    The pair spends half of its steps on negative values, which the ReLU drops, and it blocks fusing the two.
    """
    model = copy_model(model)
    sources = producers(model.graph)
    kinds = {name: node.op_type for name, node in sources.items()}
    quantized = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for node in model.graph.node:
        if node.op_type == "Relu" and kinds.get(node.input[0]) == "DequantizeLinear" and node.output[0] in quantized:
            before = sources[sources[node.input[0]].input[0]].input[0]
            if kinds.get(before) == "Conv":
                node.input[0] = before
    return _checked(model)


def store_weights_fp16(model: onnx.ModelProto, weights: Collection[str]) -> onnx.ModelProto:
    """Store the named weights in fp16, each cast to fp32 before it is used.

    The weights are rounded to eleven significant bits. ONNX Runtime casts once, when it opens the file.
    """
    model = copy_model(model)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_fp16"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=TensorProto.FLOAT))
    replace_nodes(model.graph, [*casts, *model.graph.node])
    return _checked(model)
