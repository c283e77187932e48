"""What a worker process can run, described in JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# One run: milliseconds of each part, always in the same order.
Workload = Callable[[], dict[str, float]]


def open_workload(spec: dict[str, Any]) -> Workload:
    """Open what a spec describes.

    Args:
        spec: `kind` is "competitor", "batch", "file", "report", "gpu" or "ceilings"; the other fields are arguments of
            the function of that name below.

    Raises:
        Exception: Any error of a library that cannot run here.
    """
    fields = {name: value for name, value in spec.items() if name != "kind"}
    kinds: dict[str, Callable[..., Workload]] = {
        "competitor": _competitor,
        "batch": _batch,
        "file": _file,
        "report": _report,
        "gpu": _gpu,
        "ceilings": _ceilings,
    }
    return kinds[spec["kind"]](**fields)


def _competitor(network: str, runtime: str, precision: str, threads: int, bundle: str | None = None) -> Workload:
    from benchmarks.competitors import Competitor
    from benchmarks.runtimes import open_competitor

    parts = open_competitor(Competitor(network, runtime, precision), threads, bundle)
    return lambda: {name: _timed(run) for name, run in parts.items()}


def _batch(count: int, threads: int, backend: str = "auto", bundle: str | None = None) -> Workload:
    """Run the network alone on `count` windows."""
    from edgeparse.backends.select import create
    from edgeparse.bundle import open_bundle

    opened = open_bundle(bundle)
    network = create(backend, opened, threads=threads)
    shape = (count, opened.window, opened.window, 3)
    windows = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    names = [name for name in opened.outputs if name != "fingerprint"]
    return lambda: {"network": _timed(lambda: network.run(windows, names))}


def _file(path: str, size: int, outputs: list[str], runtime: str, threads: int) -> Workload:
    """Run an ONNX file on one window."""
    from benchmarks import inputs
    from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
    from edgeparse.backends.openvino import OpenVinoBackend

    model = Path(path).read_bytes()
    network = OpenVinoBackend(model, threads) if runtime == "openvino" else OnnxRuntimeBackend(model, threads=threads)
    window = inputs.window(size)
    return lambda: {"network": _timed(lambda: network.run(window, outputs))}


def _report(picture: str, settings: dict[str, Any], stages: bool = True) -> Workload:
    """Parse a picture; with `stages`, parse it once more and time each stage."""
    from edgeparse.parser import Parser

    parser = Parser(**settings)

    def run() -> dict[str, float]:
        times = {"report": _timed(lambda: parser.parse(picture))}
        return times | (parser.profile_stages(picture) if stages else {})

    return run


def _gpu(network: str, runtime: str, precision: str, batches: list[int], bundle: str | None = None) -> Workload:
    from benchmarks.competitors import Competitor
    from benchmarks.gpu_runtimes import open_competitor

    return open_competitor(Competitor(network, runtime, precision), batches, bundle)


def _ceilings() -> Workload:
    from benchmarks.gpu_torch import ceilings

    return ceilings()


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3
