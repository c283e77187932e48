"""The compared networks are what their names say, and every library computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks import inputs, networks, runtimes
from benchmarks.competitors import Competitor
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import open_bundle


def test_openvino_matches_onnx_runtime() -> None:
    bundle = open_bundle()
    window = inputs.window(bundle.window)
    expected = OnnxRuntimeBackend(bundle.model("fp32"), threads=1).run(window, bundle.outputs)
    found = runtimes.open_competitor(Competitor("edgeparse", "openvino", "fp32"), 1)["all"]()
    for name in bundle.outputs:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-2, atol=1e-3)  # type: ignore[index]


def test_our_network_in_pytorch_has_the_bundles_parameters() -> None:
    bundle = open_bundle()
    module = networks.our_module(bundle)
    stored = onnx.load_from_string(bundle.model("fp32")).graph.initializer
    exported = sum(int(np.prod(tensor.dims)) for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT)
    assert module.spectrum is not None
    assert module.lines is not None
    trained = sum(value.numel() for value in (*module.parameters(), module.spectrum.waves, module.lines.waves))
    # Batch norms are folded into the layers before them.
    assert exported == pytest.approx(trained, rel=0.01)
    outputs = runtimes.open_competitor(Competitor("edgeparse", "pytorch", "fp32"), 1)["all"]()
    assert len(outputs) == len(bundle.outputs)  # type: ignore[arg-type]


def test_light_detector_has_the_published_size() -> None:
    module = networks.floor_module()
    assert sum(parameter.numel() for parameter in module.parameters()) == 1297
    assert module.layers(torch.zeros(1, 3, 256, 256)).shape == (1, 8, 126, 126)  # type: ignore[operator]


def test_published_networks_have_finite_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "cache", lambda: tmp_path)
    networks._write_checkpoint("parsing", inputs.checkpoint("parsing"))
    with torch.inference_mode():
        fingerprint, *answers = networks.published_module("parsing")(torch.from_numpy(inputs.window(64)))
    assert fingerprint.shape == (1, 3, 64, 64)
    assert 1e-3 < float(fingerprint.std()) < 1e6
    assert all(bool(torch.isfinite(answer).all()) for answer in answers)
