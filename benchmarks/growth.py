"""How cost grows: with a picture's size, with windows, batch, threads and processes. Each point has a process of its own."""

from __future__ import annotations

import statistics
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
# Of the picture that windows, threads and processes are measured on.
USUAL = 1.0
MANY = 12.0

Progress = Callable[[str], None]


class Growth:
    """Measures one thing after another.

    Args:
        bundle: ours.
        backend: its name, or "auto".
        seconds: the length of each point, for three runs at least.
        folder: where pictures are made.
        progress: told what is measured.
    """

    def __init__(self, bundle: Bundle, backend: str, seconds: float, folder: Path, progress: Progress) -> None:
        self._bundle, self._backend, self._seconds = bundle, backend, seconds
        self._folder, self._progress = folder, progress

    def sizes(self, values: Sequence[float] = MEGAPIXELS) -> list[dict[str, Any]]:
        """A report of pictures of several sizes, in megapixels: stages, and the process's peak memory."""
        return [self._point("megapixels", value, self._report(value)) for value in values]

    def windows(self, values: Sequence[int] = WINDOWS) -> list[dict[str, Any]]:
        """A report of a large picture with more and more windows."""
        return [self._point("windows", value, self._report(MANY, windows=value)) for value in values]

    def threads(self, values: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """A report with more and more threads."""
        return [
            self._point("threads", value, self._report(USUAL, threads=value)) for value in values or _up_to_all_cores()
        ]

    def batches(self, values: Sequence[int] = BATCHES) -> list[dict[str, Any]]:
        """The network alone, on more and more windows at once; `per_second` counts windows."""
        points = []
        for value in values:
            order = {
                "kind": "batch",
                "count": value,
                "threads": usable_cores(),
                "backend": self._backend,
                "bundle": str(self._bundle.folder),
            }
            point = self._point("batch", value, order)
            points.append(point | {"per_second": 1e3 * value / point["ms"]["network"]["p50"]})
        return points

    def processes(self, values: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """More and more processes of one thread each, all at work at once; `per_second` counts reports of all together."""
        return [self._processes(value) for value in values or _up_to_all_cores()]

    def _processes(self, count: int) -> dict[str, Any]:
        self._progress(f"{count} processes")
        order = self._report(USUAL, threads=1) | {"stages": False}
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker(order)) for _ in range(count)]
            for worker in workers:
                worker.start(self._seconds)
            runs = [worker.finish()["report"] for worker in workers]
        return {
            "processes": count,
            "per_second": sum(1e3 * len(times) / sum(times) for times in runs),
            "ms": {"report": summarize([value for times in runs for value in times]).to_json()},
        }

    def _point(self, name: str, value: float, order: dict[str, Any]) -> dict[str, Any]:
        self._progress(f"{name} {value:g}")
        with Worker(order) as worker:
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
    """Everything that grows."""
    with tempfile.TemporaryDirectory() as folder:
        growth = Growth(bundle, backend, seconds, Path(folder), progress)
        # Its processes are its children, which Linux counts when they have ended.
        with Monitor(own=_children_seconds) as watch:
            found = {
                "sizes": growth.sizes(),
                "windows": growth.windows(),
                "threads": growth.threads(),
                "batches": growth.batches(),
                "processes": growth.processes(),
            }
    return {"bundle": bundle.label, "bundle_sha256": bundle.sha256, **found, "warnings": watch.warnings()}


def speed_up(points: Sequence[dict[str, Any]]) -> float:
    """How many times as many reports a second the most processes give as one does."""
    return float(points[-1]["per_second"] / points[0]["per_second"])


def shares(point: dict[str, Any]) -> dict[str, float]:
    """Each stage's share of a point's stages, by medians."""
    stages = {name: value["p50"] for name, value in point["ms"].items() if name != "report"}
    whole = statistics.fsum(stages.values())
    return {name: value / whole for name, value in stages.items()}


def _children_seconds() -> float:
    import os

    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _up_to_all_cores() -> list[int]:
    """1, 2, 4, ... and all."""
    cores = usable_cores()
    return sorted({*(2**power for power in range(cores.bit_length())), cores})
