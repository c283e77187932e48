"""A GPU: what it can do, who does how much of it, and how near ours comes to what its memory and matrix units allow."""

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
from benchmarks.contenders import OURS, Contender
from benchmarks.timing import COPIED, SIDE
from benchmarks.worker import Worker, WorkerError
from edgeparse.backends import onnxruntime
from edgeparse.backends.tensorrt import cuda
from edgeparse.bundle import Bundle

BATCHES = (1, 8, 32, 64, 256)
# What `--backend cuda` runs by default.
REFERENCE = Contender(OURS, "onnxruntime-cuda graphs", "fp16")
# The bars: milliseconds of one window on the device, and shares of what binds 256 windows.
ONE_MS, OF_MATRIX, OF_MEMORY = 0.5, 0.3, 0.6
LARGEST = 256
# Processes that are opened at a time; each imports its libraries and compiles on processor cores.
AT_ONCE = 12
# Seconds for a turn, after which a process is ended.
TURN = 60

_RUNTIMES = {
    OURS: {
        "onnxruntime-cuda graphs": ("fp16", "fp32"),
        "onnxruntime-cuda": ("fp16", "fp32"),
        # In fp16 as well: of a bundle whose fp16 file does not bear TF32, what is computed without it computes part of fp16 without
        # tensor cores.
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
    "device": "median wall-clock time of a batch, synchronised before and after: windows are on the device already, every output is "
    "computed and stays there; where graphs are ONNX Runtime's, a call to the thread that they belong to is in it",
    "host": "the same from windows in main memory to all outputs but the fingerprint in main memory, as a caller of the backend waits "
    "for them; pageable memory",
    "batch": "a batch size is run many times in a row; what a change of size costs is not in it",
    "published": "the parsing network (17 layers, 64x64) and the detector (31 layers, 128x128) one after another, random weights",
    "fp32": "PyTorch and ONNX Runtime without TF32",
    "tf32": "PyTorch's default: TF32 in convolutions; in ONNX Runtime switched on beside the precision of the file",
    "fp16, bf16": "PyTorch: autocast, channels last; ONNX Runtime: the fp16 file, which keeps statistics and heads in fp32, with TF32 for "
    "these where the bundle says that it bears it",
    "graphs": "CUDA graphs, one for each batch size",
    "ratio": "the median over rounds of the quotient of both times in a round",
    "tflops": f"product of two random {SIDE}x{SIDE} matrices, 2 * {SIDE}^3 operations",
    "bandwidth": f"copy of {COPIED / 2**30:.0f} GiB within the device, bytes read and written",
    "flops": "two for each multiply-add of convolutions and matrix products, counted on the ONNX graph; all others are not counted",
    "least": "bytes: parameters once a batch, pixels in, outputs out",
    "moved": "bytes: parameters once a batch, and each layer's reads and writes in the types of the ONNX file, where a convolution with "
    "its addition and ReLU is one layer and nothing stays in a cache",
}


def contenders() -> Iterable[Contender]:
    """Everyone; ours first."""
    for network, runtimes in _RUNTIMES.items():
        for runtime, precisions in runtimes.items():
            yield from (Contender(network, runtime, precision) for precision in precisions)


def named(patterns: Sequence[str]) -> list[Contender]:
    """Those whose name fits one of the patterns; everyone without any."""
    return [who for who in contenders() if not patterns or any(fnmatch.fnmatch(who.name, p) for p in patterns)]


def machine_name(gpu: str) -> str:
    """What results of a GPU are kept under where nobody says: its own name alone, as the processor beside it hardly matters."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def measure(
    wanted: Sequence[Contender],
    bundle: Bundle,
    batches: Sequence[int] = BATCHES,
    rounds: int = 7,
    seconds: float = 60,
    patience: float = 300,
    progress: Callable[[str], None] = lambda _text: None,
    keep: Callable[[dict[str, Any]], None] = lambda _found: None,
) -> dict[str, Any]:
    """Measure contenders beside each other, each in a process of its own.

    Args:
        rounds: turns of everyone, in an order drawn anew each time.
        seconds: after these no round begins but the first.
        patience: seconds until everyone must have opened; who has not is left out.
        keep: is given all that is known, as soon as something is.

    Raises:
        BackendError: there is no GPU here.
    """
    found: dict[str, Any] = {
        "device": facts(),
        "bundle": bundle.label,
        "bundle_sha256": bundle.sha256,
        "batches": list(batches),
        "reference": REFERENCE.to_json(),
        "definitions": DEFINITIONS,
        "failed": [],
    }
    workers: dict[Contender | None, Worker] = {}

    def failed(who: Contender | None, error: Exception) -> None:
        name = {"network": "ceilings", "runtime": "pytorch-cuda", "precision": ""} if who is None else who.to_json()
        progress(f"{who.name if who else 'ceilings'} failed: {error}")
        found["failed"].append(name | {"error": str(error)})

    called = time.perf_counter()

    def opened(who: Contender | None) -> Worker | Exception:
        order = {"kind": "ceilings"} if who is None else {"kind": "gpu", **who.to_json(), "batches": list(batches)}
        if who is not None:
            order["bundle"] = str(bundle.folder)
        try:
            # Every measurement warms itself up.
            worker = Worker(order | {"warm": [1, 0]}, max(1.0, patience - (time.perf_counter() - called)))
        except (WorkerError, OSError) as error:
            return error
        progress(f"opened {who.name if who else 'ceilings'}")
        return worker

    turns: dict[Contender | None, list[dict[str, float]]] = {}
    try:
        everyone: list[Contender | None] = [None, *wanted]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for who, worker in zip(everyone, pool.map(opened, everyone), strict=True):
                if isinstance(worker, Exception):
                    failed(who, worker)
                else:
                    workers[who], turns[who] = worker, []
                    worker.patience = TURN
        drawn, begun = random.Random(0), time.perf_counter()
        for number in range(rounds):
            if number and time.perf_counter() - begun > seconds:
                break
            progress(f"round {number + 1} of {rounds}")
            for who in drawn.sample(list(workers), len(workers)):
                try:
                    turn = workers[who].run(0, least=1)
                except (WorkerError, OSError) as error:
                    failed(who, error)
                    workers.pop(who).close()
                    continue
                turns[who].append({part: statistics.median(values) for part, values in turn.items()})
                if number == 0:
                    keep(found | summary(turns, bundle))
            found["rounds"] = number + 1
            keep(found | summary(turns, bundle))
    finally:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(Worker.close, workers.values()))
    return found | summary(turns, bundle)


def summary(turns: dict[Contender | None, list[dict[str, float]]], bundle: Bundle) -> dict[str, Any]:
    """What all turns so far say. The turns of nobody are those of the ceilings."""
    own = {who: each for who, each in turns.items() if who is not None and each}
    found: dict[str, Any] = {"contenders": [who.to_json() | _times(each) for who, each in own.items()]}
    reference = own.get(REFERENCE, [])
    for entry, each in zip(found["contenders"], own.values(), strict=True):
        entry["times_reference"] = _ratios(each, reference)
    most = _medians(turns.get(None, []))
    if most:
        rates = {name: 2 * SIDE**3 / (most[name] / 1e3) / 1e12 for name in ("fp16", "bf16")}
        bandwidth = 2 * COPIED / (most["copy"] / 1e3) / 1e12
        found["ceilings"] = {"tflops": rates, "bandwidth_tb_s": bandwidth}
        found["roofline"] = _roofline(found, bundle)
    found["bars"] = bars(found)
    return found


def _times(each: Sequence[dict[str, float]]) -> dict[str, Any]:
    medians = _medians(each)
    found: dict[str, Any] = {"turns": len(each), "ms": {"device": {}, "host": {}}, "windows_per_second": {}}
    for part, value in medians.items():
        what, size = part.split()
        found["ms"][what][size] = value
        if what == "device":
            found["windows_per_second"][size] = int(size) * 1e3 / value
    return found


def _medians(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(turn[part] for turn in each) for part in each[0]} if each else {}


def _ratios(each: Sequence[dict[str, float]], reference: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median over rounds; a process that was ended had fewer turns, in the first rounds."""
    rounds = list(zip(each, reference, strict=False))
    parts = [part for part in each[0] if rounds and part in rounds[0][1]]
    return {part: statistics.median(turn[part] / other[part] for turn, other in rounds) for part in parts}


def _roofline(found: dict[str, Any], bundle: Bundle) -> dict[str, Any] | None:
    """Of ours as it runs by default, at the largest batch."""
    entry = _ours(found)
    ms = entry and entry["ms"]["device"].get(str(LARGEST))
    if not ms:
        return None
    work = roofline.count(onnx.load_from_string(bundle.model(REFERENCE.precision)))
    most = found["ceilings"]
    return {"work": work.to_json()} | roofline.reached(
        work, LARGEST, ms, most["tflops"][REFERENCE.precision], most["bandwidth_tb_s"]
    )


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached, and whether it was; what was not measured is not in the list."""
    judged = []
    entry = _ours(found)
    if entry and "1" in entry["ms"]["device"]:
        one = entry["ms"]["device"]["1"]
        judged.append(
            {"what": "one window on the device", "unit": "ms", "limit": ONE_MS, "value": one, "met": one <= ONE_MS}
        )
    if line := found.get("roofline"):
        for name, what in (("moved", "bytes that layers move"), ("least", "fewest bytes")):
            matrix = line[name]["binds"] == "matrix"
            share = line[name]["share_of_matrix_peak" if matrix else "share_of_bandwidth"]
            limit = OF_MATRIX if matrix else OF_MEMORY
            peak = "matrix peak" if matrix else "memory bandwidth"
            judged.append(
                {
                    "what": f"{LARGEST} windows, {what}: share of the {peak}, which binds",
                    "unit": "share",
                    "limit": limit,
                    "value": share,
                    "met": share >= limit,
                }
            )
    return judged


def _ours(found: dict[str, Any]) -> dict[str, Any] | None:
    wanted = REFERENCE.to_json()
    return next((entry for entry in found["contenders"] if wanted.items() <= entry.items()), None)


def facts() -> dict[str, Any]:
    """The GPU, its driver and the libraries that run on it.

    Raises:
        BackendError: there is none.
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
    } | _managed()


def _managed() -> dict[str, Any]:
    """What NVIDIA's management library tells; nothing is set."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, no driver, no permission: all the same here
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
