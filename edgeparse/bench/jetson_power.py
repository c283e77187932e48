"""Energy used by a Jetson, from the board's INA3221 sensors that `tegrastats` also reads.

Linux exposes the current voltage and current, so energy is the mean of polled power times the duration.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from pathlib import Path

DRIVER = "sys/bus/i2c/drivers/ina3221"
# Names of a module's total input rail on Orin, Thor and older boards.
INPUTS = ("VDD_IN", "VIN", "POM_5V_IN")
# Polling interval.
SECONDS = 0.1


class Rail:
    """A power rail, with the files of its millivolts and milliamperes."""

    def __init__(self, name: str, volts: Path, amperes: Path) -> None:
        self.name = name
        self._files = volts, amperes

    def watts(self) -> float:
        """Return the current power in watts.

        Raises:
            OSError, ValueError: the sensor cannot be read.
        """
        volts, amperes = (float(file.read_text()) / 1e3 for file in self._files)
        return volts * amperes


def find_rails(root: Path = Path("/")) -> list[Rail]:
    """Return the module's input rail; if no sensor measures it, the rails that feed the GPU (and other parts)."""
    found = []
    for label in sorted((root / DRIVER).glob("*/hwmon/hwmon*/in[1-3]_label")):
        number = label.name[2]
        with contextlib.suppress(OSError, ValueError):
            rail = Rail(
                label.read_text().strip(),
                label.with_name(f"in{number}_input"),
                label.with_name(f"curr{number}_input"),
            )
            rail.watts()
            found.append(rail)
    return [rail for rail in found if rail.name in INPUTS][:1] or [rail for rail in found if "GPU" in rail.name]


class PowerMeter:
    """Measures the energy that passes through rails between `start` and `stop`.

    Args:
        rails: what to measure.
        seconds: polling interval.
    """

    def __init__(self, rails: list[Rail], seconds: float = SECONDS) -> None:
        self.names = " and ".join(rail.name for rail in rails)
        self._rails, self._seconds = rails, seconds
        self._watts: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="edgeparse-rails", daemon=True)

    def start(self) -> None:
        """Start polling on a thread, which sleeps most of the time."""
        self._started = time.perf_counter()
        self._thread.start()

    def stop(self) -> float | None:
        """Stop polling and return the energy in joules, or None if a sensor failed."""
        elapsed = time.perf_counter() - self._started
        self._stopped.set()
        self._thread.join()
        return statistics.fmean(self._watts) * elapsed if self._watts else None

    def _poll(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                self._watts.append(sum(rail.watts() for rail in self._rails))
                if self._stopped.wait(self._seconds):
                    return
        self._watts.clear()
