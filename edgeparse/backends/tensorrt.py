"""Run a compiled engine, with TensorRT 10 or 11 or with TensorRT for RTX."""

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

from edgeparse import files
from edgeparse.backends import cuda, flavours
from edgeparse.backends.base import TRANSFERS
from edgeparse.backends.flavours import Flavour
from edgeparse.backends.plans import MODE, Record, Tensor
from edgeparse.errors import BackendError, DeviceMemoryError, EngineDamagedError

# Runs that may be on the GPU at a time; each has device memory of its own, and more would only wait for one another.
LANES = 4

_log = logging.getLogger(__name__)


class Stopwatch:
    """Adds up how long each stage of a run takes, in milliseconds."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(TRANSFERS, 0.0)
        self._since = 0.0

    def start(self) -> None:
        """A part of the run begins."""
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """A stage ends, and the next begins."""
        now = time.perf_counter()
        self.spent[stage] += (now - self._since) * 1e3
        self._since = now


@dataclass(frozen=True)
class Layout:
    """What a buffer of one tensor holds for the largest batch: float32[32, 3, 128, 128], say."""

    name: str
    input: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


_TYPES = {"uint8": np.uint8, "float": np.float32, "half": np.float16, "int8": np.int8, "int32": np.int32}


def layouts(tensors: Sequence[Tensor], largest: int) -> dict[str, Layout]:
    """The buffers that an engine needs, by name, for batches of up to `largest` windows.

    Raises:
        BackendError: a tensor whose batch is not its first and only open dimension, or of a type that no buffer is made for.
    """
    planned = {}
    for tensor in tensors:
        if tensor.shape[:1] != (-1,) or -1 in tensor.shape[1:] or tensor.dtype not in _TYPES:
            raise BackendError(
                f"the engine's tensor {tensor.name} is {tensor.dtype}{list(tensor.shape)}; a known type and only the first dimension "
                "open were expected: compile the engine from a bundle of this package"
            )
        shape = (largest, *tensor.shape[1:])
        planned[tensor.name] = Layout(tensor.name, tensor.input, shape, np.dtype(_TYPES[tensor.dtype]))
    return planned


def tensors_of(engine: Any, trt: Any) -> tuple[Tensor, ...]:
    """The inputs and outputs of a loaded engine, in its order."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return tuple(
        Tensor(
            name,
            engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            engine.get_tensor_dtype(name).name.lower(),
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    )


class TensorRTBackend:
    """A loaded engine. May be called from many threads: each run has contexts, a stream and buffers to itself.

    Args:
        record: what is known of the engine; it was checked that it fits here.
        plan: its bytes, whose hash was checked.
        runtime_cache: where TensorRT for RTX keeps its compiled kernels; it is not written without one.
        graphs: capture CUDA graphs for the engine's own batch sizes.

    Raises:
        LibraryMissingError, DriverError, NoDeviceError, DeviceMemoryError: why it cannot run here.
        EngineDamagedError: TensorRT cannot read it, or its tensors are not those in the record.
    """

    def __init__(self, record: Record, plan: bytes, runtime_cache: Path | None = None, graphs: bool = True) -> None:
        self._flavour = flavours.flavour(record.key.flavour)
        trt = flavours.library(self._flavour)
        cuda.gpu()  # says in one sentence why there is none; TensorRT would say it in many
        self._device = cuda.device()
        logger = flavours.logger(self._flavour)
        logger.errors.clear()
        self._runtime = trt.Runtime(logger)
        if record.key.dla is not None:
            self._runtime.DLA_core = record.key.dla
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            said = "; ".join(logger.errors) or "it gave no reason"
            if "memory" in said.lower():
                raise DeviceMemoryError(f"the GPU has not enough memory for {record.file}: {said}")
            raise EngineDamagedError(
                f"{record.key.flavour} cannot load {record.file}: {said}; delete it and compile it again"
            )
        tensors = tensors_of(self._engine, trt)
        if set(tensors) != set(record.tensors):
            raise EngineDamagedError(
                f"{record.file} has other inputs or outputs than its record says; delete it and compile it again"
            )
        self._batches = record.key.batches
        self._layouts = layouts(tensors, self._batches[2])
        self._graphs = graphs
        self._kernels = _Kernels(self._engine, trt, self._flavour, runtime_cache, graphs)
        self._idle: queue.LifoQueue[_Lane] = queue.LifoQueue()
        self._lanes = 0
        self._lock = threading.Lock()
        self._name = record.key.flavour
        shape = self._layouts["windows"].shape[1:]
        # The first run compiles kernels and fills caches: better now than in front of a user.
        self.run(np.zeros((self._batches[0], *shape), np.uint8), [t.name for t in tensors if not t.input])
        self._kernels.save()

    @property
    def name(self) -> str:
        return self._name

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        return {name: layout.shape[1:] for name, layout in self._layouts.items()}

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        return self._run(windows, outputs, None)

    def timed(
        self, windows: NDArray[np.uint8], outputs: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
        """As `run`, with the milliseconds of each of `TRANSFERS`. Each is waited for before the next begins, so that together they take
        longer than a run that is left alone."""
        watch = Stopwatch()
        made = self._run(windows, outputs, watch)
        return made, watch.spent

    def _run(
        self, windows: NDArray[np.uint8], outputs: Sequence[str], watch: Stopwatch | None
    ) -> dict[str, NDArray[np.float32]]:
        unknown = [name for name in outputs if name not in self._layouts or self._layouts[name].input]
        if unknown:
            raise BackendError(f"the engine has no output {', '.join(unknown)}; it has {', '.join(self._layouts)}")
        wanted = self._layouts["windows"].shape[1:]
        if windows.dtype != np.uint8 or windows.shape[1:] != wanted or not len(windows):
            raise BackendError(
                f"the engine takes uint8[N, {', '.join(map(str, wanted))}], not {windows.dtype}{list(windows.shape)}"
            )
        with cuda.on(self._device), self._lane() as lane:
            parts = [lane.run(part, outputs, watch) for part in split(windows, self._batches[0], self._batches[2])]
        return {name: np.concatenate([part[name] for part in parts])[: len(windows)] for name in outputs}

    @contextlib.contextmanager
    def _lane(self) -> Iterator[_Lane]:
        """A lane that nobody else uses: an idle one, a new one, or, where these are enough, the next that comes free."""
        with self._lock:
            new = self._idle.empty() and self._lanes < LANES
            self._lanes += new
        lane = None
        if new:
            try:
                lane = _Lane(self._kernels, self._layouts, self._batches, self._graphs and not self._flavour.graphs)
            except BaseException as error:
                with self._lock:
                    self._lanes -= 1
                    alone = self._lanes == 0
                if alone or not isinstance(error, DeviceMemoryError):
                    raise
                _log.warning("no device memory for another run beside %d; this one waits", self._lanes)
        lane = lane or self._idle.get()
        try:
            yield lane
        finally:
            self._idle.put(lane)


def split(windows: NDArray[np.uint8], smallest: int, largest: int) -> list[NDArray[np.uint8]]:
    """Parts that an engine takes; the last is filled up by repeating its last window where it has fewer than `smallest`."""
    parts = [windows[i : i + largest] for i in range(0, len(windows), largest)]
    missing = smallest - len(parts[-1])
    if missing > 0:
        parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], missing, axis=0)])
    return parts


class _Kernels:
    """Makes contexts of an engine; for TensorRT for RTX with CUDA graphs of its own and the kernels compiled earlier."""

    def __init__(self, engine: Any, trt: Any, flavour: Flavour, cache: Path | None, graphs: bool) -> None:
        self._engine, self._trt, self._path, self._config, self._cache = engine, trt, cache, None, None
        if not flavour.graphs:
            return
        self._config = engine.create_runtime_config()
        if graphs:
            self._config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache = self._config.create_runtime_cache()
        if cache is not None and (kept := _kept(cache)) is not None and not self._cache.deserialize(kept):
            _log.info("%s is of another GPU, driver or library; its kernels are compiled anew", cache)
        self._config.set_runtime_cache(self._cache)

    def scratch(self) -> cuda.Memory | None:
        """What contexts compute in that run one at a time, nearly all that they need; None where TensorRT for RTX gives each its own.

        Raises:
            DeviceMemoryError: the GPU has not enough memory for it.
        """
        return cuda.Memory(self._engine.device_memory_size_v2) if self._config is None else None

    def context(self, scratch: cuda.Memory | None) -> Any:
        """A new context that computes in what `scratch` gave.

        Raises:
            DeviceMemoryError: the GPU has not enough memory for it.
        """
        if self._config is not None:
            context = self._engine.create_execution_context(runtime_config=self._config)
        else:
            context = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is not None and scratch is not None:
            context.set_device_memory(scratch.address, scratch.size)
        if context is None:
            raise DeviceMemoryError(
                f"the GPU has not enough memory for a run: {self._engine.device_memory_size_v2 / 2**20:.0f} MiB are needed, "
                f"{cuda.free_memory() / 2**20:.0f} MiB are free; close other programs or build with smaller batches"
            )
        return context

    def save(self) -> None:
        """Keep the compiled kernels for the next process; a folder that cannot be written to costs only their time."""
        if self._cache is None or self._path is None:
            return
        try:
            data = bytes(self._cache.serialize())
            if _kept(self._path) != data:
                files.replace(self._path, data, MODE)
        except OSError as error:
            _log.info("%s cannot be written: %s", self._path, error)


def _kept(cache: Path) -> bytes | None:
    """The kernels that an earlier process kept; None where there are none, or others may have written them."""
    try:
        if (reason := files.strangers(cache) or files.strangers(cache.parent)) is None:
            return cache.read_bytes()
        _log.warning("the kernels of an engine are compiled anew: %s", reason)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.info("%s cannot be read: %s", cache, error)
    return None


class _Context:
    """An execution context on a lane's buffers, for one number of windows at a time."""

    def __init__(self, context: Any, buffers: dict[str, cuda.Buffer], window: tuple[int, ...]) -> None:
        self._context, self._window, self._count = context, window, 0
        for name, buffer in buffers.items():
            if not context.set_tensor_address(name, buffer.address):
                raise BackendError(f"TensorRT refuses the buffer of {name}")

    def take(self, count: int) -> None:
        """From here on, runs are of so many windows."""
        if count != self._count and not self._context.set_input_shape("windows", (count, *self._window)):
            raise BackendError(f"TensorRT refuses {count} windows")
        self._count = count

    def execute(self, stream: cuda.Stream) -> None:
        """Put a run on the stream."""
        if not self._context.execute_async_v3(stream.handle):
            raise BackendError(
                "TensorRT could not run the engine; its messages are in the log of edgeparse.backends.flavours"
            )


class _Lane:
    """A stream, buffers, and the contexts that run on them. One run at a time.

    A context whose run was recorded keeps its number of windows: another would change what the recording relies on (TensorRT's developer
    guide, "CUDA Graphs"). So each recorded size has a context of its own beside the one for all other counts. They share what they compute
    in; what each adds to the lane's device memory is what TensorRT keeps for it between runs.
    """

    def __init__(self, kernels: _Kernels, planned: dict[str, Layout], batches: Sequence[int], graphs: bool) -> None:
        self._kernels = kernels
        self._stream = cuda.Stream()
        self._scratch = kernels.scratch()
        self._buffers = {name: cuda.Buffer(layout.shape, layout.dtype) for name, layout in planned.items()}
        self._outputs = [name for name, layout in planned.items() if not layout.input]
        self._window = planned["windows"].shape[1:]
        self._fixed = set(batches) if graphs else set()
        self._plain = self._context()
        # A graph is of use only while its context lives.
        self._recorded: dict[int, tuple[_Context, Any]] = {}

    def _context(self) -> _Context:
        return _Context(self._kernels.context(self._scratch), self._buffers, self._window)

    def run(
        self, windows: NDArray[np.uint8], outputs: Sequence[str], watch: Stopwatch | None
    ) -> dict[str, NDArray[np.float32]]:
        count = len(windows)
        _, graph = self._recorded.get(count, (None, None))
        if graph is None:
            self._plain.take(count)
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
        if count in self._fixed:
            self._fixed.discard(count)
            self._record(windows)
        return results

    def _lap(self, watch: Stopwatch | None, stage: str) -> None:
        if watch is not None:
            self._stream.wait()
            watch.lap(stage)

    def _results(self, count: int, outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        views = {name: self._buffers[name].download(count, self._stream) for name in outputs}
        self._stream.wait()
        # Copies: the next run writes into the same memory.
        return {name: view.astype(np.float32, copy=True) for name, view in views.items()}

    def _record(self, windows: NDArray[np.uint8]) -> None:
        """Record a run of this batch size, whose windows are still on the device, and keep the recording if it computes the same of others.

        A graph saves the launches of a hundred kernels. Some networks cannot be recorded: they run without.
        """
        count, others = len(windows), 255 - windows
        try:
            context = self._context()
            context.take(count)
            # TensorRT wants a run of a new shape before one is recorded.
            expected = self._tried(others, lambda: context.execute(self._stream))
            self._buffers["windows"].upload(windows, self._stream)
            self._stream.wait()
            self._stream.begin_capture()
            try:
                context.execute(self._stream)
            finally:
                graph = self._stream.end_capture()
            again = self._tried(others, lambda: self._stream.launch(graph))
        except BackendError as error:
            _log.warning("no CUDA graph for %d windows, which run without one: %s", count, str(error))
            return
        if all(np.allclose(again[name], expected[name], rtol=1e-3, atol=1e-4) for name in expected):
            self._recorded[count] = (context, graph)
        else:
            _log.warning("the CUDA graph for %d windows computes something else; they run without one", count)

    def _tried(self, windows: NDArray[np.uint8], compute: Callable[[], None]) -> dict[str, NDArray[np.float32]]:
        """Every output of a run, after what was in their buffers was spoilt: a run that does nothing is found out."""
        self._buffers["windows"].upload(windows, self._stream)
        for name in self._outputs:
            self._buffers[name].spoil(self._stream)
        compute()
        return self._results(len(windows), self._outputs)
