"""A fake GPU in main memory for the code around TensorRT: CUDA's runtime calls, and an engine that sums its windows.

A test checks that the fakes have only names that the real libraries have.
"""

from __future__ import annotations

import ctypes
import threading
from functools import partial
from typing import Any

import numpy as np
from cuda.bindings import runtime as real

from edgeparse.backends.tensorrt.engine_cache import TensorSpec

OK = real.cudaError_t.cudaSuccess
TENSORS = (
    TensorSpec("windows", True, "uint8", (-1, 4, 4, 3)),
    TensorSpec("generated", False, "float", (-1, 1)),
    TensorSpec("fingerprint", False, "float", (-1, 3, 4, 4)),
)


class Cuda:
    """The calls of `cuda.bindings.runtime` that edgeparse uses; `fails` maps a call's name to the status to return."""

    cudaStreamNonBlocking = real.cudaStreamNonBlocking
    cudaStreamCaptureMode = real.cudaStreamCaptureMode
    cudaMemcpyKind = real.cudaMemcpyKind

    def __init__(self) -> None:
        self.fails: dict[str, Any] = {}
        self.blocks: dict[int, Any] = {}
        self.streams = 0
        self.recording: list[Any] | None = None
        # Lose what is recorded, as if the work had gone to another stream.
        self.forgets = False
        self.launched = 0
        self.lock = threading.Lock()
        self.devices = threading.local()

    def _done(self, name: str, *values: Any) -> tuple[Any, ...]:
        status = self.fails.get(name, OK)
        return (status, *values) if status == OK else (status, *[None] * len(values))

    def _allocate(self, name: str, size: int) -> tuple[Any, ...]:
        if name in self.fails:
            return self._done(name, None)
        block = ctypes.create_string_buffer(size)
        address = ctypes.addressof(block)
        with self.lock:
            self.blocks[address] = block
        return OK, address

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return self._done("cudaGetDeviceCount", 1)

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return self._done("cudaGetDevice", getattr(self.devices, "current", 0))

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        self.devices.current = device
        return self._done("cudaSetDevice")

    def cudaGetDeviceProperties(self, _device: int) -> tuple[Any, ...]:
        properties = real.cudaDeviceProp()
        properties.name, properties.major, properties.minor = b"Fake GPU".ljust(256, b"\0"), 8, 6
        properties.totalGlobalMem = 2**33
        return self._done("cudaGetDeviceProperties", properties)

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return self._done("cudaDriverGetVersion", 12020)

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return self._done("cudaRuntimeGetVersion", 13010)

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return self._done("cudaMemGetInfo", 2**30, 2**33)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._allocate("cudaMalloc", size)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return self._allocate("cudaMallocHost", size)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        with self.lock:
            del self.blocks[address]
        return self._done("cudaFree")

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, to: int, source: int, size: int, _kind: Any, _stream: int) -> tuple[Any, ...]:
        ctypes.memmove(to, source, size)
        return self._done("cudaMemcpyAsync")

    def cudaMemsetAsync(self, address: int, value: int, size: int, _stream: int) -> tuple[Any, ...]:
        ctypes.memset(address, value, size)
        return self._done("cudaMemsetAsync")

    def cudaStreamCreateWithFlags(self, _flags: int) -> tuple[Any, ...]:
        self.streams += 1
        return self._done("cudaStreamCreateWithFlags", self.streams)

    def cudaStreamDestroy(self, _stream: int) -> tuple[Any, ...]:
        self.streams -= 1
        return self._done("cudaStreamDestroy")

    def cudaStreamSynchronize(self, _stream: int) -> tuple[Any, ...]:
        return self._done("cudaStreamSynchronize")

    def cudaStreamBeginCapture(self, _stream: int, _mode: Any) -> tuple[Any, ...]:
        self.recording = []
        return self._done("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, _stream: int) -> tuple[Any, ...]:
        recorded, self.recording = [] if self.forgets else self.recording, None
        return self._done("cudaStreamEndCapture", recorded)

    def cudaGraphInstantiate(self, graph: Any, _flags: int) -> tuple[Any, ...]:
        return self._done("cudaGraphInstantiate", graph)

    def cudaGraphDestroy(self, _graph: Any) -> tuple[Any, ...]:
        return self._done("cudaGraphDestroy")

    def cudaGraphExecDestroy(self, _graph: Any) -> tuple[Any, ...]:
        return self._done("cudaGraphExecDestroy")

    def cudaGraphLaunch(self, graph: Any, _stream: int) -> tuple[Any, ...]:
        self.launched += 1
        for step in graph:
            step()
        return self._done("cudaGraphLaunch")


class Context:
    """An execution context: `generated` is the sum of a window, `fingerprint` its pixels with channels first.

    Without memory of its own, it computes in the block at `scratch`. A graph is invalid after a change of shape.
    """

    def __init__(self, engine: Engine, own_memory: bool) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.shapes = self.ran = 0
        self.scratch = None if own_memory else 0
        self.busy = False

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        self.scratch = memory

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        self.shapes += 1
        return name == "windows" and 1 <= shape[0] <= self.engine.largest

    def execute_async_v3(self, _stream: int) -> bool:
        if self.engine.fails:
            return False
        self.engine.devices.add(self.engine.cuda.cudaGetDevice()[1])
        if self.engine.cuda.recording is not None:
            assert self.ran == self.shapes, "recorded before a run of this shape"
            self.engine.cuda.recording.append(partial(self.compute, self.shapes))
            return True
        self.ran = self.shapes
        self.compute()
        return True

    def compute(self, shapes: int | None = None) -> None:
        assert not self.busy, "two threads are in one context"
        assert shapes in (None, self.shapes), "a graph was launched after its context got another shape"
        assert self.scratch is None or self.scratch in self.engine.cuda.blocks, "it has no memory to compute in"
        self.busy = True
        self.engine.computed.append(self.shape[0])
        given = self._view("windows", self.shape, np.uint8).astype(np.float32)
        count = len(given)
        self._view("generated", (count, 1), np.float32)[:] = given.sum((1, 2, 3))[:, None]
        self._view("fingerprint", (count, 3, 4, 4), np.float32)[:] = given.transpose(0, 3, 1, 2) + self.engine.drift
        self.engine.drift += self.engine.drifts
        self.busy = False

    def _view(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        block = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.frombuffer(block, dtype).reshape(shape)


class Engine:
    """A loaded engine for up to `largest` windows; with `drifts`, every run gives other outputs."""

    num_io_tensors = len(TENSORS)
    device_memory_size_v2 = 2**20

    def __init__(self, cuda: Cuda, trt: Any, largest: int) -> None:
        self.cuda, self.trt, self.largest = cuda, trt, largest
        self.computed: list[int] = []
        self.contexts = 0
        self.most_contexts = 99
        self.devices: set[int] = set()
        self.fails = False
        self.drift = self.drifts = 0.0

    def get_tensor_name(self, i: int) -> str:
        return TENSORS[i].name

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name == "windows" else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self.trt.DataType, next(t.dtype for t in TENSORS if t.name == name).upper())

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return next(t.shape for t in TENSORS if t.name == name)

    def create_execution_context(self, strategy: Any = None, *, runtime_config: Any = None) -> Context | None:
        if self.contexts >= self.most_contexts:
            return None
        self.contexts += 1
        return Context(self, strategy != self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()


class RuntimeCache:
    def __init__(self) -> None:
        self.data = b"kernels"

    def serialize(self) -> bytes:
        return self.data

    def deserialize(self, data: bytes) -> bool:
        if not data.startswith(b"kernels"):
            return False
        self.data = data
        return True


class RuntimeConfig:
    cuda_graph_strategy: Any = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, _cache: RuntimeCache) -> bool:
        return True
