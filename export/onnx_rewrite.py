"""What the exporters ask of an ONNX graph, and changes that leave what it computes alone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

# Operators that add up a whole feature map; what follows them works on a few numbers a window and costs nothing.
STATISTICS = frozenset(["ReduceMean", "ReduceSum", "ReduceL2", "GlobalAveragePool"])


def gemm_as_convolution(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose fully connected layers (`Gemm`, x W^T + b) are 1x1 convolutions of one position: the same sums.

    TensorRT for RTX compiles FP32 convolutions for Turing, and refuses FP32 matrix products there.
    """
    model = copied(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "spatial_axes")
    nodes = []
    for node in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = all(attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        weight = weights.get(node.input[1]) if node.op_type == "Gemm" else None
        if weight is None or not plain or attributes.get("transA", 0) or not attributes.get("transB", 0):
            nodes.append(node)
            continue
        name = node.name or node.output[0]
        # Weights that another node shares keep their shape: this node gets its own.
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
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    drop_unused(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def merged_heads(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which those layers that `gemm_as_convolution` made and that read the same are one layer, whose output is split: the same
    sums by a dozen kernels fewer, which on a few hundred values take longer to start than to run."""
    model = copied(model)
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    after = {node.input[0]: node for node in graph.node if node.op_type == "Squeeze"}
    dense = set(fully_connected_weights(model))
    by_input: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in dense:
            by_input.setdefault(made[node.input[0]].input[0], []).append(node)
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
        outputs = [after[node.output[0]].output[0] for node in layers]
        squeeze = after[first.output[0]]
        place = list(graph.node).index(first)
        for node in layers:
            graph.node.remove(after[node.output[0]])
            graph.node.remove(node)
        together = [
            helper.make_node("Conv", [first.input[0], f"{name}_kernel", f"{name}_bias"], [f"{name}_out"], name),
            helper.make_node("Squeeze", [f"{name}_out", squeeze.input[1]], [f"{name}_all"], f"{name}_squeeze"),
            helper.make_node("Split", [f"{name}_all", f"{name}_sizes"], outputs, f"{name}_split", axis=1),
        ]
        for offset, node in enumerate(together):
            graph.node.insert(place + offset, node)
    drop_unused(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def convolution_as_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the layers that `gemm_as_convolution` made are `Gemm` again: the same sums by three kernels fewer each."""
    model = copied(model)
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    after = {node.input[0]: node for node in graph.node if node.op_type == "Squeeze"}
    # Without those few that were convolutions from the first, and read a map.
    layers = [
        node
        for node in graph.node
        if node.op_type == "Conv" and node.output[0] in after and made[node.input[0]].op_type == "Unsqueeze"
    ]
    dense = {node.input[1] for node in layers}
    for node in layers:
        squeeze = after[node.output[0]]
        read = made[node.input[0]].input[0]
        plain = helper.make_node("Gemm", [read, *node.input[1:]], squeeze.output[:1], node.name, transB=1)
        node.CopyFrom(plain)
        graph.node.remove(squeeze)
    for tensor in graph.initializer:
        if tensor.name in dense:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, :, 0, 0], tensor.name))
    drop_unused(graph)
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def dividing_in_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which what the pixels are divided by is in the weights of the convolutions that read them: one pass less over the pixels.

    As it was, where anything else reads them, or they are not divided by one number that is known and lessened by another.
    """
    model = copied(model)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def readers(value: str) -> list[onnx.NodeProto]:
        return [node for node in graph.node if value in node.input and node.op_type != "Shape"]

    def array(name: str) -> np.ndarray:
        return numpy_helper.to_array(constants[name])

    chain: list[onnx.NodeProto] = []
    last = graph.input[0].name
    for kind in ("Cast", "Div", "Sub", "Transpose"):
        following = readers(last)
        if [node.op_type for node in following] != [kind]:
            return model
        chain += following
        last = following[0].output[0]
    cast, divided, less, _ = chain
    convolutions = readers(last)
    if any(node.op_type != "Conv" for node in convolutions):
        return model
    if not {divided.input[1], less.input[1], *(node.input[1] for node in convolutions)} <= constants.keys():
        return model
    divisor = array(divided.input[1])
    if divisor.size != 1:
        return model
    shifted = numpy_helper.from_array(array(less.input[1]) * divisor, f"{less.name}_undivided")
    graph.initializer.append(shifted)
    less.input[:] = [cast.output[0], shifted.name]
    for name in {node.input[1] for node in convolutions}:
        constants[name].CopyFrom(numpy_helper.from_array(array(name) / divisor, name))
    drop_unused(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def with_shared_statistics(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which what statistics read is dequantised once for all of them.

    ONNX Runtime gives every reader of a `DequantizeLinear` one of its own, each of which writes a whole feature map anew: three for a mean
    and a mean square. It neither removes a concatenation of one nor moves anything behind it; OpenVINO does remove it.
    """
    model = copied(model)
    made = {name: node for node in model.graph.node for name in node.output}
    shared: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:  # in topological order
        squared = node.op_type == "Mul" and len(set(node.input)) == 1
        before = made.get(node.input[0]) if squared or node.op_type in STATISTICS else None
        if before is not None and before.op_type == "DequantizeLinear":
            value = node.input[0]
            if value not in shared:
                shared[value] = f"{value}_shared"
                nodes.append(helper.make_node("Concat", [value], [shared[value]], f"{before.name}_shared", axis=1))
            node.input[:] = [shared.get(name, name) for name in node.input]
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def with_moments_together(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the means of all feature maps are one vector, and their deviations another: what makes the one of the other runs
    once, not once a map. The layers that read them have their weights in the new order.

    As it was, where there are not several concatenations of means and deviations (`training.model.network.moments`) in another.
    """
    model = copied(model)
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in infer_shapes(model).graph.value_info}

    def before(name: str, *kinds: str) -> list[onnx.NodeProto] | None:
        """The nodes of these kinds that lead to a value, each by its first input, the last one first."""
        found: list[onnx.NodeProto] = []
        for kind in kinds:
            node = made.get(name)
            if node is None or node.op_type != kind:
                return None
            found.append(node)
            name = node.input[0]
        return found

    def moments_of(name: str) -> tuple[list[str], list[onnx.NodeProto]] | None:
        """Of a concatenation of a mean and a deviation: mean and mean square, and the nodes from the latter to the deviation."""
        both = made.get(name)
        if both is None or both.op_type != "Concat" or len(both.input) != 2:
            return None
        chain = before(both.input[1], "Sqrt", "Add", "Clip", "Sub")
        squared = chain and made.get(chain[-1].input[1])
        if not chain or squared is None or squared.op_type != "Mul" or list(squared.input) != [both.input[0]] * 2:
            return None
        return [both.input[0], chain[-1].input[0]], chain

    for last in list(graph.node):
        parts = {name: found for name in last.input if (found := moments_of(name))} if last.op_type == "Concat" else {}
        if len(parts) < 2:
            continue
        name, first = last.name, next(iter(parts))
        means, squares = ([pair[i] for pair, _ in parts.values()] for i in (0, 1))
        nodes = [
            helper.make_node("Concat", means, [f"{name}_means"], f"{name}_means", axis=1),
            helper.make_node("Concat", squares, [f"{name}_squares"], f"{name}_squares", axis=1),
            helper.make_node("Mul", [f"{name}_means"] * 2, [f"{name}_of_means"], f"{name}_of_means"),
        ]
        value = f"{name}_squares"
        for node in reversed(parts[first][1]):
            beside = [f"{name}_of_means"] if node.op_type == "Sub" else node.input[1:]
            made_of = f"{name}_{node.op_type.lower()}"
            nodes.append(helper.make_node(node.op_type, [value, *beside], [made_of], made_of))
            value = made_of
        widths = [shapes[part][-1].dim_value for part in last.input]
        columns = dict(zip(last.input, np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1]), strict=True))
        read: list[str] = []
        order: list[np.ndarray] = []
        for part in last.input:
            if part == first:
                read += [f"{name}_means", value]
                order += [np.split(columns[each], 2)[i] for i in (0, 1) for each in parts]
            elif part not in parts:
                read.append(part)
                order.append(columns[part])
        last.input[:] = read
        start = list(graph.node).index(last)
        for offset, node in enumerate(nodes):
            graph.node.insert(start + offset, node)
        for layer in _layers_reading(graph, last.output[0]):
            weight = constants[layer.input[1]]
            ordered = numpy_helper.to_array(weight)[:, np.concatenate(order)]
            weight.CopyFrom(numpy_helper.from_array(ordered, weight.name))
    drop_unused(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _layers_reading(graph: onnx.GraphProto, value: str) -> list[onnx.NodeProto]:
    """The layers that `gemm_as_convolution` made and that read a vector."""
    unsqueezed = {node.output[0] for node in graph.node if node.op_type == "Unsqueeze" and node.input[0] == value}
    return [node for node in graph.node if node.op_type == "Conv" and node.input[0] in unsqueezed]


def with_channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which what an fp32 convolution gives to quantised ones is laid out with channels last, and back, by transposes with two
    reshapings between them.

    Raises:
        ValueError: the map's size is not known.

    ONNX Runtime computes quantised convolutions with channels last. From there it moves transposes through sums and concatenations only
    where all that is added up comes from one, which without these the first sum of a residual block does not; and it looks through no
    reshaping.
    """
    model = copied(model)
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    plain = {tensor.name for tensor in graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in infer_shapes(model).graph.value_info}

    def convolution(value: str) -> onnx.NodeProto | None:
        node = made.get(value)
        return convolution(node.input[0]) if node is not None and node.op_type == "Relu" else node

    nodes = []
    for node in graph.node:  # in topological order
        nodes.append(node)
        source = convolution(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if source is None or source.op_type != "Conv" or source.input[1] not in plain:
            continue
        _, channels, height, width = (dim.dim_value for dim in shapes[node.input[0]])
        if not channels * height * width:
            raise ValueError(f"{node.name} reads a map of unknown size; export the network for windows of one size")
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
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def fully_connected_weights(model: onnx.ModelProto) -> list[str]:
    """Names of the weights of matrix products and of 1x1 convolutions: of the layers that `gemm_as_convolution` made, and of few others."""
    others = {*reading_pixels(model), *spatial_convolutions(model)}
    return [node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm") and node.name not in others]


def store_in_half(model: onnx.ModelProto, weights: Collection[str]) -> onnx.ModelProto:
    """A copy that keeps these weights as fp16, each cast to fp32 before it is used.

    What a file computes changes by the rounding of its weights to eleven bits. ONNX Runtime casts once, when it opens the file.
    """
    model = copied(model)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.name in weights:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_fp16"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def quantized_behind_relu(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose convolutions are not quantised before a ReLU that is quantised itself.

    The pair before it spends steps on what the ReLU takes away, and keeps the two from being computed as one.
    """
    model = copied(model)
    made = {name: node for node in model.graph.node for name in node.output}
    kinds = {name: node.op_type for name, node in made.items()}
    quantized = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for node in model.graph.node:
        if node.op_type == "Relu" and kinds.get(node.input[0]) == "DequantizeLinear" and node.output[0] in quantized:
            before = made[made[node.input[0]].input[0]].input[0]
            if kinds.get(before) == "Conv":
                node.input[0] = before
    drop_unused(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def spatial_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions with kernels above 1x1, in order; the others are fully connected layers in disguise."""
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and max(sizes[node.input[1]][2:]) > 1]


def before_activation(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes whose output a ReLU reads."""
    read = {node.input[0] for node in model.graph.node if node.op_type == "Relu"}
    return {node.name for node in model.graph.node if read & set(node.output)}


def reading_pixels(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that read the input, or what others made of it before the first activation or statistic; in order."""
    activated = before_activation(model)
    pixels = {value.name for value in model.graph.input}
    found = []
    for node in model.graph.node:  # ONNX keeps nodes in topological order
        if pixels & set(node.input):
            found.append(node.name)
            if node.op_type not in STATISTICS and node.name not in activated:
                pixels.update(node.output)
    return found


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the nodes and weights, in place, on which no output depends. The nodes are in topological order."""
    needed = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in needed}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(weights.values())


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that can be changed."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other
