"""How long a report takes here, stage by stage, in a form that can be believed."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeparse import build, coldstart, images, machine, readout, windows
from edgeparse.backends import flavours
from edgeparse.backends.base import Timed
from edgeparse.backends.onnxruntime import usable_cores
from edgeparse.backends.plans import Store
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError, BundleError, ImageError
from edgeparse.gallery import identify
from edgeparse.latency import Latency, summarize
from edgeparse.parser import Parser
from edgeparse.precision import variant_for
from edgeparse.report import Report

if TYPE_CHECKING:
    from edgeparse.coldstart import ColdStart
    from edgeparse.images import Source

SCHEMA = 1
STAGES = ("decode", "windows", "network", "readout")

WARM_UP = 10
LEAST, MOST = 100, 10_000
# Reports at each precision, for a plot.
TRADED = 30
PRECISIONS = ("fp32", "fp16", "int8")
# What a manifest tells of each precision, by what it is of: the area under the curve of camera or generated, on validation.
ACCURACY = {"zoo": "detection_zoo_auc", "public generators": "detection_real_auc"}
# Beyond these, runs of one picture are too unlike to be one figure.
SPREAD, DRIFT = 0.25, 0.1


@dataclass(frozen=True)
class Measurement:
    """What `measure` found. Times are in milliseconds.

    Attributes:
        setup: the bundle, its hash, the backend and precision that really ran, threads, windows, pictures.
        report: a whole `Parser.parse`, from file to report.
        stages: the same, taken apart in runs of their own: `STAGES`, and `TRANSFERS` where the backend tells.
        samples: each whole run, in order.
        cold: of new processes; None where it was not measured.
        peak_memory_mb: of this process, which has measured and drawn besides; `cold` has the honest one.
        energy_j: of `energy_of` for a report, in joules; None where nothing tells.
        energy_of: "the GPU", or the supply lines of a Jetson, which other parts share.
        warnings: why the figures should not be believed; none where they may be.
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
        """Reports a second, one after another."""
        return 1e3 * len(self.samples) / sum(self.samples)

    def to_json(self) -> dict[str, Any]:
        """As in `bench.schema.json`."""
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
    """Measure reports of pictures, in turn.

    Whole runs and runs that are taken apart alternate, so that what disturbs the one disturbs the other.

    Args:
        sources: pictures; a cold start needs the first to be a path.
        settings: arguments of `Parser`.
        seconds: how long, for 100 runs at least and 10,000 at most.
        runs: so many runs instead.
        cold: how many new processes; 0 leaves them out.
        progress: told the share that is done.

    Raises:
        EdgeparseError: a picture cannot be read, or no bundle or backend can be used.
        ValueError: there is no picture.
    """
    if not sources:
        raise ValueError("there is no picture to measure")
    parser = Parser(**settings)
    for number in range(WARM_UP):
        _parsed(parser, sources[number % len(sources)])
        apart(parser, sources[number % len(sources)], settings.get("windows", 8))
    whole: list[float] = []
    reports: dict[int, Report] = {}
    stages: dict[str, list[float]] = {}
    with machine.Watch() as watch:
        begun = time.perf_counter()
        while not _enough(len(whole), time.perf_counter() - begun, seconds, runs):
            place = len(whole) % len(sources)
            source = sources[place]
            started = time.perf_counter()
            reports[place] = _parsed(parser, source)
            whole.append((time.perf_counter() - started) * 1e3)
            for name, value in apart(parser, source, settings.get("windows", 8)).items():
                stages.setdefault(name, []).append(value)
            if progress is not None:
                progress(len(whole) / runs if runs else (time.perf_counter() - begun) / max(seconds, 1e-9))
    started_cold = None
    if cold:
        started_cold = coldstart.measure(sources[0], cold, settings)  # type: ignore[arg-type]
    report = summarize(whole)
    return Measurement(
        machine=machine.describe(),
        setup=_setup(parser, list(reports.values()), settings),
        report=report,
        stages={name: summarize(values) for name, values in stages.items()},
        samples=tuple(whole),
        cold=started_cold,
        peak_memory_mb=machine.peak_memory_mb(),
        # Each picture was looked at twice, whole and apart.
        energy_j=None if watch.energy_j is None else watch.energy_j / len(whole) / 2,
        energy_of=watch.energy_of,
        warnings=(*watch.warnings(), *doubts(whole, len(sources))),
    )


def _enough(done: int, passed: float, seconds: float, runs: int | None) -> bool:
    return done >= runs if runs is not None else done >= MOST or (done >= LEAST and passed >= seconds)


def apart(parser: Parser, source: Source, count: int) -> dict[str, float]:
    """The milliseconds of each stage of one report of at most `count` windows.

    Raises:
        EdgeparseError: as `Parser.parse`.
    """
    marks = [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    bundle = parser.bundle
    picture = images.read(source)
    mark()
    cut = (
        windows.whole(picture.pixels, bundle.window)
        if bundle.framing == "resize"
        else windows.cut(picture, count, bundle.window)
    )
    mark()
    transfers: dict[str, float] = {}
    backend = parser.network
    names = [name for name in bundle.outputs if name != "fingerprint"]
    if isinstance(backend, Timed):
        outputs, transfers = backend.timed(cut.pixels, names)
    else:
        outputs = backend.run(cut.pixels, names)
    mark()
    reading = readout.aggregate(outputs, bundle)
    if reading.embedding is not None and bundle.calibration is not None:
        identify(reading.embedding, parser.gallery, parser.enrolled, bundle.calibration, readout.CANDIDATES)
    mark()
    taken = [(after - before) * 1e3 for before, after in itertools.pairwise(marks)]
    return dict(zip(STAGES, taken, strict=True)) | transfers


def doubts(samples: Sequence[float], pictures: int = 1) -> list[str]:
    """What in the samples themselves speaks against believing them; pictures of several sizes may spread, and those that
    come first may be the larger ones."""
    if pictures > 1:
        return []
    found = []
    spread = summarize(samples).spread
    if spread > SPREAD:
        found.append(f"half of the runs spread over {spread:.0%} of the median; something disturbs them")
    third = len(samples) // 3
    if third >= 10:
        first, last = (float(np.median(part)) for part in (samples[:third], samples[-third:]))
        if abs(last - first) > DRIFT * first:
            words = "slower" if last > first else "faster"
            found.append(f"the last third of the runs was {abs(last / first - 1):.0%} {words} than the first")
    return found


def precision_of(bundle: Bundle, backend: str, wanted: str | None = None) -> str:
    """The precision of the model that a backend, by its name in reports, runs.

    Raises:
        BundleError, BackendError: there is none.
    """
    if backend in flavours.FLAVOURS:
        return build.find(bundle, backend, Store(), wanted).key.precision
    plain = {"onnxruntime-cpu": "cpu", "onnxruntime-cuda": "cuda"}.get(backend, backend)
    return variant_for(bundle, plain, wanted)


@dataclass(frozen=True)
class Trade:
    """What a precision costs and what it is worth: the median milliseconds of a report, and `ACCURACY` as far as the bundle has it."""

    precision: str
    ms: float
    accuracy: dict[str, float]


def trades(sources: Sequence[Source], settings: dict[str, Any], backend: str) -> list[Trade]:
    """Time a few reports at each precision that a backend, by its name in reports, has here; in turn, as the machine may change.

    Raises:
        EdgeparseError: as `measure`.
    """
    parsers: dict[str, Parser] = {}
    for wanted in PRECISIONS:
        with suppress(BackendError, BundleError):
            parser = Parser(**settings | {"variant": wanted})
            if parser.backend == backend:
                parsers[precision_of(parser.bundle, backend, wanted)] = parser
    taken: dict[str, list[float]] = {precision: [] for precision in parsers}
    for number in range(WARM_UP + TRADED):
        for precision, parser in parsers.items():
            started = time.perf_counter()
            parser.parse(sources[number % len(sources)])
            taken[precision].append((time.perf_counter() - started) * 1e3)
    return [
        Trade(precision, float(np.median(taken[precision][WARM_UP:])), _accuracy(parser.bundle, precision))
        for precision, parser in parsers.items()
    ]


def _accuracy(bundle: Bundle, precision: str) -> dict[str, float]:
    figures = bundle.metrics.get("variants", {}).get(precision, {})
    return {name: float(figures[key]) for name, key in ACCURACY.items() if figures.get(key) is not None}


def _parsed(parser: Parser, source: Source) -> Report:
    """
    Raises:
        ImageError: the picture cannot be read; of many, the message says which.
    """
    try:
        return parser.parse(source)
    except ImageError as error:
        raise ImageError(error.kind, f"{images.name_of(source)}: {error}; leave it out") from error


def made_picture(megapixels: float, seed: int = 0) -> bytes:
    """A JPEG of quality 90 with texture at every scale, as photos have, 4:3; the same bytes' worth of work everywhere."""
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
        "threads": settings.get("threads") or usable_cores(),
        "windows": settings.get("windows", 8),
        "pictures": pictures,
    }
