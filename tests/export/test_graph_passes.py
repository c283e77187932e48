"""Graph passes change the layout and keep the results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgeparse.bundle import open_bundle
from export.graph_passes import conv_to_gemm, fold_pixel_scale, gemm_to_conv, merge_heads, share_dequantize
from export.graph_utils import drop_unused, fully_connected_weights
from export.merge_moments import merge_moments
from export.onnx_export import write
from export.quantize import CPU, quantize
from tests.export.conftest import smooth_windows


def test_fully_connected_layers_become_convolutions() -> None:
    bundle = open_bundle()
    before = onnx.load_from_string(bundle.model("fp32"))
    after = gemm_to_conv(before)
    assert gemm_to_conv(after) == after
    given = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    sessions = [onnxruntime.InferenceSession(m.SerializeToString()) for m in (before, after)]
    for a, b in zip(*(session.run(None, {"windows": given}) for session in sessions), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert not [node for node in after.graph.node if node.op_type == "Gemm"]


def gemm_model(**attributes: float) -> onnx.ModelProto:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], list(range(6)))
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], "g", **attributes)],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3 if attributes.get("transB") else 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2 if attributes.get("transB") else 3])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("attributes", "changed"), [({"transB": 1}, True), ({}, False), ({"transB": 1, "alpha": 2.0}, False)]
)
def test_only_unscaled_layers_become_convolutions(attributes: dict[str, float], changed: bool) -> None:
    after = gemm_to_conv(gemm_model(**attributes))
    assert ("Conv" in [node.op_type for node in after.graph.node]) == changed
    given = np.ones((2, 3 if attributes.get("transB") else 2), np.float32)
    expected, got = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": given})[0]
        for m in (gemm_model(**attributes), after)
    )
    np.testing.assert_allclose(expected, got)


def test_unused_nodes_and_weights_are_dropped() -> None:
    changed = gemm_model(transB=1)
    changed.graph.node.append(helper.make_node("Relu", ["x"], ["unread"], "dead"))
    changed.graph.initializer.append(helper.make_tensor("unused", TensorProto.FLOAT, [1], [0.0]))
    drop_unused(changed.graph)
    assert [node.name for node in changed.graph.node] == ["g"]
    assert [tensor.name for tensor in changed.graph.initializer] == ["w"]


def test_merged_heads_compute_the_same() -> None:
    bundle = open_bundle()
    before = onnx.load_from_string(bundle.read(bundle.variants["fp32"]))
    after = merge_heads(before)
    # Left are two hidden layers, one layer for the heads, the embedding, and the spectral lines' layer.
    assert len(fully_connected_weights(before)) > len(fully_connected_weights(after)) == 4
    shown = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    expected, got = (
        onnxruntime.InferenceSession(changed.SerializeToString()).run(None, {"windows": shown})
        for changed in (before, after)
    )
    for a, b in zip(expected, got, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_convolutions_become_gemm_again() -> None:
    bundle = open_bundle()
    before = merge_heads(onnx.load_from_string(bundle.read(bundle.variants["fp32"])))
    after = conv_to_gemm(before)
    assert fully_connected_weights(after) == fully_connected_weights(before)
    assert [node.op_type for node in after.graph.node].count("Gemm") == len(fully_connected_weights(before))
    shown = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    expected, got = (
        onnxruntime.InferenceSession(changed.SerializeToString()).run(None, {"windows": shown})
        for changed in (before, after)
    )
    for a, b in zip(expected, got, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_pixel_scale_is_folded_into_weights() -> None:
    bundle = open_bundle()
    before = onnx.load_from_string(bundle.read(bundle.variants["fp32"]))
    after = fold_pixel_scale(before)
    kinds = [[node.op_type for node in changed.graph.node].count("Div") for changed in (before, after)]
    assert kinds[1] == kinds[0] - 1
    shown = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    expected, got = (
        onnxruntime.InferenceSession(changed.SerializeToString()).run(None, {"windows": shown})
        for changed in (before, after)
    )
    for a, b in zip(expected, got, strict=True):
        assert np.allclose(a, b, atol=1e-4)
    assert fold_pixel_scale(after) == after


def test_statistics_share_a_dequantised_map(tmp_path: Path) -> None:
    constants = {"scale": np.float32(0.5), "zero": np.uint8(3), "axes": np.array([2, 3], np.int64)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "dequantize"),
        helper.make_node("ReduceMean", ["d", "axes"], ["mean"], "mean"),
        helper.make_node("Mul", ["d", "d"], ["squared"], "square"),
        helper.make_node("ReduceMean", ["squared", "axes"], ["square_mean"], "square_mean"),
        helper.make_node("Relu", ["d"], ["other"], "other"),
    ]
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])]
    sizes = {"mean": ["N", 4, 1, 1], "square_mean": ["N", 4, 1, 1], "other": ["N", 4, 8, 8]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items()]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    before = helper.make_model(
        helper.make_graph(nodes, "g", value, outputs, weights),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    after = share_dequantize(before)
    assert [node.input[0] for node in after.graph.node if node.name in ("mean", "square")] == ["d_shared"] * 2
    assert [node.input[0] for node in after.graph.node if node.name == "other"] == ["d"]
    assert share_dequantize(after) == after
    shown = np.random.default_rng(0).normal(20, 9, (2, 4, 8, 8)).astype(np.float32)
    found, dequantized = [], []
    for model in (before, after):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        found.append(onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": shown}))
        kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        dequantized.append(kinds.count("DequantizeLinear"))
    # ONNX Runtime needs two dequantisations instead of four; statistics read three of them.
    assert dequantized == [4, 2]
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a, b)


def test_residual_sums_have_channels_last(tmp_path: Path, windows: np.ndarray) -> None:
    """ONNX Runtime needs no transposes around the sum, and the outputs are equal bit for bit."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 4, 2, 1)
            self.body, self.last = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))

        def forward(self, x: Tensor) -> tuple[Tensor]:
            features = (x.permute(0, 3, 1, 2).float() / 255).sub(0.5)
            features = self.stem(features).relu()
            return (self.last((features + self.body(features)).relu()).mean((2, 3)),)

    torch.manual_seed(0)
    write(Small().eval(), ["mean"], windows.shape[1], tmp_path / "model.onnx")
    found, transposes = [], []
    for number, rewrites in enumerate(((share_dequantize,), CPU.after)):
        quantize(tmp_path / "model.onnx", tmp_path / f"{number}.onnx", windows, replace(CPU, after=rewrites))
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(tmp_path / f"{number}.onnx"), options)
        found.append(session.run(None, {"windows": windows})[0])
        kinds = {node.name: node for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
        (added,) = (node for node in kinds.values() if node.op_type == "QLinearAdd")
        kinds_by_output = {name: node.op_type for node in kinds.values() for name in node.output}
        transposes.append([kinds_by_output[name] for name in (added.input[0], added.input[3])].count("Transpose"))
    assert transposes == [1, 0]
    assert np.array_equal(*found)


def test_moments_are_merged(shipped_kind: Path) -> None:
    before = onnx.load(shipped_kind)
    after = merge_moments(before)
    counts = [[node.op_type for node in m.graph.node].count("Sqrt") for m in (before, after)]
    assert counts == [4, 1]
    sessions = [onnxruntime.InferenceSession(m.SerializeToString()) for m in (before, after)]
    for a, b in zip(*(session.run(None, {"windows": smooth_windows()}) for session in sessions), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert merge_moments(after) == after
