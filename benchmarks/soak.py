"""Does memory stay the same over many pictures?"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

from edgeparse.bench.measure import synthetic_picture
from edgeparse.parser import Parser

# Pictures until libraries have allocated all that they keep.
SETTLED = 500
EVERY = 100
# The sizes that pictures come in, in turn, in megapixels.
MEGAPIXELS = tuple(float(value) for value in np.geomspace(0.05, 0.5, 12))


def measure(
    parser: Parser, count: int, settled: int = SETTLED, progress: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Report on `count` pictures of several sizes, and look at the process's memory every hundred.

    `growth_mb` is what the last tenth of the run has, by its median, above the first tenth after `settled` pictures.

    Raises:
        ValueError: `count` leaves nothing to compare after `settled` pictures.
    """
    if count < settled + 2 * EVERY:
        raise ValueError(f"{count} pictures are too few: {settled + 2 * EVERY} are needed")
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
        "growth_mb": growth([memory for number, memory in resident if number >= settled]),
        "resident_mb": resident,
        "bundle": parser.bundle.label,
        "bundle_sha256": parser.bundle.sha256,
        "backend": parser.backend,
        "warnings": [],
    }


def growth(memory: list[float]) -> float:
    """The median of the last tenth of the samples above that of the first tenth."""
    tenth = max(1, len(memory) // 10)
    return statistics.median(memory[-tenth:]) - statistics.median(memory[:tenth])
