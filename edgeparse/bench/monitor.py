"""What the machine does during a measurement: load of other processes, clock, heat and energy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from edgeparse import system
from edgeparse.bench import jetson_power

# Limits above which figures are not reliable: cores used by other processes, share of CPU time that a hypervisor took, and drop of
# the clock.
OTHERS, STOLEN, SLOWER = 0.1, 0.01, 0.1

_GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


class Monitor:
    """Observes the machine while a block runs.

    Args:
        own: returns the CPU seconds that the measurement itself has used; by default those of this process.

    Attributes:
        seconds: duration of the block.
        others: average number of cores used by other processes. None if the system does not expose it, as below.
        stolen: share of CPU time that a hypervisor gave to other machines.
        slower: relative drop of the processor's clock.
        throttled: number of thermal throttling events.
        energy_j: energy in joules.
        energy_of: what `energy_j` covers: "the GPU", or the power rails of a Jetson, which other parts share.
        gpu_throttled: whether the GPU was throttled for heat or power.
    """

    def __init__(self, own: Callable[[], float] = time.process_time) -> None:
        self._own = own
        self.seconds = 0.0
        self.others: float | None = None
        self.stolen: float | None = None
        self.slower: float | None = None
        self.throttled: int | None = None
        self.energy_j: float | None = None
        self.energy_of: str | None = None
        self.gpu_throttled = False

    def __enter__(self) -> Monitor:
        self._before = self._sample()
        # Polling costs time, so the rails are used only if no counter exists.
        rails = [] if self._before["energy"] is not None else jetson_power.find_rails(system.ROOT)
        self._meter = jetson_power.PowerMeter(rails) if rails else None
        # After the sample, whose first query loads NVML.
        self._started = time.perf_counter()
        if self._meter is not None:
            self._meter.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.seconds = time.perf_counter() - self._started
        metered = None if self._meter is None else self._meter.stop()
        before, after = self._before, self._sample()
        change = {name: _difference(before[name], after[name]) for name in before}
        if change["busy"] is not None:
            self.others = max(0.0, (change["busy"] - (after["own"] - before["own"])) / self.seconds)
        if change["stolen"] is not None:
            self.stolen = change["stolen"] / self.seconds / (os.cpu_count() or 1)
        if change["clock"] is not None:
            self.slower = max(0.0, -change["clock"] / before["clock"])
        self.throttled = None if change["throttles"] is None else max(0, int(change["throttles"]))
        self.energy_j, self.energy_of = change["energy"], None if change["energy"] is None else "the GPU"
        if self._meter is not None and metered is not None:
            self.energy_j, self.energy_of = metered, self._meter.names
        self.gpu_throttled = _gpu_throttled()

    def _sample(self) -> dict[str, Any]:
        busy, stolen = _cpu_seconds()
        return {
            "own": self._own(),
            "busy": busy,
            "stolen": stolen,
            "clock": system.clock_mhz(),
            "throttles": _throttles(),
            "energy": _energy_j(),
        }

    def warnings(self) -> list[str]:
        """Return why figures measured during the block are not reliable; empty if they are."""
        found = []
        if self.others is not None and self.others > OTHERS:
            found.append(f"other processes used {self.others:.1f} cores; stop them and measure again")
        if self.stolen is not None and self.stolen > STOLEN:
            found.append(f"the hypervisor gave {self.stolen:.0%} of the CPU time to other machines")
        if self.slower is not None and self.slower > SLOWER:
            found.append(f"the processor's clock fell by {self.slower:.0%}; cool the device or fix its clock")
        if self.throttled:
            found.append(f"cores were throttled for heat {self.throttled} times; cool the device")
        if self.gpu_throttled:
            found.append("the GPU was throttled for heat or power; cool it or fix its clock")
        if system.read_text(_GOVERNOR) == "powersave" and not _has_intel_pstate():
            found.append("the governor powersave keeps the clock at its minimum; set it to performance")
        return found


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _has_intel_pstate() -> bool:
    """Return whether the intel_pstate driver is active: its "powersave" governor still raises the clock under load."""
    return (system.ROOT / "sys/devices/system/cpu/intel_pstate").exists()


def _cpu_seconds() -> tuple[float | None, float | None]:
    """Return the seconds since boot that all cores were busy, and that a hypervisor took."""
    fields = (system.read_text("proc/stat") or "").partition("\n")[0].split()
    if len(fields) < 9:
        return None, None
    user, nice, kernel, _idle, _iowait, irq, softirq, stolen = (int(value) for value in fields[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + kernel + irq + softirq) / tick, stolen / tick


def _throttles() -> int | None:
    counts = system.read_numbers(
        (system.ROOT / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    )
    return int(sum(counts)) if counts else None


def _energy_j() -> float | None:
    millijoules = system.query_nvml("nvmlDeviceGetTotalEnergyConsumption")
    return None if millijoules is None else millijoules / 1e3


def _gpu_throttled() -> bool:
    # NVML's clock throttle reasons: software and hardware power limits, and software and hardware thermal limits.
    reasons = system.query_nvml("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
    return bool(reasons & (0x4 | 0x8 | 0x20 | 0x40 | 0x80))
