"""CUDA through NVIDIA's Python bindings: every status is checked, and every allocation is freed."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgeparse.errors import BackendError, DeviceMemoryError, DriverError, LibraryMissingError, NoDeviceError

_NO_GPU = "the driver finds no NVIDIA GPU; check nvidia-smi, and CUDA_VISIBLE_DEVICES if it is set"


@dataclass(frozen=True)
class Gpu:
    """The current GPU: its name, compute capability (for example "sm86") and memory in bytes."""

    name: str
    capability: str
    memory: int


def runtime() -> Any:
    """Import the bindings of the CUDA runtime API.

    Raises:
        LibraryMissingError: the bindings are not installed.
    """
    try:
        from cuda.bindings import runtime as bindings
    except ImportError as error:
        raise LibraryMissingError(
            f'the CUDA bindings cannot be imported ({error}); run pip install "cuda-python>=12.6"'
        ) from error
    return bindings


def check(result: tuple[Any, ...]) -> Any:
    """Return the value, or the tuple of values, of a CUDA call.

    Raises:
        BackendError: the call failed; a subclass if the cause is known.
    """
    status, *values = result
    if status.value != 0:
        raise _error(status)
    return values[0] if len(values) == 1 else tuple(values)


def _error(status: Any) -> BackendError:
    name = status.name
    if name == "cudaErrorMemoryAllocation":
        return DeviceMemoryError(
            "the GPU has too little free memory; close other programs or build with smaller batches"
        )
    if name in ("cudaErrorNoDevice", "cudaErrorInvalidDevice"):
        return NoDeviceError(_NO_GPU)
    if name == "cudaErrorInsufficientDriver":
        bindings = runtime()
        driver, library = bindings.cudaDriverGetVersion()[1], bindings.cudaRuntimeGetVersion()[1]
        if not driver:
            return NoDeviceError("this machine has no NVIDIA driver; engines run only on an NVIDIA GPU")
        return DriverError(
            f"the NVIDIA driver must support CUDA {_format_version(library)}, got {_format_version(driver)}; update the driver, or "
            "install libraries for the older CUDA"
        )
    return BackendError(f"a CUDA call failed with {name}; see this status in the CUDA documentation")


def _format_version(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def gpu() -> Gpu:
    """Return the current GPU.

    Raises:
        LibraryMissingError: the CUDA bindings are not installed.
        DriverError: the driver is too old.
        NoDeviceError: there is no GPU.
    """
    bindings = runtime()
    if check(bindings.cudaGetDeviceCount()) == 0:
        raise NoDeviceError(_NO_GPU)
    properties = check(bindings.cudaGetDeviceProperties(check(bindings.cudaGetDevice())))
    return Gpu(
        name=bytes(properties.name).split(b"\0")[0].decode(errors="replace"),
        capability=f"sm{properties.major}{properties.minor}",
        memory=int(properties.totalGlobalMem),
    )


def device() -> int:
    """Return the index of this thread's GPU."""
    return int(check(runtime().cudaGetDevice()))


@contextlib.contextmanager
def on(number: int) -> Iterator[None]:
    """Use a GPU within the block, then restore the previous one.

    CUDA keeps the current GPU per thread, and new threads start with GPU 0.
    """
    before = device()
    if before != number:
        check(runtime().cudaSetDevice(number))
    try:
        yield
    finally:
        if before != number:
            check(runtime().cudaSetDevice(before))


def free_memory() -> int:
    """Return the free device memory in bytes."""
    return int(check(runtime().cudaMemGetInfo())[0])


def _free_with(owner: object, free: Callable[[Any], Any], resource: Any) -> None:
    """Free a resource with its owner. At process exit the driver frees it, because the libraries may be unloaded by then."""
    weakref.finalize(owner, free, resource).atexit = False


class Stream:
    """A CUDA stream, and the graphs captured on it."""

    def __init__(self) -> None:
        self._cuda = runtime()
        self._stream = check(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking))
        _free_with(self, self._cuda.cudaStreamDestroy, self._stream)

    @property
    def handle(self) -> int:
        """The stream's address, as TensorRT expects it."""
        return int(self._stream)

    def wait(self) -> None:
        """Wait until all work on the stream is done."""
        check(self._cuda.cudaStreamSynchronize(self._stream))

    def begin_capture(self) -> None:
        """Start recording instead of running. Other threads are not affected."""
        check(
            self._cuda.cudaStreamBeginCapture(
                self._stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            )
        )

    def end_capture(self) -> Any:
        """Stop recording and return an executable graph.

        Raises:
            BackendError: something on the stream cannot be recorded.
        """
        graph = check(self._cuda.cudaStreamEndCapture(self._stream))
        try:
            executable = check(self._cuda.cudaGraphInstantiate(graph, 0))
        finally:
            check(self._cuda.cudaGraphDestroy(graph))
        _free_with(self, self._cuda.cudaGraphExecDestroy, executable)
        return executable

    def launch(self, graph: Any) -> None:
        """Run a captured graph."""
        check(self._cuda.cudaGraphLaunch(graph, self._stream))


class Memory:
    """Device memory of `size` bytes, at least 1; CUDA aligns it to 256 bytes."""

    def __init__(self, size: int) -> None:
        self._cuda = runtime()
        self.size = max(1, size)
        self.address = int(check(self._cuda.cudaMalloc(self.size)))
        _free_with(self, self._cuda.cudaFree, self.address)


class Buffer(Memory):
    """Device memory, and page-locked host memory of the same size for transfers.

    `host` is a view that the next transfer overwrites: copy what must be kept.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        super().__init__(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        page_locked = int(check(self._cuda.cudaMallocHost(self.size)))
        _free_with(self, self._cuda.cudaFreeHost, page_locked)
        self.host: NDArray[Any] = np.asarray(_View(page_locked, shape, np.dtype(dtype)))

    def upload(self, values: NDArray[Any], stream: Stream) -> None:
        """Start copying `values`, [n, ...] with n at most the buffer's first dimension, to the device."""
        self.host[: len(values)] = values
        self._copy(self.address, self.host.ctypes.data, values.nbytes, "cudaMemcpyHostToDevice", stream)

    def poison(self, stream: Stream) -> None:
        """Set all bits on the device, which makes floats NaN, to detect memory that is never written."""
        check(self._cuda.cudaMemsetAsync(self.address, 0xFF, self.size, stream.handle))

    def download(self, count: int, stream: Stream) -> NDArray[Any]:
        """Start copying the first `count` rows back. The returned view is valid after `stream.wait()`."""
        view = self.host[:count]
        self._copy(self.host.ctypes.data, self.address, view.nbytes, "cudaMemcpyDeviceToHost", stream)
        return view

    def _copy(self, target: int, source: int, size: int, kind: str, stream: Stream) -> None:
        check(self._cuda.cudaMemcpyAsync(target, source, size, getattr(self._cuda.cudaMemcpyKind, kind), stream.handle))


@dataclass(frozen=True)
class _View:
    """Exposes page-locked memory to NumPy as an array."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def __array_interface__(self) -> dict[str, object]:
        return {"version": 3, "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False)}
