"""How many windows fit into the time that a caller gives a picture."""

from __future__ import annotations

import math
import threading


class TimeBudget:
    """Chooses the count of windows from what windows have cost so far; many threads may share one.

    Args:
        milliseconds: what a picture may take in all, reading included.
        most: the largest count, however much time there is.

    Raises:
        ValueError: no time at all, or no end of it.
    """

    # The share of the latest picture in the estimate: a device that heats up is followed within a few pictures.
    WEIGHT = 0.3

    def __init__(self, milliseconds: float, most: int) -> None:
        if not 0 < milliseconds < math.inf:
            raise ValueError(f"time_budget_ms is {milliseconds}; it must be a number above 0, or None for no budget")
        self._milliseconds = milliseconds
        self._most = most
        self._cost: float | None = None
        self._lock = threading.Lock()

    def windows(self, spent: float) -> int:
        """Windows that fit after `spent` milliseconds: at least one, since no answer is worse than a late one."""
        with self._lock:
            if self._cost is None:
                return 1
            return max(1, min(self._most, int((self._milliseconds - spent) / self._cost)))

    def observe(self, windows: int, milliseconds: float) -> None:
        """Learn from a picture whose windows took so long together."""
        cost = max(milliseconds, 1e-3) / windows
        with self._lock:
            self._cost = cost if self._cost is None else self._cost + self.WEIGHT * (cost - self._cost)
