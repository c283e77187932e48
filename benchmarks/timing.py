"""Timing of synchronous calls, and the windows that networks on a GPU are shown."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks import inputs

# A measurement: seconds of warm-up and of counted runs, and the smallest and largest number of counted runs.
WARM, SECONDS, MIN_RUNS, MAX_RUNS = 0.01, 0.03, 2, 200
# Seconds of work before each turn, because an idle GPU has a slow clock.
AWAKE = 0.1
# Side of the square matrices that are multiplied, and bytes that are copied within the device.
SIDE, COPIED = 8192, 2**32
# The output that is computed but stays on the device, because a report does not need it.
OUTSIDE = "fingerprint"

Run = Callable[[], object]
# Computing alone, and from windows on the host to answers on the host.
Pair = tuple[Run, Run]


def repeat(run: Run, seconds: float) -> None:
    """Run for `seconds`, and at least twice."""
    start, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - start < seconds:
        run()
        done += 1


def median_ms(run: Run) -> float:
    """Return the median milliseconds of many runs, after a warm-up."""
    repeat(run, WARM)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < MIN_RUNS or (len(times) < MAX_RUNS and time.perf_counter() - start < SECONDS):
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return statistics.median(times)


def sample_batch(size: int, count: int) -> np.ndarray:
    """Return `count` windows of the samples, repeated as needed, uint8[count, size, size, 3]."""
    cut = inputs.sample_windows(size)
    return np.ascontiguousarray(cut[np.arange(count) % len(cut)])
