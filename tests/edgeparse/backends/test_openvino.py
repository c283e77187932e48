"""OpenVINO: agreement with ONNX Runtime, threads, and error messages."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgeparse import Parser
from edgeparse.backends import openvino, select
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.backends.openvino import OpenVinoBackend
from edgeparse.bundle import open_bundle
from edgeparse.errors import BackendError
from tests.conftest import ROOT

OUTPUTS = ["generated", "embedding"]


def some(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def backend() -> OpenVinoBackend:
    return OpenVinoBackend(open_bundle().model("fp32"), threads=1)


def test_windows_are_answered_in_order(backend: OpenVinoBackend) -> None:
    given = some(3)
    expected = OnnxRuntimeBackend(open_bundle().model("fp32"), threads=1).run(given, OUTPUTS)
    found = backend.run(given, OUTPUTS)
    kept = {name: value.copy() for name, value in found.items()}
    backend.run(some(5), OUTPUTS)
    for name in OUTPUTS:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-2, atol=2e-3)
        # They are the caller's: the next run writes into other arrays.
        assert np.array_equal(found[name], kept[name])
    assert set(backend.run(given, ["fingerprint"])) == {"fingerprint"}


def test_many_threads_at_once(backend: OpenVinoBackend) -> None:
    given = [some(count) for count in (1, 2, 3, 4)] * 4
    alone = [backend.run(windows, OUTPUTS) for windows in given]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda windows: backend.run(windows, OUTPUTS), given))
    for one, other in zip(alone, together, strict=True):
        for name in OUTPUTS:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-4)


def test_a_report_is_the_same() -> None:
    picture = ROOT / "samples/generated-zoo-autoencoder.jpg"
    one, other = (Parser(backend=name).parse(picture) for name in ("openvino", "cpu"))
    assert one.backend == "openvino"
    assert one.verdict == other.verdict
    assert one.probability_generated == pytest.approx(other.probability_generated, abs=0.03)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="cannot read the model"):
        OpenVinoBackend(b"no model")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "openvino", None)
        assert openvino.version() is None
        with pytest.raises(BackendError, match='pip install "openvino>='):
            select.create("openvino", open_bundle())
    assert openvino.version() is not None
    # What starts slowly is taken by name only.
    assert "openvino" not in select.PREFERENCE
