"""MLPerf's load generator drives the backend, and its figures are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import mlperf_load, results
from benchmarks.__main__ import main
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import open_bundle
from tests.conftest import noise


class Flaky:
    """A backend whose answers depend on how many windows it is asked about."""

    name = "onnxruntime-cpu"

    def run(self, windows: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        return {name: np.full((len(windows), 2), float(len(windows)), np.float32) for name in outputs}


class Broken(Flaky):
    def run(self, windows: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        if len(windows) > mlperf_load.STREAMS:
            raise ValueError("too many")
        return super().run(windows, outputs)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    windows = np.stack([noise(128, 128, seed) for seed in range(10)])
    monkeypatch.setattr(mlperf_load.inputs, "sample_windows", lambda _size: windows)
    return windows


def test_answers_under_load_match_those_alone(few: np.ndarray) -> None:
    bundle = open_bundle()
    backend = OnnxRuntimeBackend(bundle.model(), threads=1)
    for name in ("SingleStream", "Offline"):
        found = mlperf_load.accuracy(backend, bundle, mlperf_load.Load(name, seconds=0.1))
        assert found["windows"] == 10
        assert found["largest_difference"] < 1e-4


def test_wrong_answers_and_failures_under_load_are_errors(few: np.ndarray) -> None:
    bundle = open_bundle()
    with pytest.raises(RuntimeError, match="under load"):
        mlperf_load.accuracy(Flaky(), bundle, mlperf_load.Load("MultiStream", seconds=0.1))
    with pytest.raises(RuntimeError, match="too many"):
        mlperf_load.accuracy(Broken(), bundle, mlperf_load.Load("Offline", seconds=0.1))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("SingleStream", "result_90.00_percentile_latency_ns"),
        ("MultiStream", "result_99.00_percentile_per_query_latency_ns"),
        ("Server", "result_99.00_percentile_latency_ns"),
        ("Offline", "result_samples_per_second"),
    ],
)
def test_scenarios_return_mlperf_figures(few: np.ndarray, name: str, key: str) -> None:
    load = mlperf_load.Load(name, seconds=0.1, rate=2000, patience_ms=50)
    found = mlperf_load.performance(Flaky(), open_bundle(), load)
    assert found["found"][key] > 0, found["found"]
    assert found["found"]["result_query_count"] >= mlperf_load.QUERIES[name]
    assert found["found"]["result_validity"] in ("VALID", "INVALID")


def test_load_results_name_their_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlperf_load, "performance", lambda *_: {"found": {}})
    monkeypatch.setattr(mlperf_load, "accuracy", lambda *_: {})
    arguments = [
        "mlperf-load",
        "--scenario",
        "Offline",
        "--backend",
        "cpu",
        "--machine",
        "m",
        "--results",
        str(tmp_path),
    ]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    section = results.load(tmp_path / "m.json")["sections"]["mlperf_load"]
    assert (section["bundle"], section["bundle_sha256"]) == (open_bundle().label, open_bundle().sha256)
