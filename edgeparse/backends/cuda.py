"""CUDA through NVIDIA's own bindings: every status is checked, and what was allocated is freed."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgeparse.errors import BackendError, DeviceMemoryError, DriverError, LibraryMissingError, NoDeviceError


@dataclass(frozen=True)
class Gpu:
    """The GPU that this process uses; `capability` as "sm86", `memory` in bytes."""

    name: str
    capability: str
    memory: int


def runtime() -> Any:
    """The module of CUDA's runtime calls.

    Raises:
        LibraryMissingError: the bindings are not installed.
    """
    try:
        from cuda.bindings import runtime as bindings
    except ImportError as error:
        raise LibraryMissingError(
            f'CUDA\'s Python bindings cannot be imported ({error}); install them with pip install "cuda-python>=12.6"'
        ) from error
    return bindings


def check(result: tuple[Any, ...]) -> Any:
    """The value, or tuple of values, of a CUDA call.

    Raises:
        BackendError: the call failed; one of its subclasses where the cause is known.
    """
    status, *values = result
    if status.value != 0:
        raise _error(status)
    return values[0] if len(values) == 1 else tuple(values)


def _error(status: Any) -> BackendError:
    name = status.name
    if name == "cudaErrorMemoryAllocation":
        return DeviceMemoryError(
            "the GPU has not enough free memory; close other programs or build with smaller batches"
        )
    if name in ("cudaErrorNoDevice", "cudaErrorInvalidDevice"):
        return NoDeviceError("the driver sees no NVIDIA GPU; check nvidia-smi, and CUDA_VISIBLE_DEVICES if it is set")
    if name == "cudaErrorInsufficientDriver":
        bindings = runtime()
        driver, library = bindings.cudaDriverGetVersion()[1], bindings.cudaRuntimeGetVersion()[1]
        if not driver:
            return NoDeviceError("there is no NVIDIA driver on this machine; engines run only where an NVIDIA GPU is")
        return DriverError(
            f"the NVIDIA driver knows CUDA up to {_readable(driver)}, the libraries here are made for {_readable(library)}; "
            "update the driver, or install libraries for the older CUDA"
        )
    return BackendError(f"a CUDA call failed with {name}; see CUDA's documentation of that status")


def _readable(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def gpu() -> Gpu:
    """The current GPU.

    Raises:
        LibraryMissingError, DriverError, NoDeviceError: why there is none.
    """
    bindings = runtime()
    if check(bindings.cudaGetDeviceCount()) == 0:
        raise NoDeviceError("the driver sees no NVIDIA GPU; check nvidia-smi, and CUDA_VISIBLE_DEVICES if it is set")
    properties = check(bindings.cudaGetDeviceProperties(check(bindings.cudaGetDevice())))
    return Gpu(
        name=bytes(properties.name).split(b"\0")[0].decode(errors="replace"),
        capability=f"sm{properties.major}{properties.minor}",
        memory=int(properties.totalGlobalMem),
    )


def device() -> int:
    """The number of this thread's GPU."""
    return int(check(runtime().cudaGetDevice()))


@contextlib.contextmanager
def on(number: int) -> Iterator[None]:
    """Work on one GPU. CUDA keeps the current one for each thread, and a new thread begins with the first: it is put back after."""
    before = device()
    if before != number:
        check(runtime().cudaSetDevice(number))
    try:
        yield
    finally:
        if before != number:
            check(runtime().cudaSetDevice(before))


def free_memory() -> int:
    """Bytes of device memory that nobody uses."""
    return int(check(runtime().cudaMemGetInfo())[0])


def _at_end(owner: object, free: Callable[[Any], Any], what: Any) -> None:
    """Free something with its owner. When the process ends the driver does it: by then the libraries may be gone."""
    weakref.finalize(owner, free, what).atexit = False


class Stream:
    """A CUDA stream of its own, and the graphs captured on it."""

    def __init__(self) -> None:
        self._cuda = runtime()
        self._stream = check(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking))
        _at_end(self, self._cuda.cudaStreamDestroy, self._stream)

    @property
    def handle(self) -> int:
        """The stream as TensorRT takes it."""
        return int(self._stream)

    def wait(self) -> None:
        """Return when everything on the stream is done."""
        check(self._cuda.cudaStreamSynchronize(self._stream))

    def begin_capture(self) -> None:
        """From here on, record instead of run; other threads may go on with what they do."""
        check(
            self._cuda.cudaStreamBeginCapture(
                self._stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            )
        )

    def end_capture(self) -> Any:
        """What was recorded, ready to be launched.

        Raises:
            BackendError: something on the stream cannot be recorded.
        """
        graph = check(self._cuda.cudaStreamEndCapture(self._stream))
        try:
            executable = check(self._cuda.cudaGraphInstantiate(graph, 0))
        finally:
            check(self._cuda.cudaGraphDestroy(graph))
        _at_end(self, self._cuda.cudaGraphExecDestroy, executable)
        return executable

    def launch(self, graph: Any) -> None:
        """Run a captured graph."""
        check(self._cuda.cudaGraphLaunch(graph, self._stream))


class Memory:
    """Device memory of so many bytes, at least one, aligned as CUDA aligns, to 256."""

    def __init__(self, size: int) -> None:
        self._cuda = runtime()
        self.size = max(1, size)
        self.address = int(check(self._cuda.cudaMalloc(self.size)))
        _at_end(self, self._cuda.cudaFree, self.address)


class Buffer(Memory):
    """Device memory, and page-locked host memory of the same size that the GPU copies to and from.

    `host` is a view for the next copy only: copy out of it what is to be kept.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        super().__init__(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        page_locked = int(check(self._cuda.cudaMallocHost(self.size)))
        _at_end(self, self._cuda.cudaFreeHost, page_locked)
        self.host: NDArray[Any] = np.asarray(_View(page_locked, shape, np.dtype(dtype)))

    def upload(self, values: NDArray[Any], stream: Stream) -> None:
        """Copy `values`, float or int [n, ...] with n no more than the buffer's, to the device."""
        self.host[: len(values)] = values
        self._copy(self.address, self.host.ctypes.data, values.nbytes, "cudaMemcpyHostToDevice", stream)

    def spoil(self, stream: Stream) -> None:
        """Set every bit on the device, where floats are then no numbers: what nothing was written to since is found out."""
        check(self._cuda.cudaMemsetAsync(self.address, 0xFF, self.size, stream.handle))

    def download(self, count: int, stream: Stream) -> NDArray[Any]:
        """Begin to copy the first `count` rows back; they are in the view that is returned once the stream has been waited for."""
        view = self.host[:count]
        self._copy(self.host.ctypes.data, self.address, view.nbytes, "cudaMemcpyDeviceToHost", stream)
        return view

    def _copy(self, to: int, source: int, size: int, kind: str, stream: Stream) -> None:
        check(self._cuda.cudaMemcpyAsync(to, source, size, getattr(self._cuda.cudaMemcpyKind, kind), stream.handle))


@dataclass(frozen=True)
class _View:
    """What NumPy needs to see page-locked memory as an array."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def __array_interface__(self) -> dict[str, object]:
        return {"version": 3, "shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False)}
