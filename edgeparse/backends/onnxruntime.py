"""ONNX Runtime: on the CPU, through CUDA, or through either TensorRT."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse import files
from edgeparse.backends.graphs import Batch, Graphs
from edgeparse.errors import BackendError, EngineUntrustedError

# As in pyproject.toml; by their own names, as the registry's `edgeparse` is somebody else's.
CPU_PACKAGE = "onnxruntime>=1.20"
GPU_PACKAGE = "onnxruntime-gpu[cuda,cudnn]>=1.20"
# With one of the two left, pip would say that it is there, though the other has overwritten it.
_FOR_GPU = f'pip uninstall -y onnxruntime onnxruntime-gpu, then pip install "{GPU_PACKAGE}": of the two only one can be installed'


@dataclass(frozen=True)
class Provider:
    """An execution provider. `options` are given to it; `folder` names the options that take the folder of compiled engines; `remedy` is
    what to do where ONNX Runtime was built without it."""

    name: str
    options: dict[str, str]
    folder: tuple[str, ...] = ()
    remedy: str = "take another --backend, or a build of ONNX Runtime that has it"


# GPU memory grows by what is asked for, not to the next power of two: on a Jetson it is the CPU's memory too.
PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", {}),
    "cuda": Provider(
        "CUDAExecutionProvider",
        # Without TF32, whose ten bits are not what whoever takes the fp32 file asks for, and in which a network may lose what it is to
        # find (docs/research-notes.md). This bars tensor cores: for a convolution in fp16 that knows no other way ONNX Runtime
        # logs "No execution plans support the graph", and allows them (its cuda/nn/conv.cc). Only its global logger could be told not
        # to, which is the application's.
        {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
        remedy=_FOR_GPU,
    ),
    "onnxruntime-tensorrt": Provider(
        "TensorrtExecutionProvider",
        {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1", "trt_max_workspace_size": str(2**30)},
        folder=("trt_engine_cache_path", "trt_timing_cache_path"),
        remedy=_FOR_GPU,
    ),
    "onnxruntime-tensorrt-rtx": Provider("NvTensorRTRTXExecutionProvider", {}, folder=("nv_runtime_cache_path",)),
}

# Settings of "cuda" for files that a bundle lists under `tf32`.
TF32 = {"use_tf32": "1"}

_log = logging.getLogger(__name__)


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            f'ONNX Runtime cannot be imported ({error}); install it with pip install "{CPU_PACKAGE}" or, for an NVIDIA GPU, '
            f'"{GPU_PACKAGE}", not both'
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
        else f"this ONNX Runtime has no {provider.name}, only {', '.join(present)}; {provider.remedy}"
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


def _preload(library: Any) -> None:
    """Load CUDA's own libraries from NVIDIA's wheels: no search path leads into those."""
    if hasattr(library, "preload_dlls"):
        # It prints what it does not find, and standard output is for results.
        with contextlib.redirect_stdout(sys.stderr):
            library.preload_dlls()


def _open(library: Any, model: bytes, device: str, threads: int | None, wanted: Mapping[str, str]) -> Any:
    """A session on the device, with further options of its provider.

    Raises:
        BackendError: the model cannot be loaded there.
    """
    options = library.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    provider = PROVIDERS[device]
    folder = _engine_folder(model) if provider.folder else ""
    settings = {**provider.options, **dict.fromkeys(provider.folder, folder), **wanted}
    try:
        session = library.InferenceSession(model, options, providers=[(provider.name, settings)])
    except Exception as error:  # the library raises a dozen unrelated classes
        raise BackendError(f"ONNX Runtime cannot load the model on {device}: {error}") from error
    got = session.get_providers()[0]
    if got != provider.name:
        raise BackendError(
            f"{device} was asked for, but ONNX Runtime fell back to {got}; check the driver and its libraries"
        )
    # Else a run that fails on the device is repeated on the CPU, with a line on standard output.
    session.disable_fallback()
    return session


class OnnxRuntimeBackend:
    """A session on one device. May be called from many threads.

    Args:
        model: the ONNX file's bytes.
        device: a key of `PROVIDERS`; a session that fell back to another provider is an error, not a slow answer.
        threads: threads of one run; by default the cores that this process may use.
        graphs: run through CUDA graphs, for the device "cuda" alone; where recording fails, all runs are plain from then on.
        settings: further options of the provider, over those in `PROVIDERS`.

    Raises:
        BackendError: the library is missing or built without the provider, the model cannot be loaded, or a first run failed.
    """

    def __init__(
        self,
        model: bytes,
        device: str = "cpu",
        threads: int | None = None,
        *,
        graphs: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._library = _library()
        reason = available()[device]
        if reason is not None:
            raise BackendError(f"{device} was asked for, but {reason}")
        self._name = device if device.startswith("onnxruntime") else f"onnxruntime-{device}"
        self._lock = threading.Lock()
        self._graphs: Graphs | None = None
        if device == "cuda":
            _preload(self._library)
        wanted = dict(settings or {})
        opened = functools.partial(_open, self._library, model, device, threads)
        if graphs and device == "cuda":
            try:
                self._session = opened(wanted | {"enable_cuda_graph": "1"})
                self._graphs = Graphs(self._library, self._session)
                self._plainly = functools.partial(opened, wanted)
            except BackendError as error:
                _log.warning("no CUDA graphs, plain runs instead: %s", str(error))
        if self._graphs is None:
            self._session = opened(wanted)
        if device == "cpu":
            return
        # A provider that was created may still fail on its first kernel, and compiles on its first run.
        _, height, width, channels = self._session.get_inputs()[0].shape
        self.run(np.zeros((1, height, width, channels), np.uint8), self.outputs)

    @property
    def name(self) -> str:
        return self._name

    @property
    def outputs(self) -> list[str]:
        """The names of all that the model computes."""
        return [output.name for output in self._session.get_outputs()]

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        return {
            tensor.name: tuple(side if isinstance(side, int) else None for side in tensor.shape[1:])
            for tensor in (*self._session.get_inputs(), *self._session.get_outputs())
        }

    @property
    def graphs(self) -> bool:
        """Whether runs go through CUDA graphs where they can be recorded."""
        return self._graphs is not None

    def recorded(self, count: int) -> bool:
        """Whether so many windows have run through a CUDA graph, and will again."""
        return self._graphs is not None and self._graphs.recorded(count)

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        if (recorded := self._graphs) is not None:
            try:
                return recorded.run(windows, outputs)
            except BackendError:
                raise
            except Exception as error:  # as above
                self._without(recorded, error)
        try:
            values = self._session.run(list(outputs), {"windows": windows})
        except Exception as error:  # as above
            raise BackendError(f"{self._name} failed on {len(windows)} windows: {error}") from error
        return dict(zip(outputs, values, strict=True))

    def _without(self, recorded: Graphs, error: Exception) -> None:
        """From here on run plainly: a session whose recording broke off is of no more use."""
        with self._lock:
            if self._graphs is recorded:
                _log.warning("no CUDA graphs, plain runs instead: %s", str(error))
                self._session = self._plainly()
                self._graphs = None

    def on_device(self, windows: NDArray[np.uint8]) -> Callable[[], None]:
        """What computes every output of these windows again and again, with all of it staying on the GPU; for whoever measures.

        Raises:
            BackendError: this is no GPU, or the library failed.
        """
        try:
            if self._graphs is not None:
                return self._graphs.on_device(windows)
            batch = Batch(self._library, self._session, len(windows))
            batch.upload(windows)
        except Exception as error:  # as above
            raise BackendError(f"{self._name} has no {len(windows)} windows on a GPU: {error}") from error
        return batch.compute


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
