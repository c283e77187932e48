"""Who is how much faster: contenders in processes of their own, turn by turn, and medians of ratios.

A ratio is taken within a round, in which everyone has a turn under the same conditions; only its median over the rounds is told.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from benchmarks.contenders import OURS, PUBLISHED, Contender
from benchmarks.runtimes import open_openvino
from benchmarks.worker import Worker, WorkerError
from edgeparse.backends.base import Backend
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError
from edgeparse.latency import summarize
from edgeparse.machine import Watch
from training.bars import points_lost
from training.data.dataset import Collection
from training.headline import Measured

# Idle threads that still spin have gone to sleep by then.
SETTLE = 0.05
# What of the published networks a report of ours stands against.
TOGETHER = {"parsing + deepfake": ("parsing", "deepfake"), "all three": PUBLISHED}

Turn = dict[str, list[float]]


def measure(
    wanted: Iterable[Contender],
    bundle: Bundle,
    threads: int,
    rounds: int,
    seconds: float,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Measure contenders against each other.

    Args:
        bundle: ours.
        threads: of each.
        rounds: turns of everyone, in an order drawn anew each time.
        seconds: a turn's length.
    """
    workers: dict[Contender, Worker] = {}
    failures: dict[Contender, str] = {}
    try:
        for contender in wanted:
            progress(f"opening {contender.name}")
            order = {"kind": "contender", "threads": threads, "bundle": str(bundle.folder), **contender.to_json()}
            try:
                workers[contender] = Worker(order)
            except WorkerError as error:
                failures[contender] = str(error)
        turns: dict[Contender, list[Turn]] = {contender: [] for contender in workers}
        drawn = random.Random(0)
        with Watch(own=lambda: sum(worker.cpu_seconds() for worker in workers.values())) as watch:
            for number in range(rounds):
                progress(f"round {number + 1} of {rounds}")
                for contender in drawn.sample(list(workers), len(workers)):
                    time.sleep(SETTLE)
                    turns[contender].append(workers[contender].run(seconds))
    finally:
        for worker in workers.values():
            worker.close()
    reference = Contender(OURS, "onnxruntime", bundle.default_variant)
    return {
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "threads": threads,
        "rounds": rounds,
        "turn_seconds": seconds,
        "contenders": [
            contender.to_json() | summary(turns[contender], accuracy(contender, bundle)) for contender in turns
        ],
        "failed": [contender.to_json() | {"error": error} for contender, error in failures.items()],
        "reference": reference.to_json(),
        "ratios": ratios(turns, reference),
        "warnings": watch.warnings(),
    }


def summary(turns: Sequence[Turn], known: dict[str, float] | None) -> dict[str, Any]:
    """The latencies of all turns together, by part and by what belongs together; and what is known of the accuracy."""
    parts = {part: [value for turn in turns for value in turn[part]] for part in turns[0]}
    if "all" not in parts:
        parts |= {name: _summed(parts, names) for name, names in TOGETHER.items()}
    return {"ms": {name: summarize(values).to_json() for name, values in parts.items()}, "accuracy": known}


def ratios(turns: dict[Contender, list[Turn]], reference: Contender) -> list[dict[str, Any]]:
    """How many times as long as `reference` everyone else takes: the median over the rounds, and its middle half."""
    if reference not in turns:
        return []
    ours = [statistics.median(turn["all"]) for turn in turns[reference]]
    found = []
    for contender, own in turns.items():
        if contender == reference:
            continue
        for name, parts in TOGETHER.items() if contender.network == "published" else [("all", ("all",))]:
            theirs = [statistics.median(_summed(turn, parts)) for turn in own]
            each = [b / a for a, b in zip(ours, theirs, strict=True)]
            found.append(contender.to_json() | {"parts": name, **quartiles(each)})
    return found


def quartiles(values: list[float]) -> dict[str, float]:
    """The median, and where its middle half begins and ends."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high}


def lost_in_openvino(
    wanted: Iterable[Contender], bundle: Bundle, threads: int, pictures: Callable[[], Collection]
) -> dict[str, float]:
    """What our network in OpenVINO loses of the evaluation pack's figures against the bundle's fp32 file, by precision: the most that
    any of them does, in points. Speed that is bought with it does not count. Without those that cannot run here."""
    backends = {}
    for contender in wanted:
        if (contender.network, contender.runtime) == (OURS, "openvino"):
            with suppress(BackendError):
                backends[contender.precision] = open_openvino(bundle, contender.precision, threads)
    if not backends:
        return {}
    shown = pictures()

    def figures(backend: Backend) -> dict[str, float]:
        return Measured.of(bundle, backend, shown).figures()

    reference = figures(OnnxRuntimeBackend(bundle.model("fp32"), threads=threads))
    return {name: points_lost({"fp32": reference, name: figures(backend)}, name) for name, backend in backends.items()}


def accuracy(contender: Contender, bundle: Bundle) -> dict[str, float] | None:
    """What the bundle's manifest says of a precision of ours, of validation pictures, mixed; of networks with random weights nothing can
    be said."""
    return bundle.metrics.get("variants", {}).get(contender.precision) if contender.network == OURS else None


def _summed(runs: Turn, parts: Sequence[str]) -> list[float]:
    return [sum(values) for values in zip(*(runs[part] for part in parts), strict=True)]
