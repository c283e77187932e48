"""Run a compiled engine with TensorRT 10, TensorRT 11 or TensorRT for RTX."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse import safe_files
from edgeparse.backends.base import TRANSFERS
from edgeparse.backends.tensorrt import cuda, library
from edgeparse.backends.tensorrt.build import find_engine
from edgeparse.backends.tensorrt.engine_cache import MODE, EngineCache, EngineRecord, TensorSpec
from edgeparse.backends.tensorrt.library import TrtLibrary
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError, DeviceMemoryError, EngineDamagedError

# Largest number of concurrent runs. Each needs device memory, and more would only wait for each other.
MAX_SLOTS = 4

_log = logging.getLogger(__name__)


class Stopwatch:
    """Milliseconds spent in each of `TRANSFERS`, summed over the parts of a run."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(TRANSFERS, 0.0)
        self._since = 0.0

    def start(self) -> None:
        """Start timing a part of the run."""
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage and start the next."""
        now = time.perf_counter()
        self.spent[stage] += (now - self._since) * 1e3
        self._since = now


@dataclass(frozen=True)
class BufferSpec:
    """Shape and type of a tensor's buffer for the largest batch, for example float32[32, 3, 128, 128]."""

    name: str
    input: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


_TYPES = {"uint8": np.uint8, "float": np.float32, "half": np.float16, "int8": np.int8, "int32": np.int32}


def buffer_specs(tensors: Sequence[TensorSpec], largest: int) -> dict[str, BufferSpec]:
    """Return the buffers that an engine needs for up to `largest` windows, by name.

    Raises:
        BackendError: a tensor has an unsupported type, or another open dimension than the first.
    """
    specs = {}
    for tensor in tensors:
        if tensor.shape[:1] != (-1,) or -1 in tensor.shape[1:] or tensor.dtype not in _TYPES:
            raise BackendError(
                f"the engine's tensor {tensor.name} must have a supported type and only the first dimension open, got "
                f"{tensor.dtype}{list(tensor.shape)}; compile the engine from a bundle of this package"
            )
        shape = (largest, *tensor.shape[1:])
        specs[tensor.name] = BufferSpec(tensor.name, tensor.input, shape, np.dtype(_TYPES[tensor.dtype]))
    return specs


def tensor_specs(engine: Any, trt: Any) -> tuple[TensorSpec, ...]:
    """Return the inputs and outputs of a loaded engine, in its order."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return tuple(
        TensorSpec(
            name,
            engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            engine.get_tensor_dtype(name).name.lower(),
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    )


def load_engine(bundle: Bundle, library_name: str, cache: EngineCache, precision: str | None = None) -> TensorRTBackend:
    """Load the engine that `find_engine` finds.

    Raises:
        BackendError: as for `find_engine`; or the engine is damaged, or the GPU has too little memory.
    """
    record = find_engine(bundle, library_name, cache, precision)
    return TensorRTBackend(record, cache.read(record), cache.runtime_cache(record))


class TensorRTBackend:
    """A loaded engine. Thread-safe: each run has its own contexts, stream and buffers.

    Args:
        record: the engine's record, which was checked to fit this machine.
        plan: the engine's bytes, whose hash was checked.
        runtime_cache: file for the kernels that TensorRT for RTX compiles, or None to keep none.
        graphs: capture CUDA graphs for the engine's batch sizes.

    Raises:
        LibraryMissingError, DriverError, NoDeviceError, DeviceMemoryError: the engine cannot run here.
        EngineDamagedError: TensorRT cannot load it, or its tensors differ from the record.
    """

    def __init__(
        self, record: EngineRecord, plan: bytes, runtime_cache: Path | None = None, graphs: bool = True
    ) -> None:
        self._library = library.get_library(record.key.library)
        trt = library.import_library(self._library)
        cuda.gpu()  # raises a clearer error than TensorRT if there is no GPU
        self._device = cuda.device()
        self._engine = self._deserialize(trt, record, plan)
        tensors = tensor_specs(self._engine, trt)
        if set(tensors) != set(record.tensors):
            raise EngineDamagedError(
                f"the inputs and outputs of {record.file} differ from its record; delete it and compile it again"
            )
        self._batches = record.key.batches
        self._specs = buffer_specs(tensors, self._batches[2])
        self._graphs = graphs
        self._contexts = _ContextFactory(self._engine, trt, self._library, runtime_cache, graphs)
        self._idle: queue.LifoQueue[ExecutionSlot] = queue.LifoQueue()
        self._slots = 0
        self._lock = threading.Lock()
        shape = self._specs["windows"].shape[1:]
        # The first run compiles kernels and fills caches, so it happens now.
        self.run(np.zeros((self._batches[0], *shape), np.uint8), [t.name for t in tensors if not t.input])
        self._contexts.save()

    def _deserialize(self, trt: Any, record: EngineRecord, plan: bytes) -> Any:
        logger = library.get_logger(self._library)
        logger.errors.clear()
        # The runtime must outlive the engine.
        self._runtime = trt.Runtime(logger)
        if record.key.dla is not None:
            self._runtime.DLA_core = record.key.dla
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            messages = "; ".join(logger.errors) or "no reason given"
            if "memory" in messages.lower():
                raise DeviceMemoryError(f"the GPU has too little memory for {record.file}: {messages}")
            raise EngineDamagedError(
                f"{record.key.library} cannot load {record.file}: {messages}; delete it and compile it again"
            )
        return engine

    @property
    def name(self) -> str:
        """See `Backend`."""
        return self._library.name

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """See `Shaped`."""
        return {name: spec.shape[1:] for name, spec in self._specs.items()}

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """See `Backend`."""
        return self._run(windows, outputs, None)

    def timed(
        self, windows: NDArray[np.uint8], outputs: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
        """See `Timed`. Each stage is awaited before the next, so that their sum exceeds the time of `run`."""
        watch = Stopwatch()
        results = self._run(windows, outputs, watch)
        return results, watch.spent

    def _run(
        self, windows: NDArray[np.uint8], outputs: Sequence[str], watch: Stopwatch | None
    ) -> dict[str, NDArray[np.float32]]:
        unknown = [name for name in outputs if name not in self._specs or self._specs[name].input]
        if unknown:
            raise BackendError(f"the engine has no output {', '.join(unknown)}; choose from {', '.join(self._specs)}")
        shape = self._specs["windows"].shape[1:]
        if windows.dtype != np.uint8 or windows.shape[1:] != shape or not len(windows):
            raise BackendError(
                f"windows must be uint8[N, {', '.join(map(str, shape))}], got {windows.dtype}{list(windows.shape)}"
            )
        with cuda.on(self._device), self._slot() as slot:
            parts = [
                slot.run(part, outputs, watch) for part in split_batches(windows, self._batches[0], self._batches[2])
            ]
        return {name: np.concatenate([part[name] for part in parts])[: len(windows)] for name in outputs}

    @contextlib.contextmanager
    def _slot(self) -> Iterator[ExecutionSlot]:
        """Take an idle slot, a new one, or, at the limit, the next one that becomes idle."""
        with self._lock:
            new = self._idle.empty() and self._slots < MAX_SLOTS
            self._slots += new
        slot = None
        if new:
            try:
                graphs = self._graphs and not self._library.graphs
                slot = ExecutionSlot(self._contexts, self._specs, self._batches, graphs)
            except BaseException as error:
                with self._lock:
                    self._slots -= 1
                    alone = self._slots == 0
                if alone or not isinstance(error, DeviceMemoryError):
                    raise
                _log.warning("no device memory for another run in addition to %d; waiting for one of them", self._slots)
        slot = slot or self._idle.get()
        try:
            yield slot
        finally:
            self._idle.put(slot)


def split_batches(windows: NDArray[np.uint8], smallest: int, largest: int) -> list[NDArray[np.uint8]]:
    """Split windows into batches that an engine accepts. A last batch below `smallest` is padded with its last window."""
    parts = [windows[i : i + largest] for i in range(0, len(windows), largest)]
    missing = smallest - len(parts[-1])
    if missing > 0:
        parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], missing, axis=0)])
    return parts


class _ContextFactory:
    """Creates execution contexts. With TensorRT for RTX, it also manages CUDA graphs and the cache of compiled kernels."""

    def __init__(self, engine: Any, trt: Any, trt_library: TrtLibrary, cache: Path | None, graphs: bool) -> None:
        self._engine, self._trt, self._path, self._config, self._cache = engine, trt, cache, None, None
        if not trt_library.graphs:
            return
        self._config = engine.create_runtime_config()
        if graphs:
            self._config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache = self._config.create_runtime_cache()
        if cache is not None and (kernels := _read_kernels(cache)) is not None and not self._cache.deserialize(kernels):
            _log.info("%s belongs to another GPU, driver or library; compiling its kernels again", cache)
        self._config.set_runtime_cache(self._cache)

    def scratch(self) -> cuda.Memory | None:
        """Return device memory shared by contexts that run one at a time; it is nearly all that they need.

        None with TensorRT for RTX, which allocates it per context.

        Raises:
            DeviceMemoryError: the GPU has too little memory.
        """
        return cuda.Memory(self._engine.device_memory_size_v2) if self._config is None else None

    def create(self, scratch: cuda.Memory | None) -> Any:
        """Create a context that computes in memory from `scratch`.

        Raises:
            DeviceMemoryError: the GPU has too little memory.
        """
        if self._config is not None:
            context = self._engine.create_execution_context(runtime_config=self._config)
        else:
            context = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is not None and scratch is not None:
            context.set_device_memory(scratch.address, scratch.size)
        if context is None:
            raise DeviceMemoryError(
                f"a run needs {self._engine.device_memory_size_v2 / 2**20:.0f} MiB of GPU memory, but only "
                f"{cuda.free_memory() / 2**20:.0f} MiB are free; close other programs or build with smaller batches"
            )
        return context

    def save(self) -> None:
        """Keep the compiled kernels for the next process. If the folder is not writable, they are compiled again."""
        if self._cache is None or self._path is None:
            return
        try:
            data = bytes(self._cache.serialize())
            if _read_kernels(self._path) != data:
                safe_files.atomic_write(self._path, data, MODE)
        except OSError as error:
            _log.info("%s cannot be written: %s", self._path, error)


def _read_kernels(cache: Path) -> bytes | None:
    """Return the kernels of an earlier process, or None if there are none or other users may have written them."""
    try:
        if (reason := safe_files.untrusted_owner(cache) or safe_files.untrusted_owner(cache.parent)) is None:
            return cache.read_bytes()
        _log.warning("compiling an engine's kernels again: %s", reason)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.info("%s cannot be read: %s", cache, error)
    return None


class _Context:
    """An execution context on a slot's buffers, for one batch size at a time."""

    def __init__(self, context: Any, buffers: dict[str, cuda.Buffer], window: tuple[int, ...]) -> None:
        self._context, self._window, self._count = context, window, 0
        for name, buffer in buffers.items():
            if not context.set_tensor_address(name, buffer.address):
                raise BackendError(f"TensorRT rejects the buffer of {name}")

    def set_batch(self, count: int) -> None:
        """Set the number of windows of the following runs."""
        if count != self._count and not self._context.set_input_shape("windows", (count, *self._window)):
            raise BackendError(f"TensorRT rejects a batch of {count} windows")
        self._count = count

    def execute(self, stream: cuda.Stream) -> None:
        """Enqueue a run on the stream."""
        if not self._context.execute_async_v3(stream.handle):
            raise BackendError(f"TensorRT could not run the engine; its messages are in the log of {library.__name__}")


class ExecutionSlot:
    """A stream, buffers and contexts. One run at a time.

    A context whose run was recorded as a CUDA graph keeps its batch size, because the graph depends on it (TensorRT developer guide,
    "CUDA Graphs"). Each recorded batch size therefore has a context of its own; one more context serves all other sizes. They share
    scratch memory, so that each adds only what TensorRT keeps between runs.

    Args:
        contexts: creates the contexts.
        specs: the buffers.
        batches: batch sizes to record.
        graphs: record CUDA graphs.
    """

    def __init__(
        self, contexts: _ContextFactory, specs: dict[str, BufferSpec], batches: Sequence[int], graphs: bool
    ) -> None:
        self._contexts = contexts
        self._stream = cuda.Stream()
        self._scratch = contexts.scratch()
        self._buffers = {name: cuda.Buffer(spec.shape, spec.dtype) for name, spec in specs.items()}
        self._outputs = [name for name, spec in specs.items() if not spec.input]
        self._window = specs["windows"].shape[1:]
        self._to_record = set(batches) if graphs else set()
        self._plain = self._new_context()
        # Batch size -> context and graph. A graph is valid only while its context exists.
        self._recorded: dict[int, tuple[_Context, Any]] = {}

    def _new_context(self) -> _Context:
        return _Context(self._contexts.create(self._scratch), self._buffers, self._window)

    def run(
        self, windows: NDArray[np.uint8], outputs: Sequence[str], watch: Stopwatch | None
    ) -> dict[str, NDArray[np.float32]]:
        """Run one batch; with `watch`, wait for each stage and time it."""
        count = len(windows)
        _, graph = self._recorded.get(count, (None, None))
        if graph is None:
            self._plain.set_batch(count)
        if watch is not None:
            watch.start()
        self._buffers["windows"].upload(windows, self._stream)
        self._lap(watch, "host_to_device")
        if graph is not None:
            self._stream.launch(graph)
        else:
            self._plain.execute(self._stream)
        self._lap(watch, "compute")
        results = self._results(count, outputs)
        self._lap(watch, "device_to_host")
        if count in self._to_record:
            self._to_record.discard(count)
            self._record(windows)
        return results

    def _lap(self, watch: Stopwatch | None, stage: str) -> None:
        if watch is not None:
            self._stream.wait()
            watch.lap(stage)

    def _results(self, count: int, outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        views = {name: self._buffers[name].download(count, self._stream) for name in outputs}
        self._stream.wait()
        # Copies, because the next run writes into the same memory.
        return {name: view.astype(np.float32, copy=True) for name, view in views.items()}

    def _record(self, windows: NDArray[np.uint8]) -> None:
        """Record a graph for the batch that is on the device, and keep it if it computes the right results for other windows.

        A graph saves the launches of a hundred kernels. Networks that cannot be recorded run without one.
        """
        count, others = len(windows), 255 - windows
        try:
            context = self._new_context()
            context.set_batch(count)
            # TensorRT requires a run of a new shape before it is recorded.
            expected = self._run_poisoned(others, lambda: context.execute(self._stream))
            self._buffers["windows"].upload(windows, self._stream)
            self._stream.wait()
            self._stream.begin_capture()
            try:
                context.execute(self._stream)
            finally:
                graph = self._stream.end_capture()
            replayed = self._run_poisoned(others, lambda: self._stream.launch(graph))
        except BackendError as error:
            _log.warning("no CUDA graph for %d windows, running without it: %s", count, str(error))
            return
        if all(np.allclose(replayed[name], expected[name], rtol=1e-3, atol=1e-4) for name in expected):
            self._recorded[count] = (context, graph)
        else:
            _log.warning("the CUDA graph for %d windows returned other values; running without it", count)

    def _run_poisoned(self, windows: NDArray[np.uint8], compute: Callable[[], None]) -> dict[str, NDArray[np.float32]]:
        """Return all outputs of a run with poisoned output buffers, which reveals a run that writes nothing."""
        self._buffers["windows"].upload(windows, self._stream)
        for name in self._outputs:
            self._buffers[name].poison(self._stream)
        compute()
        return self._results(len(windows), self._outputs)
