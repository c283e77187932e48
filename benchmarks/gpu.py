"""Measure a GPU: what it can do, how fast every competitor is, and how near ours comes to the ceilings."""

from __future__ import annotations

import fnmatch
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

import onnx

from benchmarks import roofline
from benchmarks.competitors import OURS, Competitor
from benchmarks.timing import COPIED, SIDE
from benchmarks.worker import Worker, WorkerError
from edgeparse.backends import onnxruntime
from edgeparse.backends.tensorrt import cuda
from edgeparse.bundle import Bundle

BATCHES = (1, 8, 32, 64, 256)
# What `--backend cuda` runs by default.
REFERENCE = Competitor(OURS, "onnxruntime-cuda graphs", "fp16")
# Targets: milliseconds of one window on the device, and shares of the ceiling that binds 256 windows.
ONE_MS, OF_MATRIX, OF_MEMORY = 0.5, 0.3, 0.6
LARGEST = 256
# Processes that open at the same time. Each imports its libraries and compiles on CPU cores.
AT_ONCE = 12
# Seconds of a turn after which a process is killed.
TURN = 60

_RUNTIMES = {
    OURS: {
        "onnxruntime-cuda graphs": ("fp16", "fp32"),
        "onnxruntime-cuda": ("fp16", "fp32"),
        # fp16 too: if a bundle's fp16 file does not tolerate TF32, part of it runs without tensor cores by default.
        "onnxruntime-cuda graphs tf32": ("fp16", "fp32"),
        "pytorch-cuda": ("fp32", "tf32", "bf16"),
        "pytorch-cuda graphs": ("tf32", "bf16"),
        "torch.compile-cuda": ("bf16",),
        "torch.compile-cuda graphs": ("bf16",),
    },
    "published": {
        "onnxruntime-cuda": ("fp32", "fp16"),
        "onnxruntime-cuda graphs": ("fp16",),
        "pytorch-cuda": ("fp32", "tf32", "fp16"),
        "pytorch-cuda graphs": ("fp16",),
        "torch.compile-cuda": ("fp16",),
    },
}

DEFINITIONS = {
    "device": "median wall-clock time of a batch whose windows are on the device; all outputs stay there",
    "host": "the same from windows in main memory to all outputs but the fingerprint in main memory; pageable memory",
    "batch": "each batch size runs many times in a row, so the cost of changing it does not count",
    "published": "the parsing network (17 layers, 64x64) and the detector (31 layers, 128x128) in sequence, random weights",
    "fp32": "PyTorch and ONNX Runtime without TF32",
    "tf32": "PyTorch's default, TF32 in convolutions; in ONNX Runtime, TF32 in addition to the file's precision",
    "fp16, bf16": "PyTorch: autocast, channels last. ONNX Runtime: the fp16 file, whose statistics and heads are fp32, or TF32 "
    "if the bundle allows it",
    "graphs": "CUDA graphs, one per batch size",
    "ratio": "median over rounds of the quotient of both times in a round",
    "tflops": f"product of two random {SIDE}x{SIDE} matrices, 2 * {SIDE}^3 operations",
    "bandwidth": f"copy of {COPIED / 2**30:.0f} GiB within the device, bytes read and written",
    "flops": "two for each multiply-add of convolutions and matrix products on the ONNX graph; others do not count",
    "least": "bytes: parameters once per batch, pixels in, outputs out",
    "moved": "bytes: parameters once per batch, and each layer's reads and writes in the ONNX file's types; a convolution with "
    "its addition and ReLU is one layer, and nothing stays in a cache",
}


def competitors() -> Iterable[Competitor]:
    """Yield every competitor, ours first."""
    for network, runtimes in _RUNTIMES.items():
        for runtime, precisions in runtimes.items():
            yield from (Competitor(network, runtime, precision) for precision in precisions)


def matching(patterns: Sequence[str]) -> list[Competitor]:
    """Return the competitors whose name matches a pattern, or all without patterns."""
    return [c for c in competitors() if not patterns or any(fnmatch.fnmatch(c.name, p) for p in patterns)]


def machine_name(gpu: str) -> str:
    """Name a GPU's results after the GPU alone, because the CPU hardly matters."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


class _Session:
    """The open workers, their turns so far, and those that failed. The key None stands for the GPU's ceilings."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.progress = progress
        self.workers: dict[Competitor | None, Worker] = {}
        self.turns: dict[Competitor | None, list[dict[str, float]]] = {}
        self.failed: list[dict[str, str]] = []

    def open(self, wanted: Sequence[Competitor], bundle: Bundle, batches: Sequence[int], patience: float) -> None:
        """Open a process for the ceilings and for each competitor, several at a time."""
        start = time.perf_counter()

        def opened(competitor: Competitor | None) -> Worker | Exception:
            spec: dict[str, Any] = {"kind": "ceilings"}
            if competitor is not None:
                spec = {"kind": "gpu", **competitor.to_json(), "batches": list(batches), "bundle": str(bundle.folder)}
            try:
                # Every measurement has its own warm-up.
                worker = Worker(spec | {"warm": [1, 0]}, max(1.0, patience - (time.perf_counter() - start)))
            except (WorkerError, OSError) as error:
                return error
            self.progress(f"opened {competitor.name if competitor else 'ceilings'}")
            return worker

        everyone: list[Competitor | None] = [None, *wanted]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for competitor, worker in zip(everyone, pool.map(opened, everyone), strict=True):
                if isinstance(worker, Exception):
                    self.fail(competitor, worker)
                else:
                    self.workers[competitor], self.turns[competitor] = worker, []
                    worker.patience = TURN

    def fail(self, competitor: Competitor | None, error: Exception) -> None:
        """Record a failure."""
        ceilings = {"network": "ceilings", "runtime": "pytorch-cuda", "precision": ""}
        self.progress(f"{competitor.name if competitor else 'ceilings'} failed: {error}")
        self.failed.append((ceilings if competitor is None else competitor.to_json()) | {"error": str(error)})

    def turn(self, competitor: Competitor | None) -> bool:
        """Run one turn; return whether it succeeded."""
        try:
            runs = self.workers[competitor].run(0, least=1)
        except (WorkerError, OSError) as error:
            self.fail(competitor, error)
            self.workers.pop(competitor).close()
            return False
        self.turns[competitor].append({part: statistics.median(values) for part, values in runs.items()})
        return True

    def close(self) -> None:
        """Stop all processes."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(Worker.close, self.workers.values()))


def measure(
    wanted: Sequence[Competitor],
    bundle: Bundle,
    batches: Sequence[int] = BATCHES,
    rounds: int = 7,
    seconds: float = 60,
    patience: float = 300,
    progress: Callable[[str], None] = lambda _text: None,
    keep: Callable[[dict[str, Any]], object] = lambda _measured: None,
) -> dict[str, Any]:
    """Measure competitors against each other, each in its own process.

    Args:
        wanted: Whom to measure.
        bundle: Our bundle.
        batches: Batch sizes.
        rounds: Number of rounds; each has a new random order.
        seconds: Time after which no further round starts.
        patience: Seconds until every competitor must have opened; later ones are left out.
        progress: Receives lines about the progress.
        keep: Receives all results so far, whenever there are new ones.

    Raises:
        BackendError: There is no GPU.
    """
    session = _Session(progress)
    measured: dict[str, Any] = {
        "device": device_facts(),
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "batches": list(batches),
        "reference": REFERENCE.to_json(),
        "definitions": DEFINITIONS,
        "failed": session.failed,
    }
    try:
        session.open(wanted, bundle, batches, patience)
        order, start = random.Random(0), time.perf_counter()
        for number in range(rounds):
            if number and time.perf_counter() - start > seconds:
                break
            progress(f"round {number + 1} of {rounds}")
            for competitor in order.sample(list(session.workers), len(session.workers)):
                if session.turn(competitor) and number == 0:
                    keep(measured | summary(session.turns, bundle))
            measured["rounds"] = number + 1
            keep(measured | summary(session.turns, bundle))
    finally:
        session.close()
    return measured | summary(session.turns, bundle)


def summary(turns: dict[Competitor | None, list[dict[str, float]]], bundle: Bundle) -> dict[str, Any]:
    """Summarise all turns so far."""
    own = {competitor: each for competitor, each in turns.items() if competitor is not None and each}
    found: dict[str, Any] = {"competitors": [competitor.to_json() | _times(each) for competitor, each in own.items()]}
    reference = own.get(REFERENCE, [])
    for entry, each in zip(found["competitors"], own.values(), strict=True):
        entry["times_reference"] = _ratios(each, reference)
    ceilings = _medians(turns.get(None, []))
    if ceilings:
        rates = {name: 2 * SIDE**3 / (ceilings[name] / 1e3) / 1e12 for name in ("fp16", "bf16")}
        bandwidth = 2 * COPIED / (ceilings["copy"] / 1e3) / 1e12
        found["ceilings"] = {"tflops": rates, "bandwidth_tb_s": bandwidth}
        found["roofline"] = _roofline(found, bundle)
    found["targets"] = targets(found)
    return found


def _times(each: Sequence[dict[str, float]]) -> dict[str, Any]:
    times: dict[str, Any] = {"turns": len(each), "ms": {"device": {}, "host": {}}, "windows_per_second": {}}
    for part, value in _medians(each).items():
        way, size = part.split()
        times["ms"][way][size] = value
        if way == "device":
            times["windows_per_second"][size] = int(size) * 1e3 / value
    return times


def _medians(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(turn[part] for turn in each) for part in each[0]} if each else {}


def _ratios(each: Sequence[dict[str, float]], reference: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median ratio over rounds; a killed process has turns only in the first rounds."""
    rounds = list(zip(each, reference, strict=False))
    parts = [part for part in each[0] if rounds and part in rounds[0][1]]
    return {part: statistics.median(turn[part] / other[part] for turn, other in rounds) for part in parts}


def _roofline(found: dict[str, Any], bundle: Bundle) -> dict[str, Any] | None:
    """Compare our default runtime at the largest batch with the ceilings."""
    entry = _ours(found)
    ms = entry and entry["ms"]["device"].get(str(LARGEST))
    if not ms:
        return None
    work = roofline.count(onnx.load_from_string(bundle.model(REFERENCE.precision)))
    ceilings = found["ceilings"]
    tflops, bandwidth = ceilings["tflops"][REFERENCE.precision], ceilings["bandwidth_tb_s"]
    return {"work": work.to_json()} | roofline.against_ceilings(work, LARGEST, ms, tflops, bandwidth)


def targets(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the targets that were measured, and whether each is met."""
    judged = []
    entry = _ours(found)
    if entry and "1" in entry["ms"]["device"]:
        one = entry["ms"]["device"]["1"]
        judged.append(
            {"what": "one window on the device", "unit": "ms", "limit": ONE_MS, "value": one, "met": one <= ONE_MS}
        )
    if line := found.get("roofline"):
        for name, counted in (("moved", "bytes that layers move"), ("least", "fewest bytes")):
            matrix = line[name]["binds"] == "matrix"
            share = line[name]["share_of_matrix_peak" if matrix else "share_of_bandwidth"]
            limit = OF_MATRIX if matrix else OF_MEMORY
            peak = "matrix peak" if matrix else "memory bandwidth"
            judged.append(
                {
                    "what": f"{LARGEST} windows, {counted}: share of the {peak}, which binds",
                    "unit": "share",
                    "limit": limit,
                    "value": share,
                    "met": share >= limit,
                }
            )
    return judged


def _ours(found: dict[str, Any]) -> dict[str, Any] | None:
    wanted = REFERENCE.to_json()
    return next((entry for entry in found["competitors"] if wanted.items() <= entry.items()), None)


def device_facts() -> dict[str, Any]:
    """Describe the GPU, its driver and the libraries that run on it.

    Raises:
        BackendError: There is no GPU.
    """
    gpu = cuda.gpu()
    versions = {"onnxruntime": onnxruntime.version()}
    for name in ("torch", "triton", "nvidia-cudnn-cu13", "nvidia-cublas", "cuda-bindings"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "name": gpu.name,
        "capability": gpu.capability,
        "memory_bytes": gpu.memory,
        "versions": versions,
    } | _nvml_facts()


def _nvml_facts() -> dict[str, Any]:
    """Read driver, power limit and clock from NVIDIA's management library. Nothing is changed."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver or no permission
        return {}
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return {
            "driver": str(pynvml.nvmlSystemGetDriverVersion()),
            "power_limit_w": pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
            "clock_mhz_at_most": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
        }
    except pynvml.NVMLError:
        return {}
    finally:
        pynvml.nvmlShutdown()
