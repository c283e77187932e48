"""Simulate TF32 on a CPU, to decide whether a model tolerates it.

NVIDIA's matrix units read float32 with eleven significant bits and accumulate in float32. ONNX Runtime's CUDA provider
uses them for fp16 convolutions only if TF32 is allowed, which also applies to fp32 ones. So a mixed file is fast on a
GPU only if its fp32 part tolerates TF32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from export.graph_utils import copy_model, replace_nodes

PRODUCTS = frozenset(["Conv", "Gemm", "MatMul"])
# Dekker's splitter removes 13 of float32's 24 significant bits (T. J. Dekker, "A floating-point technique for extending
# the available precision", 1971).
SPLITTER = 2.0**13 + 1
# Largest tolerated shift of an output, in its standard deviations over windows.
TOLERATED = 0.05
BATCH = 32


def tolerates_tf32(model: Path, reference: Path, windows: NDArray[np.uint8]) -> bool:
    """Tell whether a mixed fp16 file under TF32 matches the fp32 file on every window, uint8[N, S, S, 3]."""
    return max_output_shift(onnx.load(reference), with_tf32(onnx.load(model)), windows) <= TOLERATED


def max_output_shift(reference: onnx.ModelProto, other: onnx.ModelProto, windows: NDArray[np.uint8]) -> float:
    """Return the largest difference of any output in any window, in standard deviations of that output over windows."""
    expected, got = _outputs(reference, windows), _outputs(other, windows)
    return max(float(np.abs(got[name] - a).max()) / max(float(a.std()), 1e-9) for name, a in expected.items())


def with_tf32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that rounds the weights and inputs of fp32 convolutions and matrix products to TF32."""
    inferred = infer_shapes(model).graph
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    model = copy_model(model)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    splitter = "tf32_splitter"
    graph.initializer.append(numpy_helper.from_array(np.array(SPLITTER, np.float32), splitter))
    rounded: set[str] = set()
    nodes: list[NodeProto] = []
    for node in graph.node:
        for i in (0, 1) if node.op_type in PRODUCTS and kinds.get(node.output[0]) == TensorProto.FLOAT else ():
            name = node.input[i]
            node.input[i] = f"{name}_tf32"
            if name in rounded:
                continue
            rounded.add(name)
            if name in weights:
                values = round_to_tf32(numpy_helper.to_array(weights[name]))
                graph.initializer.append(numpy_helper.from_array(values, f"{name}_tf32"))
                continue
            for kind, inputs, suffix in (
                ("Mul", (name, splitter), "large"),
                ("Sub", (f"{name}_large", name), "rest"),
                ("Sub", (f"{name}_large", f"{name}_rest"), "tf32"),
            ):
                nodes.append(helper.make_node(kind, inputs, [f"{name}_{suffix}"], f"{name}_{suffix}"))
        nodes.append(node)
    replace_nodes(graph, nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def round_to_tf32(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round float32 values to eleven significant bits."""
    large = values * np.float32(SPLITTER)
    return large - (large - values)


def _outputs(model: onnx.ModelProto, windows: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Compute every output except the fingerprint, which is as large as the windows."""
    backend = OnnxRuntimeBackend(model.SerializeToString())
    names = [name for name in backend.outputs if name != "fingerprint"]
    parts = [backend.run(windows[i : i + BATCH], names) for i in range(0, len(windows), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
