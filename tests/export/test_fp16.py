"""fp16 files keep what needs fp32, and TF32 is simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export import tf32
from export.fp16 import full_precision_nodes, to_fp16
from export.graph_utils import spatial_convolutions
from tests.export.conftest import NAMES, run, smooth_windows


def test_fp16_keeps_types_and_statistics(model: Path, tmp_path: Path, windows: np.ndarray) -> None:
    half = tmp_path / "half.onnx"
    to_fp16(model, half)
    graph = onnx.load(half).graph
    assert {value.type.tensor_type.elem_type for value in graph.output} == {TensorProto.FLOAT}
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    spatial = set(spatial_convolutions(onnx.load(half)))
    assert len(spatial) == 3
    for node in graph.node:
        if node.op_type == "Conv":
            assert kinds[node.input[1]] == (TensorProto.FLOAT16 if node.name in spatial else TensorProto.FLOAT)
    expected, got = run(model, windows), run(half, windows)
    for name in NAMES:
        assert np.isfinite(got[name]).all()
        assert np.abs(got[name] - expected[name]).max() < 5e-3 * np.abs(expected[name]).max()


def test_squares_stay_in_fp32(model: Path) -> None:
    """`full_precision_nodes` lists the squares, which would overflow."""
    changed = onnx.load(model)
    kept = set(full_precision_nodes(changed))
    for node in changed.graph.node:
        if node.op_type in ("ReduceMean", "Sqrt", "Sub", "Clip"):
            assert node.name in kept
    squares = [n for n in changed.graph.node if n.op_type == "Mul" and len(set(n.input)) == 1]
    assert squares
    assert {node.name for node in squares} <= kept
    assert not kept & set(spatial_convolutions(changed))


def test_tf32_keeps_eleven_bits() -> None:
    values = np.array([1.0, 1 + 2**-10, 1 + 2**-11 + 2**-20, -3.1415927, 127.5, 1e-3], np.float32)
    got = tf32.round_to_tf32(values)
    assert got[:3].tolist() == [1.0, 1 + 2**-10, 1 + 2**-10]
    np.testing.assert_allclose(got, values, rtol=2**-11)
    mantissas = np.frexp(got.astype(np.float64))[0] * 2**11
    np.testing.assert_array_equal(mantissas, mantissas.round())


def test_spectral_lines_tolerate_tf32(shipped_kind: Path, tmp_path: Path) -> None:
    """Scaled weights are not multiples of one number, so after rounding they do not sum to zero and pass smooth content."""
    whole, broken = tmp_path / "whole.onnx", tmp_path / "broken.onnx"
    to_fp16(shipped_kind, whole)
    assert tf32.tolerates_tf32(whole, shipped_kind, smooth_windows())
    model = onnx.load(shipped_kind)
    (lines,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("lines.colours"))
    lines.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(lines) * np.float32(1.1), lines.name))
    onnx.save(model, tmp_path / "other.onnx")
    to_fp16(tmp_path / "other.onnx", broken)
    assert not tf32.tolerates_tf32(broken, tmp_path / "other.onnx", smooth_windows())
