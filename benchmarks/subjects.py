"""What a measuring process can measure, from a description in JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# One run: milliseconds of each of its parts, in the same order every time.
Subject = Callable[[], dict[str, float]]


def open_subject(order: dict[str, Any]) -> Subject:
    """The subject that an order describes by its `kind`: a contender, a batch of windows, a file, a report, a contender on a GPU, or what
    the GPU can do at most.

    Raises:
        Exception: whatever keeps it from running here.
    """
    fields = {name: value for name, value in order.items() if name != "kind"}
    kinds = {
        "contender": _contender,
        "batch": _batch,
        "file": _file,
        "report": _report,
        "gpu": _gpu,
        "ceilings": _ceilings,
    }
    return kinds[order["kind"]](**fields)


def _contender(network: str, runtime: str, precision: str, threads: int, bundle: str | None = None) -> Subject:
    from benchmarks.contenders import Contender
    from benchmarks.runtimes import open_contender

    parts = open_contender(Contender(network, runtime, precision), threads, bundle)
    return lambda: {name: _timed(run) for name, run in parts.items()}


def _batch(count: int, threads: int, backend: str = "auto", bundle: str | None = None) -> Subject:
    """The network alone, `count` windows at a time."""
    from edgeparse.backends.select import create
    from edgeparse.bundle import open_bundle

    opened = open_bundle(bundle)
    network = create(backend, opened, threads=threads)
    shape = (count, opened.window, opened.window, 3)
    windows = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    names = [name for name in opened.outputs if name != "fingerprint"]
    return lambda: {"network": _timed(lambda: network.run(windows, names))}


def _file(path: str, size: int, outputs: list[str], runtime: str, threads: int) -> Subject:
    """One window through a network's ONNX file."""
    from benchmarks import made
    from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
    from edgeparse.backends.openvino import OpenVinoBackend

    model = Path(path).read_bytes()
    network = OpenVinoBackend(model, threads) if runtime == "openvino" else OnnxRuntimeBackend(model, threads=threads)
    window = made.window(size)
    return lambda: {"network": _timed(lambda: network.run(window, outputs))}


def _report(picture: str, settings: dict[str, Any], stages: bool = True) -> Subject:
    """A picture from file to report: whole, and with `stages` once more, taken apart."""
    from edgeparse.parser import Parser

    parser = Parser(**settings)

    def run() -> dict[str, float]:
        taken = {"report": _timed(lambda: parser.parse(picture))}
        return taken | (parser.profile_stages(picture) if stages else {})

    return run


def _gpu(network: str, runtime: str, precision: str, batches: list[int], bundle: str | None = None) -> Subject:
    from benchmarks.contenders import Contender
    from benchmarks.on_gpu import open_contender

    return open_contender(Contender(network, runtime, precision), batches, bundle)


def _ceilings() -> Subject:
    from benchmarks.torch_on_gpu import ceilings

    return ceilings()


def _timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return (time.perf_counter() - begun) * 1e3
