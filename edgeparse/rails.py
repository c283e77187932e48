"""What a Jetson uses, by the sensors (INA3221) on its board that `tegrastats` reads, too.

Linux tells the voltage and the current of the moment, so that energy is power, asked for again and again, times the time.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from pathlib import Path

DRIVER = "sys/bus/i2c/drivers/ina3221"
# What all of a module goes through, by its names on Orin, Thor and older boards.
INPUTS = ("VDD_IN", "VIN", "POM_5V_IN")
SECONDS = 0.1


class Rail:
    """A supply line and the files that tell its millivolts and milliamperes."""

    def __init__(self, name: str, volts: Path, amperes: Path) -> None:
        self.name = name
        self._files = volts, amperes

    def watts(self) -> float:
        """What goes through it now.

        Raises:
            OSError, ValueError: the sensor does not tell.
        """
        volts, amperes = (float(file.read_text()) / 1e3 for file in self._files)
        return volts * amperes


def find(root: Path = Path("/")) -> list[Rail]:
    """What a module's energy is measured at: its input; where no sensor has that, the lines that feed the GPU, and others with it."""
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


class Meter:
    """Adds up what goes through rails from `start` to `stop`."""

    def __init__(self, rails: list[Rail], seconds: float = SECONDS) -> None:
        self.names = " and ".join(rail.name for rail in rails)
        self._rails, self._seconds = rails, seconds
        self._watts: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="edgeparse-rails", daemon=True)

    def start(self) -> None:
        """Begin, with a thread that sleeps most of the time."""
        self._begun = time.perf_counter()
        self._thread.start()

    def stop(self) -> float | None:
        """Joules since `start`; None where a sensor gave no answer."""
        self._ended.set()
        self._thread.join()
        passed = time.perf_counter() - self._begun
        return statistics.fmean(self._watts) * passed if self._watts else None

    def _ask(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                self._watts.append(sum(rail.watts() for rail in self._rails))
                if self._ended.wait(self._seconds):
                    return
        self._watts.clear()
