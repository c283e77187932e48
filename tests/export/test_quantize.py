"""INT8 schemes, bias correction and precisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeparse.backends.base import variant_for
from edgeparse.bundle import open_bundle
from edgeparse.errors import BundleError
from export.bias_correction import add_to_bias, channel_means, correct_biases
from export.graph_utils import copy_model
from export.quantize import CPU, TENSORRT, Scheme, quantize
from export.variants import write_variants
from tests.export.conftest import run


@pytest.mark.parametrize(("scheme", "kind"), [(CPU, TensorProto.UINT8), (TENSORRT, TensorProto.INT8)])
def test_int8_schemes(model: Path, tmp_path: Path, windows: np.ndarray, scheme: object, kind: int) -> None:
    target = tmp_path / "int8.onnx"
    quantize(model, target, windows, scheme)  # type: ignore[arg-type]
    changed = onnx.load(target)
    tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
    points = [tensors[node.input[2]] for node in changed.graph.node if node.op_type == "QuantizeLinear"]
    assert points
    assert {point.data_type for point in points} == {kind}
    biases = {node.input[2] for node in changed.graph.node if node.op_type == "Conv" and len(node.input) == 3}
    if scheme is TENSORRT:
        assert all(not np.any(onnx.numpy_helper.to_array(point)) for point in points)
        assert biases <= tensors.keys()
    expected, got = run(model, windows), run(target, windows)
    error = np.abs(got["fingerprint"] - expected["fingerprint"]).mean() / expected["fingerprint"].std()
    assert 0 < error < 0.05
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("scheme", [CPU, TENSORRT])
def test_biases_undo_the_shift_of_rounding(model: Path, tmp_path: Path, windows: np.ndarray, scheme: Scheme) -> None:
    target, prepared = tmp_path / "int8.onnx", tmp_path / "prepared.onnx"
    quantize(model, target, windows, scheme)
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    reference, corrected = onnx.load(prepared), onnx.load(target)
    names = [node.name for node in corrected.graph.node if node.op_type == "Conv" and "_Dequantize" in node.input[1]]
    assert names

    def means(changed: onnx.ModelProto) -> list[np.ndarray]:
        outputs = [node.output[0] for node in changed.graph.node if node.name in names]
        return channel_means(changed, outputs, windows)

    wanted = means(reference)

    def worst(changed: onnx.ModelProto) -> float:
        return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(means(changed), wanted, strict=True))

    # What is left is a step of an int32 bias.
    assert worst(corrected) < 1e-3
    shifted = copy_model(corrected)
    for node, mean in zip((n for n in shifted.graph.node if n.name in names), wanted, strict=True):
        add_to_bias(shifted.graph, node, 0.1 * mean)
    assert worst(shifted) > 1e-2
    correct_biases(shifted, reference, names, windows)
    assert worst(shifted) < 1e-3


def test_every_precision_is_written(model: Path, tmp_path: Path, windows: np.ndarray) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(model.read_bytes())
    variants = write_variants(copy, windows)
    assert list(variants) == ["fp32", "fp16", "int8", "int8-tensorrt"]
    for file in variants.values():
        assert np.isfinite(run(tmp_path / file, windows)["generated"]).all()


def test_each_backend_gets_its_best_file() -> None:

    old = open_bundle()
    new = replace(old, variants={name: f"{name}.onnx" for name in ("fp32", "fp16", "int8", "int8-tensorrt")})
    for bundle, best in ((old, "fp32"), (new, "fp16")):
        if "fp16" in bundle.variants:
            best = "fp16"
        assert variant_for(bundle, "cpu") == bundle.default_variant
        for backend in ("cuda", "tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt"):
            assert variant_for(bundle, backend) == best
    assert variant_for(new, "cpu", "int8") == "int8"
    assert variant_for(new, "tensorrt", "int8") == "int8-tensorrt"
    assert variant_for(new, "tensorrt", "fp32") == "fp32"
    with pytest.raises(BundleError, match="no int8 model for TensorRT"):
        variant_for(replace(new, variants={"fp32": "model.onnx", "int8": "int8.onnx"}), "tensorrt", "int8")
    with pytest.raises(BundleError, match="no fp8 model for cpu"):
        variant_for(new, "cpu", "fp8")
