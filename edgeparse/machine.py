"""The machine that figures were measured on: what it is, and what it did meanwhile."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeparse import __version__, rails
from edgeparse.backends.onnxruntime import usable_cores

# Where Linux keeps /proc and /sys.
ROOT = Path("/")
LIBRARIES = ("numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "openvino", "torch")
# Those that decide how fast a network is, in fp32, bf16 and INT8, as Linux names them; of x86, then of Arm.
INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx_vnni",
    "avx512_vnni",
    "amx_int8",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
)

# From here on figures are not to be believed: cores that other processes kept busy, the share of time that a hypervisor took away, and
# how far the clock fell.
OTHERS, STOLEN, SLOWER = 0.1, 0.01, 0.1


def describe() -> dict[str, Any]:
    """Processor, clock, memory, GPU, system and versions; None is what this system does not tell."""
    return {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "instructions": instructions(),
        "cores": usable_cores(),
        "clock_mhz": clock_mhz(),
        "governor": _read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_mb": _memory_mb(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {'.'.join(re.findall('[0-9]+', platform.release())[:2])}",
        "python": platform.python_version(),
        "versions": {"edgeparse": __version__} | _versions(),
    }


def cpu_name() -> str:
    """What the processor, or on a small board the board, calls itself."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read("proc/cpuinfo") or "", re.MULTILINE)
    board = (_read("proc/device-tree/model") or "").rstrip("\0")
    return (found[1] if found else board) or platform.processor() or platform.machine()


def instructions() -> list[str] | None:
    """Which of the `INSTRUCTIONS` the processor has."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read("proc/cpuinfo") or "", re.MULTILINE)
    return [name for name in INSTRUCTIONS if name in found[1].split()] if found else None


def clock_mhz() -> float | None:
    """The median clock of the cores, now."""
    told = _numbers((ROOT / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    scaled = [kilohertz / 1e3 for kilohertz in told if kilohertz > 0]
    written = re.findall(r"^cpu MHz\s*:\s*(\d+\.?\d*)$", _read("proc/cpuinfo") or "", re.MULTILINE)
    # Some virtual machines say 0, which is none.
    found = scaled or [megahertz for value in written if (megahertz := float(value)) > 0]
    return statistics.median(found) if found else None


def peak_memory_mb() -> float | None:
    """The largest resident memory that this process ever had, in MB of 10^6 bytes."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", _read("proc/self/status") or "", re.MULTILINE)
    if found:
        return int(found[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return None
    import resource

    # macOS counts in bytes, others in KiB. Linux has answered above: there this would be the peak of whoever started the process.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


class Watch:
    """What the machine does while a block runs.

    Args:
        own: processor seconds that the measurement itself has used so far; by default those of this process.

    Attributes:
        seconds: how long the block ran.
        others: cores that other processes kept busy, on average. None where the system does not tell, as below.
        stolen: the share of the cores' time that a hypervisor gave to others.
        slower: how much the processor's clock fell, as a share.
        throttled: times that cores were slowed down for heat.
        energy_j: what `energy_of` used, in joules.
        energy_of: what that is of: "the GPU", or the lines of a Jetson, which others share.
        gpu_throttled: whether the GPU was slowed down for heat or power.
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

    def __enter__(self) -> Watch:
        self._before = self._now()
        # Asked for all the while, so only where nobody counts.
        lines = [] if self._before["energy"] is not None else rails.find(ROOT)
        self._meter = rails.Meter(lines) if lines else None
        if self._meter is not None:
            self._meter.start()
        return self

    def __exit__(self, *_error: object) -> None:
        metered = None if self._meter is None else self._meter.stop()
        before, after = self._before, self._now()
        self.seconds = after["time"] - before["time"]
        spent = {name: _difference(before[name], after[name]) for name in before}
        if spent["busy"] is not None:
            self.others = max(0.0, (spent["busy"] - (after["own"] - before["own"])) / self.seconds)
        if spent["stolen"] is not None:
            self.stolen = spent["stolen"] / self.seconds / (os.cpu_count() or 1)
        if spent["clock"] is not None:
            self.slower = max(0.0, -spent["clock"] / before["clock"])
        self.throttled = None if spent["throttles"] is None else max(0, int(spent["throttles"]))
        self.energy_j, self.energy_of = spent["energy"], None if spent["energy"] is None else "the GPU"
        if self._meter is not None and metered is not None:
            self.energy_j, self.energy_of = metered, self._meter.names
        self.gpu_throttled = _gpu_throttled()

    def _now(self) -> dict[str, Any]:
        busy, stolen = _processor_seconds()
        return {
            "time": time.perf_counter(),
            "own": self._own(),
            "busy": busy,
            "stolen": stolen,
            "clock": clock_mhz(),
            "throttles": _throttles(),
            "energy": _energy_j(),
        }

    def warnings(self) -> list[str]:
        """Why figures measured meanwhile should not be believed."""
        found = []
        if self.others is not None and self.others > OTHERS:
            found.append(f"other processes kept {self.others:.1f} cores busy; end them and measure again")
        if self.stolen is not None and self.stolen > STOLEN:
            found.append(f"the hypervisor gave {self.stolen:.0%} of the processor's time to other machines")
        if self.slower is not None and self.slower > SLOWER:
            found.append(f"the processor's clock fell by {self.slower:.0%}; cool the device or fix its clock")
        if self.throttled:
            found.append(f"cores were slowed down for heat {self.throttled} times; cool the device")
        if self.gpu_throttled:
            found.append("the GPU was slowed down for heat or power; cool it or fix its clock")
        governor = _read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        if governor == "powersave" and not (ROOT / "sys/devices/system/cpu/intel_pstate").exists():
            found.append("the governor powersave holds the clock at its lowest; take performance")
        return found


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _read(path: str) -> str | None:
    try:
        return (ROOT / path).read_text().strip()
    except OSError:
        return None


def _numbers(files: Iterable[Path]) -> list[float]:
    """What each of the files says; those that are there and cannot be read, as in some containers, are left out."""
    found = []
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            found.append(float(file.read_text()))
    return found


def _processor_seconds() -> tuple[float | None, float | None]:
    """Seconds that all cores together have been busy, and that a hypervisor took, since the machine started."""
    line = (_read("proc/stat") or "").partition("\n")[0].split()
    if len(line) < 9:
        return None, None
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = (int(value) for value in line[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft) / tick, stolen / tick


def _throttles() -> int | None:
    told = _numbers((ROOT / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    return int(sum(told)) if told else None


def _memory_mb() -> float | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB$", _read("proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else None


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@contextlib.contextmanager
def _nvml() -> Iterator[tuple[Any, Any] | None]:
    """NVIDIA's management library and the first GPU, where both are there."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver, no permission: all the same here
        yield None
        return
    try:
        try:
            first = pynvml.nvmlDeviceGetHandleByIndex(0)
        except pynvml.NVMLError:  # a driver without a GPU, or one that this process may not see
            first = None
        yield None if first is None else (pynvml, first)
    finally:
        pynvml.nvmlShutdown()


def _ask(question: str, *arguments: object) -> Any:
    """An answer about the GPU; None where it, like many laptops' and Jetson's, does not know."""
    with _nvml() as found:
        if found is None:
            return None
        library, device = found
        try:
            return getattr(library, question)(device, *arguments)
        except library.NVMLError:
            return None


def _gpu() -> dict[str, Any] | None:
    name = _ask("nvmlDeviceGetName")
    # 1 is the clock of the processors that compute.
    return None if name is None else {"name": name, "clock_mhz": _ask("nvmlDeviceGetClockInfo", 1)}


def _energy_j() -> float | None:
    millijoules = _ask("nvmlDeviceGetTotalEnergyConsumption")
    return None if millijoules is None else millijoules / 1e3


def _gpu_throttled() -> bool:
    # Software and hardware power limits, and the same of heat.
    return bool((_ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0) & (0x4 | 0x8 | 0x20 | 0x40 | 0x80))
