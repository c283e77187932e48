"""The scenarios of MLPerf inference, with MLPerf's own load generator. These are not MLPerf results: nobody has reviewed them.

SingleStream: one window after another. MultiStream: so many at once, query after query. Server: windows arrive at random, and each has a
time by which it must be answered. Offline: all windows at once.
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

from benchmarks import made
from edgeparse.backends.base import Backend
from edgeparse.bench.measure import precision_of
from edgeparse.bench.monitor import Monitor
from edgeparse.bundle import Bundle

# The fewest queries from which the load generator will call a percentile valid; Offline is one query.
QUERIES = {"SingleStream": 100, "MultiStream": 662, "Server": 662, "Offline": 1}
# Windows in a query of MultiStream, as MLPerf has it.
STREAMS = 8
# Without a wish, Server gets this share of what one window after another can do, and this many times the time of one.
SHARE, PATIENCE = 0.6, 10
# How far answers under load may be from those alone: other batch sizes add up in another order.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Load:
    """What to ask for. `rate`, windows a second, and `patience_ms` are Server's, and None takes what suits this machine."""

    scenario: str
    seconds: float = 10.0
    batch: int = 32
    rate: float | None = None
    patience_ms: float | None = None


class System:
    """The system under test: windows by number in, every output but the fingerprint out.

    Streams are answered as they are asked. Server and Offline go through a queue from which a thread takes what is there, `batch` windows
    at most.
    """

    def __init__(self, backend: Backend, bundle: Bundle, samples: NDArray[np.uint8], batch: int, queued: bool) -> None:
        self._backend, self._samples, self._batch, self._queued = backend, samples, batch, queued
        self._outputs = [name for name in bundle.outputs if name != "fingerprint"]
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def issue(self, asked: Sequence[Any]) -> None:
        """What the load generator calls with a query."""
        if self._queued:
            for sample in asked:
                self._waiting.put(sample)
        else:
            self._answer(asked)

    def flush(self) -> None:
        """What the load generator calls after the last query; nothing is held back here."""

    def close(self) -> None:
        """End the thread."""
        self._waiting.put(None)
        self._thread.join()

    def answers(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        """float32[N, V]: all outputs of windows, one after another."""
        outputs = self._backend.run(self._samples[list(numbers)], self._outputs)
        return np.concatenate([outputs[name].reshape(len(numbers), -1) for name in self._outputs], axis=1)

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            taken = [first]
            while len(taken) < self._batch and not self._waiting.empty():
                taken.append(self._waiting.get())
            last = taken[-1] is None
            self._answer(taken[:-1] if last else taken)
            if last:
                return

    def _answer(self, asked: Sequence[Any]) -> None:
        try:
            found = self.answers([sample.index for sample in asked])
        except Exception as error:  # the load generator waits for ever for what is not answered
            self.error = error
            found = np.zeros((len(asked), 1), np.float32)
        # The rows must outlive the call, which copies them.
        rows = [np.ascontiguousarray(row) for row in found]
        loadgen.QuerySamplesComplete(
            [
                loadgen.QuerySampleResponse(sample.id, row.ctypes.data, row.nbytes)
                for sample, row in zip(asked, rows, strict=True)
            ]
        )


def performance(backend: Backend, bundle: Bundle, load: Load) -> dict[str, Any]:
    """Run a scenario and return what the load generator found, under its own names (`result_...`), and whether it is valid.

    Raises:
        RuntimeError: the backend failed.
    """
    samples = made.sample_windows(bundle.window)
    typical = _typical_ms(backend, bundle, samples)
    settings, told = _settings(load, typical, len(samples))
    settings.mode = loadgen.TestMode.PerformanceOnly
    with tempfile.TemporaryDirectory() as folder, Monitor() as watch:
        _run(backend, bundle, samples, load, settings, Path(folder))
        found = results((Path(folder) / "mlperf_log_detail.txt").read_text())
    return {
        "scenario": load.scenario,
        "backend": backend.name,
        "precision": precision_of(bundle, backend.name),
        "asked": told,
        "found": found,
        "warnings": watch.warnings(),
    }


def accuracy(backend: Backend, bundle: Bundle, load: Load) -> dict[str, Any]:
    """Ask for each window once under load, and compare the answers with those alone: `largest_difference` of any output.

    Raises:
        RuntimeError: the backend failed, an answer is missing, or one differs by more than `TOLERANCE`.
    """
    samples = made.sample_windows(bundle.window)
    settings, _ = _settings(load, _typical_ms(backend, bundle, samples), len(samples))
    settings.mode = loadgen.TestMode.AccuracyOnly
    with tempfile.TemporaryDirectory() as folder:
        system = _run(backend, bundle, samples, load, settings, Path(folder))
        logged = json.loads((Path(folder) / "mlperf_log_accuracy.json").read_text())
    under_load = {entry["qsl_idx"]: np.frombuffer(bytes.fromhex(entry["data"]), np.float32) for entry in logged}
    if set(under_load) != set(range(len(samples))):
        raise RuntimeError(f"{load.scenario}: {len(under_load)} of {len(samples)} windows were answered")
    difference = max(
        float(np.abs(under_load[number] - system.answers([number])[0]).max()) for number in range(len(samples))
    )
    if not difference <= TOLERANCE:
        raise RuntimeError(f"{load.scenario}: an answer under load is {difference:.2g} from that alone")
    return {"scenario": load.scenario, "windows": len(samples), "largest_difference": difference}


def results(detail: str) -> dict[str, Any]:
    """What the load generator's log says of the result: lines of JSON behind a mark, with a key and a value each."""
    entries = [json.loads(line.partition(" ")[2]) for line in detail.splitlines() if line.startswith(":::MLLOG")]
    return {entry["key"]: entry["value"] for entry in entries if str(entry["key"]).startswith("result_")}


def _typical_ms(backend: Backend, bundle: Bundle, samples: NDArray[np.uint8]) -> float:
    """The median time of one window, which also warms the backend up for the sizes that it will see."""
    names = [name for name in bundle.outputs if name != "fingerprint"]
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        backend.run(samples[:1], names)
        times.append((time.perf_counter() - begun) * 1e3)
    backend.run(samples[:STREAMS], names)
    return statistics.median(times[5:])


def _settings(load: Load, typical: float, count: int) -> tuple[Any, dict[str, float]]:
    """The load generator's settings, and those of them that a reader should know."""
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, load.scenario)
    settings.min_duration_ms = int(load.seconds * 1e3)
    settings.min_query_count = QUERIES[load.scenario]
    settings.performance_sample_count_override = count
    told: dict[str, float] = {"seconds": load.seconds}
    if load.scenario == "SingleStream":
        settings.single_stream_expected_latency_ns = int(typical * 1e6)
    elif load.scenario == "MultiStream":
        settings.multi_stream_samples_per_query = STREAMS
        settings.multi_stream_expected_latency_ns = int(typical * STREAMS * 1e6)
        told["windows_per_query"] = STREAMS
    elif load.scenario == "Server":
        settings.server_target_qps = load.rate or SHARE * 1e3 / typical
        settings.server_target_latency_ns = int((load.patience_ms or PATIENCE * typical) * 1e6)
        told |= {"rate": settings.server_target_qps, "patience_ms": settings.server_target_latency_ns / 1e6}
    else:
        settings.offline_expected_qps = 1e3 / typical
        told["batch"] = load.batch
    return settings, told


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
    # The windows are in memory all the time: there is nothing to load or unload.
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
