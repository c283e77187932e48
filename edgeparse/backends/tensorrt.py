"""Run a compiled engine, with TensorRT 10 or 11 or with TensorRT for RTX."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
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

# Runs that may be on the GPU at a time; each has a context with its own device memory, and more would only wait for one another.
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
    """A loaded engine. May be called from many threads: each run has a context, a stream and buffers to itself.

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
        self._engine, self._path, self._config, self._cache = engine, cache, None, None
        if not flavour.graphs:
            return
        self._config = engine.create_runtime_config()
        if graphs:
            self._config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache = self._config.create_runtime_cache()
        if cache is not None and (kept := _kept(cache)) is not None and not self._cache.deserialize(kept):
            _log.info("%s is of another GPU, driver or library; its kernels are compiled anew", cache)
        self._config.set_runtime_cache(self._cache)

    def context(self) -> Any:
        """A new context.

        Raises:
            DeviceMemoryError: the GPU has not enough memory for it.
        """
        context = (
            self._engine.create_execution_context()
            if self._config is None
            else self._engine.create_execution_context(runtime_config=self._config)
        )
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


class _Lane:
    """A context with its stream and buffers. One run at a time."""

    def __init__(self, kernels: _Kernels, planned: dict[str, Layout], batches: Sequence[int], graphs: bool) -> None:
        self._stream = cuda.Stream()
        self._context = kernels.context()
        self._buffers = {name: cuda.Buffer(layout.shape, layout.dtype) for name, layout in planned.items()}
        self._window = planned["windows"].shape[1:]
        self._fixed = set(batches) if graphs else set()
        self._captured: dict[int, Any] = {}
        self._count = 0
        for name, buffer in self._buffers.items():
            if not self._context.set_tensor_address(name, buffer.address):
                raise BackendError(f"TensorRT refuses the buffer of {name}")

    def run(
        self, windows: NDArray[np.uint8], outputs: Sequence[str], watch: Stopwatch | None
    ) -> dict[str, NDArray[np.float32]]:
        count = len(windows)
        if count != self._count and not self._context.set_input_shape("windows", (count, *self._window)):
            raise BackendError(f"TensorRT refuses {count} windows")
        self._count = count
        if watch is not None:
            watch.start()
        self._buffers["windows"].upload(windows, self._stream)
        self._lap(watch, "host_to_device")
        recorded = count in self._captured
        if recorded:
            self._stream.launch(self._captured[count])
        else:
            self._execute()
        self._lap(watch, "compute")
        results = self._results(count, outputs)
        self._lap(watch, "device_to_host")
        if not recorded and count in self._fixed:
            self._capture(count, results)
        return results

    def _lap(self, watch: Stopwatch | None, stage: str) -> None:
        if watch is not None:
            self._stream.wait()
            watch.lap(stage)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise BackendError(
                "TensorRT could not run the engine; its messages are in the log of edgeparse.backends.flavours"
            )

    def _results(self, count: int, outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        views = {name: self._buffers[name].download(count, self._stream) for name in outputs}
        self._stream.wait()
        # Copies: the next run writes into the same memory.
        return {name: view.astype(np.float32, copy=True) for name, view in views.items()}

    def _capture(self, count: int, expected: dict[str, NDArray[np.float32]]) -> None:
        """Record a run of this batch size, whose windows are still on the device, and keep the recording if it computes the same.

        A graph saves the launches of a hundred kernels. Some networks cannot be recorded: they run without.
        """
        self._fixed.discard(count)
        try:
            self._stream.begin_capture()
            try:
                self._execute()
            finally:
                graph = self._stream.end_capture()
            self._stream.launch(graph)
            again = self._results(count, list(expected))
        except BackendError as error:
            _log.warning("no CUDA graph for %d windows, which run without one: %s", count, str(error))
            return
        if all(np.allclose(again[name], expected[name], rtol=1e-3, atol=1e-4) for name in expected):
            self._captured[count] = graph
        else:
            _log.warning("the CUDA graph for %d windows computes something else; they run without one", count)
