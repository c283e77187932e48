"""Measure whether memory stays constant over many pictures."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

from edgeparse.bench.measure import synthetic_picture
from edgeparse.parser import Parser

# Pictures after which libraries have allocated what they keep.
SETTLED = 500
# Pictures between two readings.
EVERY = 100
# Sizes of the pictures, in turn, in megapixels.
MEGAPIXELS = tuple(float(value) for value in np.geomspace(0.05, 0.5, 12))


def measure(
    parser: Parser, count: int, settled: int = SETTLED, progress: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Parse `count` pictures of several sizes and read the process's memory every hundred.

    `growth_mb` is the median of the run's last tenth minus that of the first tenth after `settled` pictures.

    Raises:
        ValueError: `count` is too small.
    """
    if count < settled + 2 * EVERY:
        raise ValueError(f"count must be at least {settled + 2 * EVERY}, got {count}")
    pictures = [synthetic_picture(megapixels, seed) for seed, megapixels in enumerate(MEGAPIXELS)]
    process = psutil.Process()
    resident = []
    for number in range(1, count + 1):
        parser.parse(pictures[number % len(pictures)])
        if number % EVERY == 0:
            resident.append((number, process.memory_info().rss / 1e6))
            progress(f"picture {number} of {count}: {resident[-1][1]:.1f} MB")
    return {
        "pictures": count,
        "settled": settled,
        "growth_mb": growth([megabytes for number, megabytes in resident if number >= settled]),
        "resident_mb": resident,
        "bundle": parser.bundle.label,
        "bundle_sha256": parser.bundle.sha256,
        "backend": parser.backend,
        "warnings": [],
    }


def growth(megabytes: list[float]) -> float:
    """Return the median of the last tenth of the readings minus that of the first tenth."""
    tenth = max(1, len(megabytes) // 10)
    return statistics.median(megabytes[-tenth:]) - statistics.median(megabytes[:tenth])
