"""What may be said of a list of latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

# A percentile rests on the samples beyond it; of fewer than these it would be one unlucky run.
BEYOND = 10


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds, and the count of samples that they rest on.

    `p90` is None below 100 samples and `p99` below 1,000, where fewer than ten samples lie beyond them. `spread` is the width of the
    middle half of the samples, as a share of the median.
    """

    samples: int
    p50: float
    p90: float | None
    p99: float | None
    max: float
    spread: float

    def to_json(self) -> dict[str, float | int | None]:
        """The fields, as in `bench.schema.json`."""
        return asdict(self)


def summarize(milliseconds: Sequence[float]) -> Latency:
    """The percentiles of samples.

    Raises:
        ValueError: there is none.
    """
    if not milliseconds:
        raise ValueError("there are no samples to summarize")
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
