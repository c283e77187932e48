"""ONNX Runtime on a GPU through CUDA graphs: fixed buffers, and one recorded run per batch size.

Launching a hundred small kernels takes longer than computing them; a graph launches them at once. It reads and writes the addresses
that it was recorded with, so windows are copied into a buffer and batches are padded to the next recorded size.

ONNX Runtime keeps graphs per thread: another thread would record them again, and never frees them. All runs of a session therefore
happen on one worker thread.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import BackendError

# Batch sizes that are recorded. Smaller batches are padded to the next one; larger ones are split.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# With this graph id, ONNX Runtime neither records nor replays.
PLAIN = -1
# Outputs with at least this many values per window are copied one by one, on request; all others together in one copy.
LARGE = 4096
# Alignment, in values, of outputs that share a block: kernels read 16 bytes at once, and CUDA aligns to 256 bytes.
ALIGNED = 64
# Largest deviation of a graph's outputs from a plain run, relative to the output's largest value.
TOLERANCE = 1e-3

_log = logging.getLogger(__name__)

T = TypeVar("T")
# Calls for a worker thread with their futures; None ends the thread.
Calls = queue.SimpleQueue["tuple[Callable[[], Any], Future[Any]] | None"]


class Worker:
    """A thread that runs calls one after another, and ends when this object is garbage-collected.

    An executor does not fit: it accepts no calls after the main thread has ended, although other threads may still run.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._calls: Calls = queue.SimpleQueue()
        thread = threading.Thread(target=_serve, args=(self._calls,), name="edgeparse-cuda", daemon=True)
        thread.start()
        weakref.finalize(self, _end, self._calls, thread)

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the thread and return its result; its exceptions are raised here.

        Raises:
            BackendError: this process is a fork of the one that started the thread.
        """
        if os.getpid() != self._process:
            raise BackendError("CUDA and its thread do not survive a fork; create the parser in the child process")
        future: Future[T] = Future()
        self._calls.put((function, future))
        return future.result()


def _serve(calls: Calls) -> None:
    while (call := calls.get()) is not None:
        function, future = call
        try:
            future.set_result(function())
        except BaseException as error:  # raised in the caller
            future.set_exception(error)
        # Keep no reference to a session while waiting.
        del call, function, future


def _end(calls: Calls, thread: threading.Thread) -> None:
    calls.put(None)
    # The thread must not run while the interpreter shuts down. It may itself drop the last reference.
    if thread is not threading.current_thread():
        thread.join()


class DeviceBatch:
    """Device buffers for a fixed number of windows, bound to a session's input and outputs.

    Args:
        library: the module `onnxruntime`.
        session: an InferenceSession on CUDA.
        count: number of windows.

    Raises:
        ValueError: a tensor has another open dimension than the batch, or an unexpected type.
    """

    def __init__(self, library: Any, session: Any, count: int) -> None:
        self._session, self._count = session, count
        (model_input,) = session.get_inputs()
        self._host = np.zeros(_shape(model_input, "tensor(uint8)", count), np.uint8)
        self._input = library.OrtValue.ortvalue_from_shape_and_type(self._host.shape, np.uint8, "cuda", 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(model_input.name, self._input)
        shapes = {output.name: _shape(output, "tensor(float)", count) for output in session.get_outputs()}
        self._large_shapes = {name: shape for name, shape in shapes.items() if np.prod(shape[1:]) >= LARGE}
        self._slices: dict[str, tuple[int, tuple[int, ...]]] = {}
        size = 0
        for name, shape in shapes.items():
            if name not in self._large_shapes:
                self._slices[name] = (size, shape)
                size += -(-int(np.prod(shape)) // ALIGNED) * ALIGNED
        self._size = max(size, 1)
        self._block = library.OrtValue.ortvalue_from_shape_and_type((self._size,), np.float32, "cuda", 0)
        for name, (start, shape) in self._slices.items():
            self._binding.bind_output(name, "cuda", 0, np.float32, shape, self._block.data_ptr() + 4 * start)
        self._large = {
            name: library.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cuda", 0)
            for name, shape in self._large_shapes.items()
        }
        for name, value in self._large.items():
            self._binding.bind_ortvalue_output(name, value)
        self._plain, self._graph = _run_options(library, PLAIN), _run_options(library, count)
        self.recorded = False

    @property
    def outputs(self) -> list[str]:
        """Names of all outputs."""
        return [*self._slices, *self._large]

    def upload(self, windows: NDArray[np.uint8]) -> None:
        """Copy at most `count` windows to the device; the rest of the buffer keeps windows of an earlier run."""
        self._host[: len(windows)] = windows
        self._input.update_inplace(self._host)

    def compute(self) -> None:
        """Compute all outputs of the windows on the device, and wait for them."""
        self._session.run_with_iobinding(self._binding, self._graph if self.recorded else self._plain)

    def download(self, outputs: Sequence[str], count: int) -> dict[str, NDArray[np.float32]]:
        """Return copies of the named outputs of the first `count` windows."""
        block = self._block.numpy() if any(name in self._slices for name in outputs) else None
        results = {}
        for name in outputs:
            if block is not None and name in self._slices:
                start, shape = self._slices[name]
                results[name] = block[start : start + int(np.prod(shape))].reshape(shape)[:count].copy()
            else:
                results[name] = self._large[name].numpy()[:count]
        return results

    def record(self) -> None:
        """Record a graph of the windows on the device, and keep it only if it computes the right results.

        The graph is tried on other windows with poisoned outputs. This detects a graph that does nothing, or that repeats what
        it was recorded with. Afterwards the device holds the same windows as before.

        Raises:
            Exception: whatever ONNX Runtime raises if it cannot record.
        """
        windows = self._host.copy()
        self.upload(255 - windows)
        self.compute()
        expected = self.download(self.outputs, self._count)
        self.upload(windows)
        self.recorded = True
        # The first run with a graph id records, the second replays.
        self.compute()
        self.upload(255 - windows)
        self._poison()
        self.compute()
        replayed = self.download(self.outputs, self._count)
        self.upload(windows)
        different = [name for name in self.outputs if not _close(replayed[name], expected[name])]
        if different:
            _log.warning(
                "the CUDA graph for %d windows returned other values for %s; running without it",
                self._count,
                ", ".join(different),
            )
            self.recorded = False

    def _poison(self) -> None:
        """Fill all outputs on the device with NaN."""
        self._block.update_inplace(np.full(self._size, np.nan, np.float32))
        for name, value in self._large.items():
            value.update_inplace(np.full(self._large_shapes[name], np.nan, np.float32))


class CudaGraphRunner:
    """Runs a session through CUDA graphs. Thread-safe; calls wait for each other, because the graphs share memory.

    Args:
        library: the module `onnxruntime`.
        session: an InferenceSession whose CUDA provider has `enable_cuda_graph`.
    """

    def __init__(self, library: Any, session: Any) -> None:
        self._library, self._session = library, session
        self._outputs = [output.name for output in session.get_outputs()]
        self._window = tuple(session.get_inputs()[0].shape[1:])
        self._batches: dict[int, DeviceBatch] = {}
        self._worker = Worker()

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """See `Backend.run`.

        Raises:
            BackendError: the windows have another shape, an output is unknown, or this process is a fork.
            Exception: whatever ONNX Runtime raises.
        """
        unknown = [name for name in outputs if name not in self._outputs]
        if unknown:
            raise BackendError(f"the model has no output {', '.join(unknown)}; choose from {', '.join(self._outputs)}")
        if windows.dtype != np.uint8 or windows.shape[1:] != self._window or not len(windows):
            raise BackendError(
                f"windows must be uint8[N, {', '.join(map(str, self._window))}], got {windows.dtype}{list(windows.shape)}"
            )

        def compute() -> list[dict[str, NDArray[np.float32]]]:
            results = []
            for part in split(windows):
                batch = self._prepare(part)
                batch.compute()
                results.append(batch.download(outputs, len(part)))
            return results

        parts = self._worker.call(compute)
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs} if parts[1:] else parts[0]

    def _prepare(self, windows: NDArray[np.uint8]) -> DeviceBatch:
        """Return the batch for these windows, after uploading them."""
        count = size_for(len(windows))
        if count in self._batches:
            batch = self._batches[count]
            batch.upload(windows)
            return batch
        batch = DeviceBatch(self._library, self._session, count)
        batch.upload(windows)
        batch.record()
        self._batches[count] = batch
        return batch

    def recorded(self, count: int) -> bool:
        """Return whether a graph was recorded for `count` windows, at most the largest of `BATCHES`."""
        batch = self._batches.get(size_for(count))
        return batch is not None and batch.recorded

    def on_device(self, windows: NDArray[np.uint8]) -> Callable[[], None]:
        """See `OnnxRuntimeBackend.on_device`; at most the largest of `BATCHES` windows."""
        batch = self._worker.call(lambda: self._prepare(windows))
        return lambda: self._worker.call(batch.compute)


def size_for(count: int) -> int:
    """Return the smallest recorded batch size for `count` windows, or the largest if none suffices."""
    return next((size for size in BATCHES if size >= count), BATCHES[-1])


def split(windows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Split windows into parts of at most the largest recorded batch size."""
    for start in range(0, len(windows), BATCHES[-1]):
        yield windows[start : start + BATCHES[-1]]


def _shape(tensor: Any, kind: str, count: int) -> tuple[int, ...]:
    _, *rest = tensor.shape
    if tensor.type != kind or not all(isinstance(side, int) for side in rest):
        raise ValueError(
            f"the model's tensor {tensor.name} must be {kind} of a fixed shape, got {tensor.type}{tensor.shape}"
        )
    return (count, *rest)


def _run_options(library: Any, graph_id: int) -> Any:
    options = library.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options


def _close(values: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    allowed = TOLERANCE * float(np.abs(expected).max())
    return np.allclose(values, expected, rtol=0, atol=allowed, equal_nan=True)
