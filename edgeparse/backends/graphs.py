"""ONNX Runtime on a GPU through CUDA graphs: buffers that stay where they are, and a recorded run for each batch size.

A network of a hundred small kernels takes longer to launch than to compute. A graph launches them at once. It reads and writes the
addresses that it was recorded with, so windows are copied into a buffer, and a batch is filled up to the next recorded size.

ONNX Runtime keeps a graph for the thread that recorded it: another thread records it again, and what a thread recorded is not given
back when it ends. So all runs of a session are on one thread, which belongs to it.
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

# Between two of these a batch costs as much as the larger; more windows than the largest are several runs.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# ONNX Runtime neither records nor replays a run with this number.
PLAIN = -1
# Outputs of at least so many values a window are copied one by one, when they are asked for; the others together in one copy.
LARGE = 4096
# Values between two outputs that share a block begin on this multiple: kernels read 16 bytes at once, and CUDA itself aligns to 256.
ALIGNED = 64
# How far a graph's answers may be from those of a plain run, as a share of the output's largest value.
TOLERANCE = 1e-3

_log = logging.getLogger(__name__)

T = TypeVar("T")
# Calls for a worker's thread, each with where its answer goes; None ends it.
Calls = queue.SimpleQueue["tuple[Callable[[], Any], Future[Any]] | None"]


class Worker:
    """A thread that makes one call after another for whoever waits for them, and ends when nobody refers to this object any more.

    It is not an executor's: those take no more calls once the main thread has ended, though others may still run.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._calls: Calls = queue.SimpleQueue()
        thread = threading.Thread(target=_serve, args=(self._calls,), name="edgeparse-cuda", daemon=True)
        thread.start()
        weakref.finalize(self, _end, self._calls, thread)

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns there, or raises.

        Raises:
            BackendError: this process was forked from the one that has the thread.
        """
        if os.getpid() != self._process:
            raise BackendError("neither CUDA nor its thread survives a fork: make the parser in the child")
        answer: Future[T] = Future()
        self._calls.put((function, answer))
        return answer.result()


def _serve(calls: Calls) -> None:
    while (call := calls.get()) is not None:
        function, answer = call
        try:
            answer.set_result(function())
        except BaseException as error:  # whoever waits raises it
            answer.set_exception(error)
        # While it waits, it keeps no session alive.
        del call, function, answer


def _end(calls: Calls, thread: threading.Thread) -> None:
    calls.put(None)
    # It is not left running while the interpreter ends. It may itself be the one that drops the last reference.
    if thread is not threading.current_thread():
        thread.join()


class Batch:
    """The buffers of so many windows on the device, bound to a session's input and to all its outputs.

    Args:
        library: the module `onnxruntime`.
        session: an InferenceSession on CUDA.
        count: windows.

    Raises:
        ValueError: a tensor whose batch is not its only open dimension, or of an unexpected type.
    """

    def __init__(self, library: Any, session: Any, count: int) -> None:
        self._session, self._count = session, count
        (given,) = session.get_inputs()
        self._host = np.zeros(_shape(given, "tensor(uint8)", count), np.uint8)
        self._input = library.OrtValue.ortvalue_from_shape_and_type(self._host.shape, np.uint8, "cuda", 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(given.name, self._input)
        shapes = {output.name: _shape(output, "tensor(float)", count) for output in session.get_outputs()}
        self._alone = {name: shape for name, shape in shapes.items() if np.prod(shape[1:]) >= LARGE}
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}
        size = 0
        for name, shape in shapes.items():
            if name not in self._alone:
                self._places[name] = (size, shape)
                size += -(-int(np.prod(shape)) // ALIGNED) * ALIGNED
        self._size = max(size, 1)
        self._block = library.OrtValue.ortvalue_from_shape_and_type((self._size,), np.float32, "cuda", 0)
        for name, (start, shape) in self._places.items():
            self._binding.bind_output(name, "cuda", 0, np.float32, shape, self._block.data_ptr() + 4 * start)
        self._large = {
            name: library.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cuda", 0)
            for name, shape in self._alone.items()
        }
        for name, value in self._large.items():
            self._binding.bind_ortvalue_output(name, value)
        self._plain, self._graph = _numbered(library, PLAIN), _numbered(library, count)
        self.recorded = False

    @property
    def outputs(self) -> list[str]:
        """The names of all outputs."""
        return [*self._places, *self._large]

    def upload(self, windows: NDArray[np.uint8]) -> None:
        """Copy windows to the device, no more than the batch has; what is behind them stays from an earlier run."""
        self._host[: len(windows)] = windows
        self._input.update_inplace(self._host)

    def compute(self) -> None:
        """Compute every output of the windows on the device, and return when that is done."""
        self._session.run_with_iobinding(self._binding, self._graph if self.recorded else self._plain)

    def download(self, outputs: Sequence[str], count: int) -> dict[str, NDArray[np.float32]]:
        """The named outputs of the first `count` windows, as arrays of their own."""
        block = self._block.numpy() if any(name in self._places for name in outputs) else None
        found = {}
        for name in outputs:
            if block is not None and name in self._places:
                start, shape = self._places[name]
                found[name] = block[start : start + int(np.prod(shape))].reshape(shape)[:count].copy()
            else:
                found[name] = self._large[name].numpy()[:count]
        return found

    def record(self) -> None:
        """Record the run of the windows on the device, which are there again afterwards; keep the graph if it computes the same.

        It is tried on other windows, with outputs that were spoilt: one that does nothing or keeps what it was recorded with is found out.

        Raises:
            Exception: whatever ONNX Runtime raises where it cannot record.
        """
        windows = self._host.copy()
        self.upload(255 - windows)
        self.compute()
        expected = self.download(self.outputs, self._count)
        self.upload(windows)
        self.recorded = True
        # The first run with a number of its own records, the second replays.
        self.compute()
        self.upload(255 - windows)
        self._spoil()
        self.compute()
        again = self.download(self.outputs, self._count)
        self.upload(windows)
        different = [name for name in self.outputs if not _close(again[name], expected[name])]
        if different:
            _log.warning(
                "the CUDA graph for %d windows computes other %s; they run without one",
                self._count,
                ", ".join(different),
            )
            self.recorded = False

    def _spoil(self) -> None:
        """Fill all outputs on the device with what is no number."""
        self._block.update_inplace(np.full(self._size, np.nan, np.float32))
        for name, value in self._large.items():
            value.update_inplace(np.full(self._alone[name], np.nan, np.float32))


class Graphs:
    """A session's runs as CUDA graphs. May be called from many threads, which wait for each other: the graphs share memory.

    Args:
        library: the module `onnxruntime`.
        session: an InferenceSession whose CUDA provider has `enable_cuda_graph`.
    """

    def __init__(self, library: Any, session: Any) -> None:
        self._library, self._session = library, session
        self._outputs = [output.name for output in session.get_outputs()]
        self._window = tuple(session.get_inputs()[0].shape[1:])
        self._batches: dict[int, Batch] = {}
        self._worker = Worker()

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """As `Backend.run`.

        Raises:
            BackendError: windows of another shape, an output that there is not, or this process is a fork.
            Exception: whatever ONNX Runtime raises.
        """
        unknown = [name for name in outputs if name not in self._outputs]
        if unknown:
            raise BackendError(f"the model has no output {', '.join(unknown)}; it has {', '.join(self._outputs)}")
        if windows.dtype != np.uint8 or windows.shape[1:] != self._window or not len(windows):
            raise BackendError(
                f"the model takes uint8[N, {', '.join(map(str, self._window))}], not {windows.dtype}{list(windows.shape)}"
            )

        def computed() -> list[dict[str, NDArray[np.float32]]]:
            parts = []
            for part in split(windows):
                batch = self._ready(part)
                batch.compute()
                parts.append(batch.download(outputs, len(part)))
            return parts

        parts = self._worker.call(computed)
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs} if parts[1:] else parts[0]

    def _ready(self, windows: NDArray[np.uint8]) -> Batch:
        """The batch that takes these windows, with them on the device."""
        count = size_for(len(windows))
        if count in self._batches:
            batch = self._batches[count]
            batch.upload(windows)
            return batch
        batch = Batch(self._library, self._session, count)
        batch.upload(windows)
        batch.record()
        self._batches[count] = batch
        return batch

    def recorded(self, count: int) -> bool:
        """Whether so many windows, no more than the largest of `BATCHES`, have run through a graph and do so again."""
        batch = self._batches.get(size_for(count))
        return batch is not None and batch.recorded

    def on_device(self, windows: NDArray[np.uint8]) -> Callable[[], None]:
        """As `OnnxRuntimeBackend.on_device`, for windows no more than the largest of `BATCHES`."""
        batch = self._worker.call(lambda: self._ready(windows))
        return lambda: self._worker.call(batch.compute)


def size_for(count: int) -> int:
    """The smallest recorded batch that takes `count` windows; the largest where none does."""
    return next((size for size in BATCHES if size >= count), BATCHES[-1])


def split(windows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Parts of no more than the largest recorded batch."""
    for start in range(0, len(windows), BATCHES[-1]):
        yield windows[start : start + BATCHES[-1]]


def _shape(tensor: Any, kind: str, count: int) -> tuple[int, ...]:
    _, *rest = tensor.shape
    if tensor.type != kind or not all(isinstance(side, int) for side in rest):
        raise ValueError(
            f"the model's tensor {tensor.name} is {tensor.type}{tensor.shape}, not {kind} of a fixed shape"
        )
    return (count, *rest)


def _numbered(library: Any, number: int) -> Any:
    options = library.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options


def _close(got: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    allowed = TOLERANCE * float(np.abs(expected).max())
    return np.allclose(got, expected, rtol=0, atol=allowed, equal_nan=True)
