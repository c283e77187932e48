"""Measure what each graph pass of the INT8 file is worth on a CPU: one file with all of them, and one without each.

All files compute the same, except for rounding. Their speed does not depend on calibration, so they are created from the
bundle's fp32 network and the samples.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import inputs
from benchmarks.cpu import quartiles
from benchmarks.worker import Worker, WorkerError
from edgeparse.bundle import Bundle
from export.quantize import CPU, Scheme, quantize

RUNTIMES = ("onnxruntime", "openvino")
ALL = "all"


def schemes() -> Iterator[tuple[str, Scheme]]:
    """Yield the CPU's scheme, and the scheme without each pass under that pass's name."""
    yield ALL, CPU
    for stage in ("before", "after"):
        passes = getattr(CPU, stage)
        for left_out in passes:
            changed: dict[str, Any] = {stage: tuple(p for p in passes if p is not left_out)}
            yield left_out.__name__, replace(CPU, **changed)


def measure(
    bundle: Bundle, threads: int, rounds: int, seconds: float, progress: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Time one window through every file in every installed runtime, in turns.

    Every turn has a new process, because where a process has its memory matters as much as some passes.

    Args:
        bundle: The bundle whose fp32 network is quantised.
        threads: Threads of each runtime.
        rounds: Number of rounds; each has a new random order.
        seconds: Length of a turn.
        progress: Receives lines about the progress.
    """
    with tempfile.TemporaryDirectory() as temporary:
        specs = _write_files(bundle, Path(temporary), threads, progress)
        turns: dict[tuple[str, str], list[float]] = {key: [] for key in specs}
        order = random.Random(0)
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for key in order.sample(list(turns), len(turns)):
                try:
                    with Worker(specs[key]) as worker:
                        turns[key].append(statistics.median(worker.run(seconds)["network"]))
                except WorkerError as error:
                    progress(f"{' in '.join(key)} cannot run here: {error}")
                    del turns[key]
    return {
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "threads": threads,
        "rounds": rounds,
        "turn_seconds": seconds,
        "files": [
            {
                "without": None if name == ALL else name,
                "runtime": runtime,
                "ms": statistics.median(times),
                "times": quartiles([b / a for a, b in zip(turns[ALL, runtime], times, strict=True)]),
            }
            for (name, runtime), times in turns.items()
            if (ALL, runtime) in turns
        ],
    }


def _write_files(
    bundle: Bundle, folder: Path, threads: int, progress: Callable[[str], None]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Write one file per scheme; return a worker's spec for each scheme and runtime."""
    specs = {}
    source = folder / "model.onnx"
    source.write_bytes(bundle.model("fp32"))
    windows = inputs.sample_windows(bundle.window)
    for name, scheme in schemes():
        progress(f"writing {name}")
        target = folder / f"{name}.onnx"
        quantize(source, target, windows, scheme)
        for runtime in RUNTIMES:
            specs[name, runtime] = {
                "kind": "file",
                "path": str(target),
                "size": bundle.window,
                "outputs": bundle.outputs,
                "runtime": runtime,
                "threads": threads,
            }
    return specs
