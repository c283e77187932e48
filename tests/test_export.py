"""Precisions and rewrites, on small networks whose every path is known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from edgeparse.bundle import default_folder, open_bundle
from edgeparse.errors import BundleError
from edgeparse.precision import variant_for
from export import tf32
from export.bias_correction import add_to_bias, channel_means, correct_biases
from export.bundle import refit, replacing
from export.half import full_precision_nodes, halve
from export.onnx_graph import differences, export, output_names, with_constants, write
from export.onnx_rewrite import (
    convolution_as_gemm,
    copied,
    dividing_in_weights,
    drop_unused,
    fully_connected_weights,
    gemm_as_convolution,
    merged_heads,
    spatial_convolutions,
    with_moments_together,
    with_shared_statistics,
)
from export.quantize import CPU, TENSORRT, Scheme, quantize
from export.variants import write_variants
from tests.conftest import edit_manifest
from training.data.dataset import Collection, Generator
from training.labels import Labels
from training.model.network import Network, NetworkConfig

NAMES = ["fingerprint", "generated"]
SIZE = 16


class Small(nn.Module):
    """A fingerprint that is an output and is read again, statistics that overflow fp16, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        x = (windows.float() / 127.5 - 1).permute(0, 3, 1, 2)
        fingerprint = self.second(self.first(x).relu())
        # 400 squared does not fit in fp16, whose largest number is 65504.
        y = (self.third(fingerprint) * 400).relu()
        mean, square = y.mean((2, 3)), (y * y).mean((2, 3))
        deviation = ((square - mean * mean).clamp_min(0) + 1e-4).sqrt()
        return fingerprint, self.head(torch.cat([mean, deviation], dim=1) / 400)


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def network() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, network: Small) -> Path:
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    write(network, NAMES, SIZE, path)
    return path


def run(path: Path, windows: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip(NAMES, session.run(NAMES, {"windows": windows}), strict=True))


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_exported_model_computes_what_pytorch_computes(network: Small, model: Path, windows: np.ndarray) -> None:
    assert max(differences(network, NAMES, model, windows).values()) < 1e-5
    assert "Gemm" not in operators(model)
    with torch.no_grad():
        other = Small().eval()
    with pytest.raises(ValueError, match="differs from PyTorch"):
        differences(other, NAMES, model, windows)


def test_fully_connected_layers_become_convolutions_and_nothing_else_changes() -> None:
    bundle = open_bundle()
    before = onnx.load_from_string(bundle.model("fp32"))
    after = gemm_as_convolution(before)
    assert gemm_as_convolution(after) == after
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
def test_only_plain_layers_are_rewritten(attributes: dict[str, float], changed: bool) -> None:
    after = gemm_as_convolution(gemm_model(**attributes))
    assert ("Conv" in [node.op_type for node in after.graph.node]) == changed
    given = np.ones((2, 3 if attributes.get("transB") else 2), np.float32)
    expected, got = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": given})[0]
        for m in (gemm_model(**attributes), after)
    )
    np.testing.assert_allclose(expected, got)


def test_what_no_output_needs_is_dropped() -> None:
    made = gemm_model(transB=1)
    made.graph.node.append(helper.make_node("Relu", ["x"], ["unread"], "dead"))
    made.graph.initializer.append(helper.make_tensor("unused", TensorProto.FLOAT, [1], [0.0]))
    drop_unused(made.graph)
    assert [node.name for node in made.graph.node] == ["g"]
    assert [tensor.name for tensor in made.graph.initializer] == ["w"]


def test_fp16_keeps_types_and_statistics(model: Path, tmp_path: Path, windows: np.ndarray) -> None:
    half = tmp_path / "half.onnx"
    halve(model, half)
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


def test_fp16_without_care_would_overflow(model: Path) -> None:
    """What `full_precision_nodes` is for: the squares are on its list."""
    made = onnx.load(model)
    kept = set(full_precision_nodes(made))
    for node in made.graph.node:
        if node.op_type in ("ReduceMean", "Sqrt", "Sub", "Clip"):
            assert node.name in kept
    squares = [n for n in made.graph.node if n.op_type == "Mul" and len(set(n.input)) == 1]
    assert squares
    assert {node.name for node in squares} <= kept
    assert not kept & set(spatial_convolutions(made))


def test_merged_heads_compute_the_same() -> None:
    bundle = open_bundle()
    before = onnx.load_from_string(bundle.read(bundle.variants["fp32"]))
    after = merged_heads(before)
    # Two hidden layers that read the same, one layer for all that reads the first, the embedding, and what the spectral lines say.
    assert len(fully_connected_weights(before)) > len(fully_connected_weights(after)) == 4
    shown = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    expected, got = (
        onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"windows": shown}) for made in (before, after)
    )
    for a, b in zip(expected, got, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_layers_are_gemm_again_and_compute_the_same() -> None:
    bundle = open_bundle()
    before = merged_heads(onnx.load_from_string(bundle.read(bundle.variants["fp32"])))
    after = convolution_as_gemm(before)
    assert fully_connected_weights(after) == fully_connected_weights(before)
    assert [node.op_type for node in after.graph.node].count("Gemm") == len(fully_connected_weights(before))
    shown = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    expected, got = (
        onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"windows": shown}) for made in (before, after)
    )
    for a, b in zip(expected, got, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_pixels_are_divided_in_weights() -> None:
    bundle = open_bundle()
    before = onnx.load_from_string(bundle.read(bundle.variants["fp32"]))
    after = dividing_in_weights(before)
    kinds = [[node.op_type for node in made.graph.node].count("Div") for made in (before, after)]
    assert kinds[1] == kinds[0] - 1
    shown = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    expected, got = (
        onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"windows": shown}) for made in (before, after)
    )
    for a, b in zip(expected, got, strict=True):
        assert np.allclose(a, b, atol=1e-4)
    assert dividing_in_weights(after) == after


def test_statistics_share_what_they_read(tmp_path: Path) -> None:
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
    after = with_shared_statistics(before)
    assert [node.input[0] for node in after.graph.node if node.name in ("mean", "square")] == ["d_shared"] * 2
    assert [node.input[0] for node in after.graph.node if node.name == "other"] == ["d"]
    assert with_shared_statistics(after) == after
    shown = np.random.default_rng(0).normal(20, 9, (2, 4, 8, 8)).astype(np.float32)
    found, dequantized = [], []
    for model in (before, after):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        found.append(onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": shown}))
        kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        dequantized.append(kinds.count("DequantizeLinear"))
    # What it is for, in ONNX Runtime as it is today: of four, three of which statistics read, two are left.
    assert dequantized == [4, 2]
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a, b)


def test_residual_sums_are_laid_out_with_channels_last(tmp_path: Path, windows: np.ndarray) -> None:
    """What it is for, in ONNX Runtime as it is today: no transposes around a sum, and the same answers to the last bit."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 4, 2, 1)
            self.body, self.last = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))

        def forward(self, x: Tensor) -> tuple[Tensor]:
            begun = (x.permute(0, 3, 1, 2).float() / 255).sub(0.5)
            begun = self.stem(begun).relu()
            return (self.last((begun + self.body(begun)).relu()).mean((2, 3)),)

    torch.manual_seed(0)
    write(Small().eval(), ["mean"], windows.shape[1], tmp_path / "model.onnx")
    found, transposes = [], []
    for number, rewrites in enumerate(((with_shared_statistics,), CPU.after)):
        quantize(tmp_path / "model.onnx", tmp_path / f"{number}.onnx", windows, replace(CPU, after=rewrites))
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(tmp_path / f"{number}.onnx"), options)
        found.append(session.run(None, {"windows": windows})[0])
        kinds = {node.name: node for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
        (added,) = (node for node in kinds.values() if node.op_type == "QLinearAdd")
        made = {name: node.op_type for node in kinds.values() for name in node.output}
        transposes.append([made[name] for name in (added.input[0], added.input[3])].count("Transpose"))
    assert transposes == [1, 0]
    assert np.array_equal(*found)


@pytest.mark.parametrize(("scheme", "kind"), [(CPU, TensorProto.UINT8), (TENSORRT, TensorProto.INT8)])
def test_int8_schemes(model: Path, tmp_path: Path, windows: np.ndarray, scheme: object, kind: int) -> None:
    target = tmp_path / "int8.onnx"
    quantize(model, target, windows, scheme)  # type: ignore[arg-type]
    made = onnx.load(target)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    points = [tensors[node.input[2]] for node in made.graph.node if node.op_type == "QuantizeLinear"]
    assert points
    assert {point.data_type for point in points} == {kind}
    biases = {node.input[2] for node in made.graph.node if node.op_type == "Conv" and len(node.input) == 3}
    if scheme is TENSORRT:
        assert all(not np.any(onnx.numpy_helper.to_array(point)) for point in points)
        assert biases <= tensors.keys()
    expected, got = run(model, windows), run(target, windows)
    error = np.abs(got["fingerprint"] - expected["fingerprint"]).mean() / expected["fingerprint"].std()
    assert 0 < error < 0.05
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("scheme", [CPU, TENSORRT])
def test_biases_undo_what_rounding_shifts(model: Path, tmp_path: Path, windows: np.ndarray, scheme: Scheme) -> None:
    target, prepared = tmp_path / "int8.onnx", tmp_path / "prepared.onnx"
    quantize(model, target, windows, scheme)
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    reference, corrected = onnx.load(prepared), onnx.load(target)
    names = [node.name for node in corrected.graph.node if node.op_type == "Conv" and "_Dequantize" in node.input[1]]
    assert names

    def means(made: onnx.ModelProto) -> list[np.ndarray]:
        outputs = [node.output[0] for node in made.graph.node if node.name in names]
        return channel_means(made, outputs, windows)

    wanted = means(reference)

    def worst(made: onnx.ModelProto) -> float:
        return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(means(made), wanted, strict=True))

    # What is left is a step of an int32 bias.
    assert worst(corrected) < 1e-3
    shifted = copied(corrected)
    for node, mean in zip((n for n in shifted.graph.node if n.name in names), wanted, strict=True):
        add_to_bias(shifted.graph, node, 0.1 * mean)
    assert worst(shifted) > 1e-2
    correct_biases(shifted, reference, names, windows)
    assert worst(shifted) < 1e-3


def test_every_precision_is_written_beside_the_model(model: Path, tmp_path: Path, windows: np.ndarray) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(model.read_bytes())
    variants = write_variants(copy, windows)
    assert list(variants) == ["fp32", "fp16", "int8", "int8-tensorrt"]
    for file in variants.values():
        assert np.isfinite(run(tmp_path / file, windows)["generated"]).all()


def test_each_backend_gets_the_file_that_it_runs_best() -> None:

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


@pytest.mark.parametrize("there", [True, False])
def test_a_bundle_that_is_not_finished_takes_no_other_ones_place(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    if there:
        shutil.copytree(default_folder(), folder)

    def stop_half_way() -> None:
        with replacing(folder) as new:
            (new / "model.onnx").write_bytes(b"half of it")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        stop_half_way()
    assert folder.exists() == there
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"] * there
    with replacing(folder) as new:
        shutil.copytree(default_folder(), new, dirs_exist_ok=True)
    assert open_bundle(folder).sha256 == open_bundle().sha256
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_refitting_wants_the_label_spaces_that_the_networks_answer_with(bundle_copy: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["labels"]["continuous"][0]["high"] += 1

    nothing = Collection([Generator("one", Labels("vae", {}, {}, ()), zoo=True, split="train")], [])
    edit_manifest(bundle_copy, change)
    with pytest.raises(ValueError, match="other label spaces"):
        refit(open_bundle(bundle_copy), nothing, "9")
    edit_manifest(bundle_copy, lambda fields: fields["training"].pop("generators"))
    with pytest.raises(ValueError, match="does not say which generators"):
        refit(open_bundle(bundle_copy), nothing, "9")


@pytest.fixture(scope="module")
def shipped_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the shipped kind, as an fp32 file: random weights, and what it says is generated is what spectral lines add up to."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("kind") / "model.onnx"
    made = Network(NetworkConfig(trunk=(32, 48, 64), hidden=64, compared=64, embedding=16)).eval()
    assert made.by_lines is not None
    made.by_lines.weight.data.fill_(1.0)
    export(made, output_names(made), path)
    return path


def smooth_windows() -> np.ndarray:
    """Half of noise, half of slopes that hardly change: what a residual filter whose weights do not add up to zero takes for content."""
    slopes = np.linspace(0, 60, 128, dtype=np.float32)[:, None, None] + np.arange(8)[:, None, None, None] * 20
    rng = np.random.default_rng(0)
    slow = np.clip(slopes + rng.normal(0, 0.3, (8, 128, 128, 3)), 0, 255).round().astype(np.uint8)
    return np.concatenate([slow, rng.integers(0, 256, (8, 128, 128, 3), np.uint8)])


def test_moments_of_all_maps_are_made_at_once(shipped_kind: Path) -> None:
    before = onnx.load(shipped_kind)
    after = with_moments_together(before)
    counts = [[node.op_type for node in m.graph.node].count("Sqrt") for m in (before, after)]
    assert counts == [4, 1]
    sessions = [onnxruntime.InferenceSession(m.SerializeToString()) for m in (before, after)]
    for a, b in zip(*(session.run(None, {"windows": smooth_windows()}) for session in sessions), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert with_moments_together(after) == after


def test_constants_of_today_take_the_place_of_a_files(shipped_kind: Path) -> None:
    """And no weight is touched, so that one whose constants were others computes as if exported today."""
    network = Network(NetworkConfig(trunk=(32, 48, 64), hidden=64, compared=64, embedding=16))
    today, other = onnx.load(shipped_kind), onnx.load(shipped_kind)
    for tensor in other.graph.initializer:
        if tensor.name.endswith((".colours", ".waves")):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), tensor.name))
    assert other != today
    assert with_constants(other, network) == with_constants(today, network) == today
    (lines,) = (tensor for tensor in other.graph.initializer if tensor.name.endswith("lines.colours"))
    other.graph.initializer.remove(lines)
    with pytest.raises(ValueError, match=r"no constant lines\.colours"):
        with_constants(other, network)


def test_eleven_bits_are_what_tf32_leaves() -> None:
    values = np.array([1.0, 1 + 2**-10, 1 + 2**-11 + 2**-20, -3.1415927, 127.5, 1e-3], np.float32)
    got = tf32.rounded(values)
    assert got[:3].tolist() == [1.0, 1 + 2**-10, 1 + 2**-10]
    np.testing.assert_allclose(got, values, rtol=2**-11)
    mantissas = np.frexp(got.astype(np.float64))[0] * 2**11
    np.testing.assert_array_equal(mantissas, mantissas.round())


def test_lines_bear_tf32_by_weights_that_eleven_bits_hold(shipped_kind: Path, tmp_path: Path) -> None:
    """A tenth larger they are no multiples of one number: rounded, they do not add up to zero, and what is smooth comes through."""
    whole, spoilt = tmp_path / "whole.onnx", tmp_path / "spoilt.onnx"
    halve(shipped_kind, whole)
    assert tf32.borne_by(whole, shipped_kind, smooth_windows())
    model = onnx.load(shipped_kind)
    (lines,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("lines.colours"))
    lines.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(lines) * np.float32(1.1), lines.name))
    onnx.save(model, tmp_path / "other.onnx")
    halve(tmp_path / "other.onnx", spoilt)
    assert not tf32.borne_by(spoilt, tmp_path / "other.onnx", smooth_windows())
