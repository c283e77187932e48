"""Percentiles of a list of latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

# A percentile needs this many samples beyond it; with fewer it would be a single unlucky run.
BEYOND = 10


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds.

    Attributes:
        samples: number of samples.
        p50: median.
        p90: 90th percentile; None below 100 samples, where fewer than 10 samples lie beyond it.
        p99: 99th percentile; None below 1,000 samples.
        max: largest sample.
        spread: interquartile range divided by the median.
    """

    samples: int
    p50: float
    p90: float | None
    p99: float | None
    max: float
    spread: float

    def to_json(self) -> dict[str, float | int | None]:
        """Return the fields as in `bench.schema.json`."""
        return asdict(self)


def summarize(milliseconds: Sequence[float]) -> Latency:
    """Return the percentiles of samples in milliseconds.

    Raises:
        ValueError: there are no samples.
    """
    if not milliseconds:
        raise ValueError("milliseconds must not be empty")
    values = np.asarray(milliseconds, np.float64)
    low, middle, high = np.percentile(values, [25, 50, 75])
    return Latency(
        samples=len(values),
        p50=float(middle),
        p90=_percentile(values, 90),
        p99=_percentile(values, 99),
        max=float(values.max()),
        spread=float((high - low) / middle) if middle else 0.0,
    )


def _percentile(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], percent: int) -> float | None:
    return float(np.percentile(values, percent)) if len(values) * (100 - percent) >= 100 * BEYOND else None
