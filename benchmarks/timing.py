"""How long one thing takes that is done when it returns, and the pictures that it is shown: for networks on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks import made

# A measurement: seconds before and of the runs that count, and the fewest and the most of those.
WARM, SECONDS, LEAST, MOST = 0.01, 0.03, 2, 200
# Seconds before each turn: an idle GPU has a slow clock.
AWAKE = 0.1
# Of the square matrices whose product is timed, and bytes that are copied within the device.
SIDE, COPIED = 8192, 2**32
# An answer needs all outputs but this, which is computed all the same and stays on the device.
OUTSIDE = "fingerprint"

Run = Callable[[], object]
# Computing alone, and from windows to answers.
Pair = tuple[Run, Run]


def repeated(run: Run, seconds: float) -> None:
    """Run for so long, twice at least."""
    begun, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - begun < seconds:
        run()
        done += 1


def median_ms(run: Run) -> float:
    """The median of many runs, after some that do not count."""
    repeated(run, WARM)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < LEAST or (len(times) < MOST and time.perf_counter() - begun < SECONDS):
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return statistics.median(times)


def pictures(size: int, count: int) -> np.ndarray:
    """uint8[count, size, size, 3] of the samples, over and over."""
    cut = made.sample_windows(size)
    return np.ascontiguousarray(cut[np.arange(count) % len(cut)])
