"""Measure how cost grows with picture size, windows, batch size, threads and processes. Each point has its own process."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.worker import Worker
from edgeparse.bench.latency import summarize
from edgeparse.bench.measure import synthetic_picture
from edgeparse.bench.monitor import Monitor
from edgeparse.bundle import Bundle
from edgeparse.system import usable_cores

MEGAPIXELS = (0.1, 0.3, 1.0, 3.0, 12.0, 24.0, 48.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WINDOWS = (1, 2, 4, 8, 16, 32, 64)
# Megapixels of the picture for threads and processes, and of the one for windows.
TYPICAL = 1.0
LARGE = 12.0

Progress = Callable[[str], None]


class Scaling:
    """Measures one quantity after another.

    Args:
        bundle: Our bundle.
        backend: The backend's name, or "auto".
        seconds: Length of each point, for at least three runs.
        folder: Where pictures are written.
        progress: Receives lines about the progress.
    """

    def __init__(self, bundle: Bundle, backend: str, seconds: float, folder: Path, progress: Progress) -> None:
        self._bundle, self._backend, self._seconds = bundle, backend, seconds
        self._folder, self._progress = folder, progress

    def sizes(self, values: Sequence[float] = MEGAPIXELS) -> list[dict[str, Any]]:
        """Measure stages and peak memory for several picture sizes in megapixels."""
        return [self._point("megapixels", value, self._report(value)) for value in values]

    def windows(self, values: Sequence[int] = WINDOWS) -> list[dict[str, Any]]:
        """Measure a report of a large picture for several numbers of windows."""
        return [self._point("windows", value, self._report(LARGE, windows=value)) for value in values]

    def threads(self, values: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Measure a report for several numbers of threads."""
        return [self._point("threads", n, self._report(TYPICAL, threads=n)) for n in values or _up_to_all_cores()]

    def batches(self, values: Sequence[int] = BATCHES) -> list[dict[str, Any]]:
        """Measure the network alone for several batch sizes; `per_second` counts windows."""
        points = []
        for value in values:
            spec = {
                "kind": "batch",
                "count": value,
                "threads": usable_cores(),
                "backend": self._backend,
                "bundle": str(self._bundle.folder),
            }
            point = self._point("batch", value, spec)
            points.append(point | {"per_second": 1e3 * value / point["ms"]["network"]["p50"]})
        return points

    def processes(self, values: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Measure several processes of one thread at once; `per_second` counts the reports of all."""
        return [self._processes(value) for value in values or _up_to_all_cores()]

    def _processes(self, count: int) -> dict[str, Any]:
        self._progress(f"{count} processes")
        spec = self._report(TYPICAL, threads=1) | {"stages": False}
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker(spec)) for _ in range(count)]
            for worker in workers:
                worker.start(self._seconds)
            runs = [worker.finish()["report"] for worker in workers]
        return {
            "processes": count,
            "per_second": sum(1e3 * len(times) / sum(times) for times in runs),
            "ms": {"report": summarize([value for times in runs for value in times]).to_json()},
        }

    def _point(self, name: str, value: float, spec: dict[str, Any]) -> dict[str, Any]:
        self._progress(f"{name} {value:g}")
        with Worker(spec) as worker:
            runs = worker.run(self._seconds)
            peak = worker.peak_memory_mb
        return {
            name: value,
            "ms": {part: summarize(values).to_json() for part, values in runs.items()},
            "peak_memory_mb": peak,
        }

    def _report(self, megapixels: float, windows: int = 8, threads: int | None = None) -> dict[str, Any]:
        picture = self._folder / f"{megapixels:g}.jpg"
        if not picture.exists():
            picture.write_bytes(synthetic_picture(megapixels))
        settings = {
            "bundle": str(self._bundle.folder),
            "backend": self._backend,
            "windows": windows,
            "threads": threads,
        }
        return {"kind": "report", "picture": str(picture), "settings": settings}


def measure(bundle: Bundle, backend: str, seconds: float, progress: Progress = lambda _text: None) -> dict[str, Any]:
    """Measure everything; see `Scaling` for the arguments."""
    with tempfile.TemporaryDirectory() as folder:
        scaling = Scaling(bundle, backend, seconds, Path(folder), progress)
        # Linux adds the CPU time of child processes when they end.
        with Monitor(own=_children_seconds) as watch:
            measured = {
                "sizes": scaling.sizes(),
                "windows": scaling.windows(),
                "threads": scaling.threads(),
                "batches": scaling.batches(),
                "processes": scaling.processes(),
            }
    return {"bundle": bundle.label, "bundle_sha256": bundle.sha256, **measured, "warnings": watch.warnings()}


def speed_up(points: Sequence[dict[str, Any]]) -> float:
    """Return the rate of the most processes relative to that of one."""
    return float(points[-1]["per_second"] / points[0]["per_second"])


def shares(point: dict[str, Any]) -> dict[str, float]:
    """Return each stage's share of a point's time, by medians."""
    stages = {name: value["p50"] for name, value in point["ms"].items() if name != "report"}
    whole = math.fsum(stages.values())
    return {name: value / whole for name, value in stages.items()}


def _children_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _up_to_all_cores() -> list[int]:
    """Return 1, 2, 4, ... and the number of cores."""
    cores = usable_cores()
    return sorted({*(2**power for power in range(cores.bit_length())), cores})
