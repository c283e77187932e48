"""Run the scenarios of MLPerf Inference with MLPerf's load generator. These are not MLPerf results: nobody has reviewed them.

SingleStream sends one window after another. MultiStream sends several at once, query after query. Server sends windows at
random times, each with a deadline. Offline sends all windows at once.
"""

from __future__ import annotations

import json
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlperf_loadgen as loadgen
import numpy as np
from numpy.typing import NDArray

from benchmarks import inputs
from edgeparse.backends.base import Backend
from edgeparse.bench.measure import precision_of
from edgeparse.bench.monitor import Monitor
from edgeparse.bundle import Bundle

# Queries that the load generator needs to call a percentile valid. Offline is one query.
QUERIES = {"SingleStream": 100, "MultiStream": 662, "Server": 662, "Offline": 1}
# Windows per query of MultiStream, as MLPerf defines it.
STREAMS = 8
# Server's defaults: its rate as a fraction of SingleStream's, and its deadline in multiples of one window's time.
SHARE, PATIENCE = 0.6, 10
# Largest difference between answers under load and alone, since batch sizes change the order of summation.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Load:
    """A scenario's settings.

    Attributes:
        scenario: MLPerf's name.
        seconds: Minimum duration.
        batch: Largest batch of Server and Offline.
        rate: Server's windows per second; None derives it from this machine's speed.
        patience_ms: Server's deadline; None derives it likewise.
    """

    scenario: str
    seconds: float = 10.0
    batch: int = 32
    rate: float | None = None
    patience_ms: float | None = None


class System:
    """The system under test: maps indices of windows to every output except the fingerprint.

    Streams are answered synchronously. Server and Offline fill a queue, from which a thread takes up to `batch` windows.
    """

    def __init__(self, backend: Backend, bundle: Bundle, samples: NDArray[np.uint8], batch: int, queued: bool) -> None:
        self._backend, self._samples, self._batch, self._queued = backend, samples, batch, queued
        self._outputs = [name for name in bundle.outputs if name != "fingerprint"]
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        """Answer a query; called by the load generator."""
        if self._queued:
            for sample in samples:
                self._waiting.put(sample)
        else:
            self._answer(samples)

    def flush(self) -> None:
        """Do nothing after the last query; called by the load generator."""

    def close(self) -> None:
        """Stop the thread."""
        self._waiting.put(None)
        self._thread.join()

    def answers(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        """Return all outputs of the windows, concatenated to float32[N, V]."""
        outputs = self._backend.run(self._samples[list(numbers)], self._outputs)
        return np.concatenate([outputs[name].reshape(len(numbers), -1) for name in self._outputs], axis=1)

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < self._batch and not self._waiting.empty():
                batch.append(self._waiting.get())
            closing = batch[-1] is None
            self._answer(batch[:-1] if closing else batch)
            if closing:
                return

    def _answer(self, samples: Sequence[Any]) -> None:
        try:
            answers = self.answers([sample.index for sample in samples])
        except Exception as error:  # the load generator waits forever for missing answers
            self.error = error
            answers = np.zeros((len(samples), 1), np.float32)
        # The rows must outlive the call, which copies them.
        rows = [np.ascontiguousarray(row) for row in answers]
        loadgen.QuerySamplesComplete(
            [
                loadgen.QuerySampleResponse(sample.id, row.ctypes.data, row.nbytes)
                for sample, row in zip(samples, rows, strict=True)
            ]
        )


def performance(backend: Backend, bundle: Bundle, load: Load) -> dict[str, Any]:
    """Run a scenario for speed; return the load generator's results under its own names (`result_...`).

    Raises:
        RuntimeError: The backend failed.
    """
    samples = inputs.sample_windows(bundle.window)
    typical = _typical_ms(backend, bundle, samples)
    settings, asked = _settings(load, typical, len(samples))
    settings.mode = loadgen.TestMode.PerformanceOnly
    with tempfile.TemporaryDirectory() as folder, Monitor() as watch:
        _run(backend, bundle, samples, load, settings, Path(folder))
        measured = results((Path(folder) / "mlperf_log_detail.txt").read_text())
    return {
        "scenario": load.scenario,
        "backend": backend.name,
        "precision": precision_of(bundle, backend.name),
        "asked": asked,
        "found": measured,
        "warnings": watch.warnings(),
    }


def accuracy(backend: Backend, bundle: Bundle, load: Load) -> dict[str, Any]:
    """Request each window once under load; return the `largest_difference` from answers alone.

    Raises:
        RuntimeError: The backend failed, an answer is missing, or one differs by more than `TOLERANCE`.
    """
    samples = inputs.sample_windows(bundle.window)
    settings, _ = _settings(load, _typical_ms(backend, bundle, samples), len(samples))
    settings.mode = loadgen.TestMode.AccuracyOnly
    with tempfile.TemporaryDirectory() as folder:
        system = _run(backend, bundle, samples, load, settings, Path(folder))
        logged = json.loads((Path(folder) / "mlperf_log_accuracy.json").read_text())
    under_load = {entry["qsl_idx"]: np.frombuffer(bytes.fromhex(entry["data"]), np.float32) for entry in logged}
    if set(under_load) != set(range(len(samples))):
        raise RuntimeError(f"{load.scenario}: all {len(samples)} windows must be answered, got {len(under_load)}")
    difference = max(
        float(np.abs(under_load[number] - system.answers([number])[0]).max()) for number in range(len(samples))
    )
    if not difference <= TOLERANCE:
        raise RuntimeError(
            f"{load.scenario}: answers under load must match those alone to {TOLERANCE}, got {difference:.2g}"
        )
    return {"scenario": load.scenario, "windows": len(samples), "largest_difference": difference}


def results(detail: str) -> dict[str, Any]:
    """Return the results in the load generator's log, whose lines are JSON after a marker."""
    entries = [json.loads(line.partition(" ")[2]) for line in detail.splitlines() if line.startswith(":::MLLOG")]
    return {entry["key"]: entry["value"] for entry in entries if str(entry["key"]).startswith("result_")}


def _typical_ms(backend: Backend, bundle: Bundle, samples: NDArray[np.uint8]) -> float:
    """Return the median milliseconds of one window, and warm the backend up."""
    names = [name for name in bundle.outputs if name != "fingerprint"]
    times = []
    for _ in range(20):
        start = time.perf_counter()
        backend.run(samples[:1], names)
        times.append((time.perf_counter() - start) * 1e3)
    backend.run(samples[:STREAMS], names)
    return statistics.median(times[5:])


def _settings(load: Load, typical: float, count: int) -> tuple[Any, dict[str, float]]:
    """Return the load generator's settings, and those of them to show to a reader."""
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, load.scenario)
    settings.min_duration_ms = int(load.seconds * 1e3)
    settings.min_query_count = QUERIES[load.scenario]
    settings.performance_sample_count_override = count
    asked: dict[str, float] = {"seconds": load.seconds}
    if load.scenario == "SingleStream":
        settings.single_stream_expected_latency_ns = int(typical * 1e6)
    elif load.scenario == "MultiStream":
        settings.multi_stream_samples_per_query = STREAMS
        settings.multi_stream_expected_latency_ns = int(typical * STREAMS * 1e6)
        asked["windows_per_query"] = STREAMS
    elif load.scenario == "Server":
        settings.server_target_qps = load.rate or SHARE * 1e3 / typical
        settings.server_target_latency_ns = int((load.patience_ms or PATIENCE * typical) * 1e6)
        asked |= {"rate": settings.server_target_qps, "patience_ms": settings.server_target_latency_ns / 1e6}
    else:
        settings.offline_expected_qps = 1e3 / typical
        asked["batch"] = load.batch
    return settings, asked


def _run(
    backend: Backend, bundle: Bundle, samples: NDArray[np.uint8], load: Load, settings: Any, folder: Path
) -> System:
    system = System(backend, bundle, samples, load.batch, queued=load.scenario in ("Server", "Offline"))
    output = loadgen.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    log = loadgen.LogSettings()
    log.log_output = output
    log.enable_trace = False
    under_test = loadgen.ConstructSUT(system.issue, system.flush)
    # The windows stay in memory, so there is nothing to load or unload.
    library = loadgen.ConstructQSL(len(samples), len(samples), lambda _numbers: None, lambda _numbers: None)
    try:
        loadgen.StartTestWithLogSettings(under_test, library, settings, log)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(under_test)
        system.close()
    if system.error is not None:
        raise RuntimeError(f"{load.scenario}: {system.error}") from system.error
    return system
