"""Measure how long a report takes here, stage by stage, and whether the figures are reliable."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeparse import images, system
from edgeparse.backends.base import variant_for
from edgeparse.backends.tensorrt.build import find_engine
from edgeparse.backends.tensorrt.engine_cache import EngineCache
from edgeparse.backends.tensorrt.library import LIBRARIES
from edgeparse.bench import cold_start
from edgeparse.bench.latency import Latency, summarize
from edgeparse.bench.monitor import Monitor
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError, BundleError, ImageError
from edgeparse.parser import Parser
from edgeparse.report import Report

if TYPE_CHECKING:
    from edgeparse.bench.cold_start import ColdStart
    from edgeparse.images import Source

SCHEMA = 2

WARM_UP = 10
MIN_RUNS, MAX_RUNS = 100, 10_000
# Reports per precision in `accuracy_latency`.
PRECISION_RUNS = 30
PRECISIONS = ("fp32", "fp16", "int8")
# Accuracy of a precision in a manifest, by its label in the plot: AUC of camera against generated, on validation data.
ACCURACY = {"zoo": "detection_zoo_auc", "public generators": "detection_public_auc"}
# Limits of the relative interquartile range, and of the change from the first to the last third of the runs.
SPREAD, DRIFT = 0.25, 0.1


@dataclass(frozen=True)
class Measurement:
    """Result of `measure`. Times are in milliseconds.

    Attributes:
        machine: the machine (`system.describe`).
        setup: bundle, its hash, the backend and precision that really ran, threads, windows, images.
        report: a whole `Parser.parse`, from file to report.
        stages: `Parser.profile_stages`, in runs of their own.
        samples: each whole run, in order.
        cold: figures of new processes, or None.
        peak_memory_mb: of this process, which also ran the measurement; `cold` has the figure of a fresh process.
        energy_j: energy per report in joules, or None if the machine does not expose it.
        energy_of: what `energy_j` covers: "the GPU", or the power rails of a Jetson, which other parts share.
        warnings: why the figures are not reliable; empty if they are.
    """

    machine: dict[str, Any]
    setup: dict[str, Any]
    report: Latency
    stages: dict[str, Latency]
    samples: tuple[float, ...]
    cold: ColdStart | None
    peak_memory_mb: float | None
    energy_j: float | None
    energy_of: str | None
    warnings: tuple[str, ...]

    @property
    def per_second(self) -> float:
        """Reports per second, sequentially."""
        return 1e3 * len(self.samples) / sum(self.samples)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `edgeparse bench --json` (schema 2, `edgeparse/bench.schema.json`)."""
        return {
            "schema": SCHEMA,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": self.machine,
            "setup": self.setup,
            "report_ms": self.report.to_json(),
            "reports_per_second": self.per_second,
            "stages_ms": {name: latency.to_json() for name, latency in self.stages.items()},
            "cold_start": None if self.cold is None else self.cold.to_json(),
            "peak_memory_mb": self.peak_memory_mb,
            "energy_j_per_report": self.energy_j,
            "energy_of": self.energy_of,
            "warnings": list(self.warnings),
        }


def measure(
    sources: Sequence[Source],
    settings: dict[str, Any],
    seconds: float = 10.0,
    runs: int | None = None,
    cold: int = 5,
    progress: Callable[[float], None] | None = None,
) -> Measurement:
    """Measure reports about images, in turn.

    Whole runs alternate with profiled runs, so that disturbances affect both.

    Args:
        sources: images. A cold start needs the first one to be a path.
        settings: arguments of `Parser`.
        seconds: minimum duration in seconds (at least 100 runs, at most 10,000).
        runs: number of runs, instead of a duration.
        cold: number of new processes; 0 skips the cold start.
        progress: called with the completed share, 0 to 1.

    Raises:
        EdgeparseError: an image cannot be read, or no bundle or backend is usable.
        ValueError: `sources` is empty.
    """
    if not sources:
        raise ValueError("sources must not be empty")
    parser = Parser(**settings)
    for number in range(WARM_UP):
        _parse(parser, sources[number % len(sources)])
        parser.profile_stages(sources[number % len(sources)])
    samples: list[float] = []
    reports: dict[int, Report] = {}
    stages: dict[str, list[float]] = {}
    with Monitor() as monitor:
        start = time.perf_counter()
        while not _enough(len(samples), time.perf_counter() - start, seconds, runs):
            index = len(samples) % len(sources)
            source = sources[index]
            run_start = time.perf_counter()
            reports[index] = _parse(parser, source)
            samples.append((time.perf_counter() - run_start) * 1e3)
            for name, value in parser.profile_stages(source).items():
                stages.setdefault(name, []).append(value)
            if progress is not None:
                progress(len(samples) / runs if runs else (time.perf_counter() - start) / max(seconds, 1e-9))
    cold_figures = cold_start.measure(sources[0], cold, settings) if cold else None  # type: ignore[arg-type]
    return Measurement(
        machine=system.describe(),
        setup=_setup(parser, list(reports.values()), settings),
        report=summarize(samples),
        stages={name: summarize(values) for name, values in stages.items()},
        samples=tuple(samples),
        cold=cold_figures,
        peak_memory_mb=system.peak_memory_mb(),
        # Each iteration analyses the image twice: whole and profiled.
        energy_j=None if monitor.energy_j is None else monitor.energy_j / len(samples) / 2,
        energy_of=monitor.energy_of,
        warnings=(*monitor.warnings(), *quality_warnings(samples, len(sources))),
    )


def _enough(done: int, elapsed: float, seconds: float, runs: int | None) -> bool:
    return done >= runs if runs is not None else done >= MAX_RUNS or (done >= MIN_RUNS and elapsed >= seconds)


def quality_warnings(samples: Sequence[float], pictures: int = 1) -> list[str]:
    """Return why the samples themselves are not reliable.

    With several images nothing is reported: they differ in size, and the first ones may be larger.

    Args:
        samples: milliseconds of each run, in order.
        pictures: number of different images.
    """
    if pictures > 1:
        return []
    found = []
    spread = summarize(samples).spread
    if spread > SPREAD:
        found.append(f"the middle half of the runs spreads over {spread:.0%} of the median; something disturbs them")
    third = len(samples) // 3
    if third >= 10:
        first, last = (float(np.median(part)) for part in (samples[:third], samples[-third:]))
        if abs(last - first) > DRIFT * first:
            direction = "slower" if last > first else "faster"
            found.append(f"the last third of the runs was {abs(last / first - 1):.0%} {direction} than the first")
    return found


def precision_of(bundle: Bundle, backend: str, precision: str | None = None) -> str:
    """Return the precision of the model that a backend runs.

    Args:
        bundle: the bundle.
        backend: name of the backend, as in reports.
        precision: the requested precision, or None for the backend's default.

    Raises:
        BundleError: the bundle has no such model.
        BackendError: there is no engine.
    """
    if backend in LIBRARIES:
        return find_engine(bundle, backend, EngineCache(), precision).key.precision
    name = {"onnxruntime-cpu": "cpu", "onnxruntime-cuda": "cuda"}.get(backend, backend)
    return variant_for(bundle, name, precision)


@dataclass(frozen=True)
class AccuracyLatency:
    """Accuracy and latency of one precision.

    Attributes:
        precision: "fp32", "fp16" or "int8".
        ms: median milliseconds per report.
        accuracy: the figures of `ACCURACY` that the bundle has.
    """

    precision: str
    ms: float
    accuracy: dict[str, float]


def accuracy_latency(sources: Sequence[Source], settings: dict[str, Any], backend: str) -> list[AccuracyLatency]:
    """Time a few reports at each precision that a backend has here, alternating between precisions.

    Args:
        sources: images.
        settings: arguments of `Parser`.
        backend: name of the backend, as in reports.

    Raises:
        EdgeparseError: as for `measure`.
    """
    parsers: dict[str, Parser] = {}
    for precision in PRECISIONS:
        with suppress(BackendError, BundleError):
            parser = Parser(**settings | {"variant": precision})
            if parser.backend == backend:
                parsers[precision_of(parser.bundle, backend, precision)] = parser
    times: dict[str, list[float]] = {precision: [] for precision in parsers}
    for number in range(WARM_UP + PRECISION_RUNS):
        for precision, parser in parsers.items():
            start = time.perf_counter()
            parser.parse(sources[number % len(sources)])
            times[precision].append((time.perf_counter() - start) * 1e3)
    return [
        AccuracyLatency(precision, float(np.median(times[precision][WARM_UP:])), _accuracy(parser.bundle, precision))
        for precision, parser in parsers.items()
    ]


def _accuracy(bundle: Bundle, precision: str) -> dict[str, float]:
    figures = bundle.metrics.get("variants", {}).get(precision, {})
    return {label: float(figures[key]) for label, key in ACCURACY.items() if figures.get(key) is not None}


def _parse(parser: Parser, source: Source) -> Report:
    """Parse an image; the error message names it.

    Raises:
        ImageError: the image cannot be read.
    """
    try:
        return parser.parse(source)
    except ImageError as error:
        raise ImageError(error.kind, f"{images.source_name(source)}: {error}; leave it out") from error


def synthetic_picture(megapixels: float, seed: int = 0) -> bytes:
    """Return a 4:3 JPEG of quality 90 with texture at every scale, like a photo: the same workload on every machine."""
    from PIL import Image

    width = max(16, round((megapixels * 1e6 * 4 / 3) ** 0.5))
    size = (width, max(12, round(width * 3 / 4)))
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", size, (128, 128, 128))
    for scale in (512, 128, 32, 8, 2):
        coarse = (max(2, size[0] // scale), max(2, size[1] // scale))
        noise = Image.fromarray(rng.integers(0, 256, (coarse[1], coarse[0], 3), np.uint8))
        picture = Image.blend(picture, noise.resize(size, Image.Resampling.BICUBIC), 0.2)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _setup(parser: Parser, reports: Sequence[Report], settings: dict[str, Any]) -> dict[str, Any]:
    bundle = parser.bundle
    pictures = []
    for report in reports:
        assert report.image is not None
        pictures.append(
            {
                "source": report.source,
                "width": report.image.width,
                "height": report.image.height,
                "format": report.image.format,
                "windows": report.windows,
            }
        )
    return {
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "backend": parser.backend,
        "precision": precision_of(bundle, parser.backend, settings.get("variant")),
        "threads": settings.get("threads") or system.usable_cores(),
        "windows": settings.get("windows", 8),
        "pictures": pictures,
    }
