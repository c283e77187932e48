"""What TF32 would make of a network, found out without a GPU.

NVIDIA's matrix units read float32 with eleven significant bits, and add up in float32. ONNX Runtime's CUDA provider lets a convolution in
fp16 use them only where those in fp32 may, too; so a file with both is fast on a GPU where the latter bear it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from export.onnx_rewrite import copied

PRODUCTS = frozenset(["Conv", "Gemm", "MatMul"])
# float32 has 24 significant bits: this takes 13 away (T. J. Dekker, 1971, "A floating-point technique for extending the available
# precision").
SPLITTER = 2.0**13 + 1
# How far an output may move, in its own deviation over windows, in the window where it moves most.
BORNE = 0.05
BATCH = 32


def borne_by(half: Path, full: Path, windows: NDArray[np.uint8]) -> bool:
    """Whether a file in fp16 says with TF32 what the same network says in fp32, of every one of these windows, uint8[N, S, S, 3]."""
    return moved(onnx.load(full), with_tf32(onnx.load(half)), windows) <= BORNE


def moved(one: onnx.ModelProto, other: onnx.ModelProto, windows: NDArray[np.uint8]) -> float:
    """How far the output that differs most lies from that of another model, in its own deviation over windows, in the window where it
    lies farthest."""
    right, told = _outputs(one, windows), _outputs(other, windows)
    return max(float(np.abs(told[name] - a).max()) / max(float(a.std()), 1e-9) for name, a in right.items())


def with_tf32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose convolutions and matrix products in fp32 read what TF32 leaves of weights and values."""
    inferred = infer_shapes(model).graph
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    model = copied(model)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    splitter = "tf32_splitter"
    graph.initializer.append(numpy_helper.from_array(np.float32(SPLITTER), splitter))
    done: set[str] = set()
    nodes: list[NodeProto] = []
    for node in graph.node:  # in topological order
        for i in (0, 1) if node.op_type in PRODUCTS and kinds.get(node.output[0]) == TensorProto.FLOAT else ():
            name = node.input[i]
            node.input[i] = f"{name}_tf32"
            if name in done:
                continue
            done.add(name)
            if name in weights:
                values = rounded(numpy_helper.to_array(weights[name]))
                graph.initializer.append(numpy_helper.from_array(values, f"{name}_tf32"))
                continue
            for kind, reads, makes in (
                ("Mul", (name, splitter), "large"),
                ("Sub", (f"{name}_large", name), "rest"),
                ("Sub", (f"{name}_large", f"{name}_rest"), "tf32"),
            ):
                nodes.append(helper.make_node(kind, reads, [f"{name}_{makes}"], f"{name}_{makes}"))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To eleven significant bits."""
    large = values * np.float32(SPLITTER)
    return large - (large - values)


def _outputs(model: onnx.ModelProto, windows: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """All but the fingerprint, which is as large as the windows."""
    backend = OnnxRuntimeBackend(model.SerializeToString())
    names = [name for name in backend.outputs if name != "fingerprint"]
    parts = [backend.run(windows[i : i + BATCH], names) for i in range(0, len(windows), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
