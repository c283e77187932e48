"""ONNX Runtime on the CPU, through CUDA, or through its TensorRT providers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse import safe_files
from edgeparse.backends.ort_cuda_graphs import CudaGraphRunner, DeviceBatch
from edgeparse.errors import BackendError, EngineUntrustedError
from edgeparse.system import usable_cores

# The requirements of pyproject.toml. They are spelled out because `edgeparse` on PyPI is another project.
CPU_PACKAGE = "onnxruntime>=1.20"
GPU_PACKAGE = "onnxruntime-gpu[cuda,cudnn]>=1.20"
# The two packages overwrite each other's files, and pip does not notice.
_GPU_REMEDY = f'run pip uninstall -y onnxruntime onnxruntime-gpu, then pip install "{GPU_PACKAGE}": only one of them can be installed'


@dataclass(frozen=True)
class Provider:
    """An execution provider of ONNX Runtime.

    Attributes:
        name: its name in ONNX Runtime.
        options: its options.
        folder: names of the options that take the engine folder.
        remedy: what to do if ONNX Runtime was built without it.
    """

    name: str
    options: dict[str, str]
    folder: tuple[str, ...] = ()
    remedy: str = "choose another --backend, or install a build of ONNX Runtime that has it"


# kSameAsRequested: GPU memory grows by the requested size, not to the next power of two. On a Jetson it is the CPU's memory too.
PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", {}),
    "cuda": Provider(
        "CUDAExecutionProvider",
        # TF32 keeps 10 bits of mantissa, in which a network may lose the traces (docs/research-notes.md). Without TF32, ONNX Runtime
        # logs "No execution plans support the graph" for some fp16 convolutions and then allows tensor cores for them. The message
        # can only be silenced in its global logger, which belongs to the application.
        {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
        remedy=_GPU_REMEDY,
    ),
    "onnxruntime-tensorrt": Provider(
        "TensorrtExecutionProvider",
        {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1", "trt_max_workspace_size": str(2**30)},
        folder=("trt_engine_cache_path", "trt_timing_cache_path"),
        remedy=_GPU_REMEDY,
    ),
    "onnxruntime-tensorrt-rtx": Provider("NvTensorRTRTXExecutionProvider", {}, folder=("nv_runtime_cache_path",)),
}

# Additional options of "cuda" for variants that a bundle lists under `tf32`.
TF32 = {"use_tf32": "1"}

_log = logging.getLogger(__name__)


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            f'ONNX Runtime cannot be imported ({error}); run pip install "{CPU_PACKAGE}" or, for an NVIDIA GPU, '
            f'pip install "{GPU_PACKAGE}", but not both'
        ) from error
    return onnxruntime


def available() -> dict[str, str | None]:
    """Return why each device is unavailable in this build of ONNX Runtime, or None if it is available."""
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
    """Return the library's version, or None if it is not installed."""
    try:
        return str(_library().__version__)
    except BackendError:
        return None


def _preload(library: Any) -> None:
    """Load CUDA's libraries from NVIDIA's wheels, which are not on any search path."""
    if hasattr(library, "preload_dlls"):
        # It prints missing files to standard output, which is reserved for results.
        with contextlib.redirect_stdout(sys.stderr):
            library.preload_dlls()


def _open(library: Any, model: bytes, device: str, threads: int | None, settings: Mapping[str, str]) -> Any:
    """Open a session on a device.

    Args:
        library: the module `onnxruntime`.
        model: bytes of the ONNX file.
        device: a key of `PROVIDERS`.
        threads: threads per run, or None.
        settings: options over those of the provider.

    Raises:
        BackendError: the model cannot be loaded, or ONNX Runtime fell back to another provider.
    """
    options = library.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    provider = PROVIDERS[device]
    folder = _engine_folder(model) if provider.folder else ""
    merged = {**provider.options, **dict.fromkeys(provider.folder, folder), **settings}
    try:
        session = library.InferenceSession(model, options, providers=[(provider.name, merged)])
    except Exception as error:  # the library raises a dozen unrelated classes
        raise BackendError(f"ONNX Runtime cannot load the model on {device}: {error}") from error
    actual = session.get_providers()[0]
    if actual != provider.name:
        raise BackendError(
            f"{device} was requested, but ONNX Runtime fell back to {actual}; check the driver and its libraries"
        )
    # Otherwise a run that fails on the device is repeated on the CPU, with a message on standard output.
    session.disable_fallback()
    return session


class OnnxRuntimeBackend:
    """A session on one device. Thread-safe.

    Args:
        model: bytes of the ONNX file.
        device: a key of `PROVIDERS`. A fallback to another provider is an error.
        threads: threads per run; by default all cores that this process may use.
        graphs: use CUDA graphs (device "cuda" only). If recording fails, all further runs are plain.
        settings: options of the provider, over those in `PROVIDERS`.

    Raises:
        BackendError: the library is missing or lacks the provider, the model cannot be loaded, or the first run failed.
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
            raise BackendError(f"{device} was requested, but {reason}")
        self._name = device if device.startswith("onnxruntime") else f"onnxruntime-{device}"
        self._lock = threading.Lock()
        self._graphs: CudaGraphRunner | None = None
        if device == "cuda":
            _preload(self._library)
        options = dict(settings or {})
        open_session = functools.partial(_open, self._library, model, device, threads)
        if graphs and device == "cuda":
            try:
                self._session = open_session(options | {"enable_cuda_graph": "1"})
                self._graphs = CudaGraphRunner(self._library, self._session)
                self._open_plain = functools.partial(open_session, options)
            except BackendError as error:
                _log.warning("running without CUDA graphs: %s", str(error))
        if self._graphs is None:
            self._session = open_session(options)
        if device == "cpu":
            return
        # A provider may be created and still fail on its first kernel; some compile on the first run.
        _, height, width, channels = self._session.get_inputs()[0].shape
        self.run(np.zeros((1, height, width, channels), np.uint8), self.outputs)

    @property
    def name(self) -> str:
        """See `Backend`."""
        return self._name

    @property
    def outputs(self) -> list[str]:
        """Names of all outputs of the model."""
        return [output.name for output in self._session.get_outputs()]

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """See `Shaped`."""
        return {
            tensor.name: tuple(side if isinstance(side, int) else None for side in tensor.shape[1:])
            for tensor in (*self._session.get_inputs(), *self._session.get_outputs())
        }

    @property
    def graphs(self) -> bool:
        """Whether runs use CUDA graphs where they can be recorded."""
        return self._graphs is not None

    def recorded(self, count: int) -> bool:
        """Return whether a CUDA graph was recorded for `count` windows."""
        return self._graphs is not None and self._graphs.recorded(count)

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """See `Backend`."""
        if (runner := self._graphs) is not None:
            try:
                return runner.run(windows, outputs)
            except BackendError:
                raise
            except Exception as error:  # as above
                self._disable_graphs(runner, error)
        try:
            values = self._session.run(list(outputs), {"windows": windows})
        except Exception as error:  # as above
            raise BackendError(f"{self._name} failed on {len(windows)} windows: {error}") from error
        return dict(zip(outputs, values, strict=True))

    def _disable_graphs(self, runner: CudaGraphRunner, error: Exception) -> None:
        """Open a plain session: one whose recording failed cannot be used any more."""
        with self._lock:
            if self._graphs is runner:
                _log.warning("running without CUDA graphs: %s", str(error))
                self._session = self._open_plain()
                self._graphs = None

    def on_device(self, windows: NDArray[np.uint8]) -> Callable[[], None]:
        """Return a function that computes all outputs of these windows without transfers, for benchmarks.

        Raises:
            BackendError: the session does not run on a GPU, or the library failed.
        """
        try:
            if self._graphs is not None:
                return self._graphs.on_device(windows)
            batch = DeviceBatch(self._library, self._session, len(windows))
            batch.upload(windows)
        except Exception as error:  # as above
            raise BackendError(f"{self._name} cannot keep {len(windows)} windows on a GPU: {error}") from error
        return batch.compute


def _engine_folder(model: bytes) -> str:
    """Return the engine folder of a model. ONNX Runtime names engines by graph structure, which a retrained model shares."""
    from edgeparse.backends.tensorrt import engine_cache

    folder: Path = engine_cache.default_folder() / "onnxruntime" / hashlib.sha256(model).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        reason = safe_files.untrusted_owner(folder)
    except OSError as error:
        raise BackendError(
            f"{folder} cannot be written ({error.strerror or error}); set {engine_cache.FOLDER_VARIABLE} to a writable folder"
        ) from error
    if reason is not None:
        raise EngineUntrustedError(f"{reason}. Engines are programs, so their folder must be trusted")
    return str(folder)
