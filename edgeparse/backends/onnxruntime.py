"""ONNX Runtime: on the CPU, through CUDA, or through either TensorRT."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse import files
from edgeparse.errors import BackendError, EngineUntrustedError


@dataclass(frozen=True)
class Provider:
    """An execution provider. `options` are given to it; `folder` names the options that take the folder of compiled engines."""

    name: str
    options: dict[str, str]
    folder: tuple[str, ...] = ()


# GPU memory grows by what is asked for, not to the next power of two: on a Jetson it is the CPU's memory too.
PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", {}),
    "cuda": Provider(
        "CUDAExecutionProvider",
        {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"},
    ),
    "onnxruntime-tensorrt": Provider(
        "TensorrtExecutionProvider",
        {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1", "trt_max_workspace_size": str(2**30)},
        folder=("trt_engine_cache_path", "trt_timing_cache_path"),
    ),
    "onnxruntime-tensorrt-rtx": Provider("NvTensorRTRTXExecutionProvider", {}, folder=("nv_runtime_cache_path",)),
}


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            f'ONNX Runtime cannot be imported ({error}); install it with pip install "edgeparse[cpu]" or "edgeparse[gpu]", not both'
        ) from error
    return onnxruntime


def available() -> dict[str, str | None]:
    """Each device that this ONNX Runtime was built for, with None, or the reason why it was not."""
    try:
        present = _library().get_available_providers()
    except BackendError as error:
        return dict.fromkeys(PROVIDERS, str(error))
    return {
        device: None
        if provider.name in present
        else f"this ONNX Runtime has no {provider.name}; it has {', '.join(present)}"
        for device, provider in PROVIDERS.items()
    }


def version() -> str | None:
    """The library's version, or None where it is not installed."""
    try:
        return str(_library().__version__)
    except BackendError:
        return None


def usable_cores() -> int:
    """Cores that this process may use: containers often allow fewer than the machine has, or only a share of their time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota() or cores)


def _quota(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many cores' time a Linux control group allows, rounded up; None where it sets no limit.

    `cpu.max` of version 2, cpu.cfs_quota_us and cpu.cfs_period_us of version 1 (kernel.org, "Control Group v2" and "CFS Bandwidth
    Control").
    """
    try:
        if (folder / "cpu.max").exists():
            allowed, period = (folder / "cpu.max").read_text().split()
        else:
            allowed, period = ((folder / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        # "max" in version 2 and -1 in version 1 are no limit.
        return math.ceil(int(allowed) / int(period)) if int(allowed) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


class OnnxRuntimeBackend:
    """A session on one device. ONNX Runtime's own `run` is thread-safe.

    Args:
        model: the ONNX file's bytes.
        device: a key of `PROVIDERS`; a session that fell back to another provider is an error, not a slow answer.
        threads: threads of one run; by default the cores that this process may use.

    Raises:
        BackendError: the library is missing or built without the provider, the model cannot be loaded, or a first run failed.
    """

    def __init__(self, model: bytes, device: str = "cpu", threads: int | None = None) -> None:
        library = _library()
        options = library.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        provider = PROVIDERS[device]
        reason = available()[device]
        if reason is not None:
            raise BackendError(f"{device} was asked for, but {reason}")
        folder = _engine_folder(model) if provider.folder else ""
        settings = provider.options | dict.fromkeys(provider.folder, folder)
        try:
            self._session = library.InferenceSession(model, options, providers=[(provider.name, settings)])
        except Exception as error:  # the library raises a dozen unrelated classes
            raise BackendError(f"ONNX Runtime cannot load the model on {device}: {error}") from error
        got = self._session.get_providers()[0]
        if got != provider.name:
            raise BackendError(
                f"{device} was asked for, but ONNX Runtime fell back to {got}; check the driver and its libraries"
            )
        self._name = device if device.startswith("onnxruntime") else f"onnxruntime-{device}"
        if device != "cpu":
            # A provider that was created may still fail on its first kernel, and compiles on its first run.
            _, height, width, channels = self._session.get_inputs()[0].shape
            outputs = [output.name for output in self._session.get_outputs()]
            self.run(np.zeros((1, height, width, channels), np.uint8), outputs)

    @property
    def name(self) -> str:
        return self._name

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        try:
            values = self._session.run(list(outputs), {"windows": windows})
        except Exception as error:  # as above
            raise BackendError(f"{self._name} failed on {len(windows)} windows: {error}") from error
        return dict(zip(outputs, values, strict=True))


def _engine_folder(model: bytes) -> str:
    """A model's own: ONNX Runtime finds an engine by the names and the structure of a graph, which a retrained one shares."""
    from edgeparse.backends import plans

    folder: Path = plans.default_folder() / "onnxruntime" / hashlib.sha256(model).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        reason = files.strangers(folder)
    except OSError as error:
        raise BackendError(
            f"{folder} cannot be written to ({error.strerror or error}); set {plans.FOLDER_VARIABLE} to a folder that can"
        ) from error
    if reason is not None:
        raise EngineUntrustedError(f"{reason}: it holds engines, which are programs")
    return str(folder)
