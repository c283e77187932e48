"""This machine: cores, processor, memory, GPU and library versions."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# Root of /proc and /sys; tests replace it.
ROOT = Path("/")
LIBRARIES = ("numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "openvino", "torch")
# Instruction sets that decide the speed of a network in fp32, bf16 and INT8, as Linux names them: first x86, then Arm.
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


def usable_cores() -> int:
    """Return the number of cores that this process may use; containers often restrict the set or the CPU time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _cpu_quota() or cores)


def _cpu_quota(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the CPU quota of this process's control group in cores, rounded up, or None without a limit.

    Reads `cpu.max` (version 2) or cpu.cfs_quota_us and cpu.cfs_period_us (version 1). Source: kernel.org, "Control Group v2" and
    "CFS Bandwidth Control".
    """
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        # "max" (version 2) and -1 (version 1) mean no limit.
        return math.ceil(int(quota) / int(period)) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def describe() -> dict[str, Any]:
    """Return processor, clock, memory, GPU, operating system and versions; None for what this system does not expose."""
    import platform
    import re

    from edgeparse import __version__

    return {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "instructions": instructions(),
        "cores": usable_cores(),
        "clock_mhz": clock_mhz(),
        "governor": read_text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_mb": _memory_mb(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {'.'.join(re.findall('[0-9]+', platform.release())[:2])}",
        "python": platform.python_version(),
        "versions": {"edgeparse": __version__} | _versions(),
    }


def cpu_name() -> str:
    """Return the name of the processor, or of the board if the processor has none."""
    import platform

    name = _field("proc/cpuinfo", r"^model name\s*:\s*(.+)$")
    board = (read_text("proc/device-tree/model") or "").rstrip("\0")
    return name or board or platform.processor() or platform.machine()


def instructions() -> list[str] | None:
    """Return which of `INSTRUCTIONS` the processor has."""
    flags = _field("proc/cpuinfo", r"^(?:flags|Features)\s*:\s*(.+)$")
    return None if flags is None else [name for name in INSTRUCTIONS if name in flags.split()]


def clock_mhz() -> float | None:
    """Return the current median clock of the cores in MHz."""
    import re
    import statistics

    kilohertz = read_numbers((ROOT / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    clocks = [value / 1e3 for value in kilohertz if value > 0]
    if not clocks:
        listed = re.findall(r"^cpu MHz\s*:\s*(\d+\.?\d*)$", read_text("proc/cpuinfo") or "", re.MULTILINE)
        # Some virtual machines report 0.
        clocks = [megahertz for value in listed if (megahertz := float(value)) > 0]
    return statistics.median(clocks) if clocks else None


def peak_memory_mb() -> float | None:
    """Return the peak resident memory of this process in MB (10^6 bytes)."""
    kilobytes = _field("proc/self/status", r"^VmHWM:\s*(\d+) kB$")
    if kilobytes is not None:
        return int(kilobytes) * 1024 / 1e6
    if sys.platform == "win32":
        return None
    import resource

    # In bytes on macOS, in KiB elsewhere. Not used on Linux, where it includes the peak of the parent process.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def read_text(path: str) -> str | None:
    """Read a file below `ROOT`, or return None if it is unreadable."""
    try:
        return (ROOT / path).read_text().strip()
    except OSError:
        return None


def read_numbers(files: Iterable[Path]) -> list[float]:
    """Read one number per file. Unreadable files, as in some containers, are skipped."""
    values = []
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            values.append(float(file.read_text()))
    return values


def _field(path: str, pattern: str) -> str | None:
    """Return the first group of the first match of a pattern in a file."""
    import re

    match = re.search(pattern, read_text(path) or "", re.MULTILINE)
    return match[1] if match else None


def _memory_mb() -> float | None:
    kilobytes = _field("proc/meminfo", r"^MemTotal:\s*(\d+) kB$")
    return None if kilobytes is None else int(kilobytes) * 1024 / 1e6


def _versions() -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@contextlib.contextmanager
def _nvml() -> Iterator[tuple[Any, Any] | None]:
    """Open NVIDIA's management library and yield it with the first GPU, or None if either is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver, or no permission
        yield None
        return
    try:
        try:
            first = pynvml.nvmlDeviceGetHandleByIndex(0)
        except pynvml.NVMLError:  # a driver without a visible GPU
            first = None
        yield None if first is None else (pynvml, first)
    finally:
        pynvml.nvmlShutdown()


def query_nvml(function: str, *arguments: object) -> Any:
    """Call a function of NVML on the first GPU; None if the GPU does not support it, as on many laptops and Jetsons."""
    with _nvml() as handle:
        if handle is None:
            return None
        library, gpu = handle
        try:
            return getattr(library, function)(gpu, *arguments)
        except library.NVMLError:
            return None


def _gpu() -> dict[str, Any] | None:
    name = query_nvml("nvmlDeviceGetName")
    # 1 is NVML_CLOCK_SM, the clock of the multiprocessors.
    return None if name is None else {"name": name, "clock_mhz": query_nvml("nvmlDeviceGetClockInfo", 1)}
