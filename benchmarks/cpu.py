"""Compare competitors, each in its own process, turn by turn.

A ratio is computed within a round, in which every competitor runs under the same conditions. Only its median over the
rounds is reported.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from benchmarks.competitors import OURS, PUBLISHED, Competitor
from benchmarks.runtimes import open_openvino
from benchmarks.worker import Worker, WorkerError
from edgeparse.backends.base import Backend
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bench.latency import summarize
from edgeparse.bench.monitor import Monitor
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError
from training.data.dataset import Collection
from training.evaluate.summary_metrics import VariantOutputs
from training.evaluate.targets import points_lost

# Seconds after which idle threads no longer spin.
SETTLE = 0.05
# Sums of published networks to compare with one run of ours.
TOGETHER = {"parsing + deepfake": ("parsing", "deepfake"), "all three": PUBLISHED}

Turn = dict[str, list[float]]


def measure(
    wanted: Iterable[Competitor],
    bundle: Bundle,
    threads: int,
    rounds: int,
    seconds: float,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Measure competitors against each other.

    Args:
        wanted: Whom to measure.
        bundle: Our bundle.
        threads: Threads of each competitor.
        rounds: Number of rounds; each has a new random order.
        seconds: Length of a turn.
        progress: Receives lines about the progress.
    """
    workers: dict[Competitor, Worker] = {}
    failures: dict[Competitor, str] = {}
    try:
        for competitor in wanted:
            progress(f"opening {competitor.name}")
            spec = {"kind": "competitor", "threads": threads, "bundle": str(bundle.folder), **competitor.to_json()}
            try:
                workers[competitor] = Worker(spec)
            except WorkerError as error:
                failures[competitor] = str(error)
        turns: dict[Competitor, list[Turn]] = {competitor: [] for competitor in workers}
        order = random.Random(0)
        with Monitor(own=lambda: sum(worker.cpu_seconds() for worker in workers.values())) as watch:
            for number in range(rounds):
                progress(f"round {number + 1} of {rounds}")
                for competitor in order.sample(list(workers), len(workers)):
                    time.sleep(SETTLE)
                    turns[competitor].append(workers[competitor].run(seconds))
    finally:
        for worker in workers.values():
            worker.close()
    reference = Competitor(OURS, "onnxruntime", bundle.default_variant)
    return {
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "threads": threads,
        "rounds": rounds,
        "turn_seconds": seconds,
        "competitors": [
            competitor.to_json() | summary(turns[competitor], accuracy(competitor, bundle)) for competitor in turns
        ],
        "failed": [competitor.to_json() | {"error": error} for competitor, error in failures.items()],
        "reference": reference.to_json(),
        "ratios": ratios(turns, reference),
        "warnings": watch.warnings(),
    }


def summary(turns: Sequence[Turn], known: dict[str, float] | None) -> dict[str, Any]:
    """Summarise the latencies of all turns, by part and by sum of parts, with the accuracy if it is known."""
    parts = {part: [value for turn in turns for value in turn[part]] for part in turns[0]}
    if "all" not in parts:
        parts |= {name: _summed(parts, names) for name, names in TOGETHER.items()}
    return {"ms": {name: summarize(values).to_json() for name, values in parts.items()}, "accuracy": known}


def ratios(turns: dict[Competitor, list[Turn]], reference: Competitor) -> list[dict[str, Any]]:
    """Return each competitor's time relative to the reference: quartiles over the rounds."""
    if reference not in turns:
        return []
    ours = [statistics.median(turn["all"]) for turn in turns[reference]]
    entries = []
    for competitor, own in turns.items():
        if competitor == reference:
            continue
        for name, parts in TOGETHER.items() if competitor.network == "published" else [("all", ("all",))]:
            theirs = [statistics.median(_summed(turn, parts)) for turn in own]
            by_round = [b / a for a, b in zip(ours, theirs, strict=True)]
            entries.append(competitor.to_json() | {"parts": name, **quartiles(by_round)})
    return entries


def quartiles(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles around it."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high}


def openvino_points_lost(
    wanted: Iterable[Competitor], bundle: Bundle, threads: int, load_pictures: Callable[[], Collection]
) -> dict[str, float]:
    """Return the accuracy that our network loses in OpenVINO, by precision, in points.

    The figure is the largest loss of any metric on the test set, compared with the bundle's fp32 file. Speed that
    costs accuracy must not count. Precisions that cannot run here are left out.
    """
    backends = {}
    for competitor in wanted:
        if (competitor.network, competitor.runtime) == (OURS, "openvino"):
            with suppress(BackendError):
                backends[competitor.precision] = open_openvino(bundle, competitor.precision, threads)
    if not backends:
        return {}
    pictures = load_pictures()

    def figures(backend: Backend) -> dict[str, float]:
        return VariantOutputs.run(bundle, backend, pictures).figures()

    reference = figures(OnnxRuntimeBackend(bundle.model("fp32"), threads=threads))
    return {name: points_lost({"fp32": reference, name: figures(backend)}, name) for name, backend in backends.items()}


def accuracy(competitor: Competitor, bundle: Bundle) -> dict[str, float] | None:
    """Return the manifest's validation accuracy of our network's precision; None for networks with random weights."""
    return bundle.metrics.get("variants", {}).get(competitor.precision) if competitor.network == OURS else None


def _summed(runs: Turn, parts: Sequence[str]) -> list[float]:
    return [sum(values) for values in zip(*(runs[part] for part in parts), strict=True)]
