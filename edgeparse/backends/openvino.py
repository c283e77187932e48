"""OpenVINO on the CPU: faster than ONNX Runtime when warm, but slower to start, so it must be named."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import BackendError
from edgeparse.system import usable_cores

# OpenVINO chooses bfloat16 where the processor supports it. Traces are in the lowest bits of an image, which bfloat16 loses.
PRECISION = "f32"

# The requirement of pyproject.toml.
INSTALL = 'pip install "openvino>=2025.0"'


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide Intel's telemetry package: `import openvino` would write a client id into the home folder and report the use.

    OpenVINO then uses its own stub. A package that the application has imported already stays.
    """
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def _library() -> Any:
    if (loaded := sys.modules.get("openvino")) is not None:
        return loaded
    try:
        with _without_telemetry():
            import openvino
    except ImportError as error:
        raise BackendError(f"OpenVINO cannot be imported ({error}); run {INSTALL}") from error
    return openvino


def version() -> str | None:
    """Return the library's version, or None if it is not installed."""
    try:
        return str(_library().__version__)
    except BackendError:
        return None


class _Request:
    """An inference request with its own input and output memory.

    OpenVINO's default copies results and looks up names on every call, which takes a tenth of a window's time.
    """

    def __init__(self, compiled: Any, outputs: Sequence[str]) -> None:
        shared = partial(_library().Tensor, shared_memory=True)
        self._request = compiled.create_infer_request()
        self._window = np.empty(tuple(compiled.inputs[0].shape), np.uint8)
        self._request.set_input_tensor(shared(self._window))
        self.values = {
            name: np.empty(tuple(output.shape), np.float32)
            for name, output in zip(outputs, compiled.outputs, strict=True)
        }
        for i, value in enumerate(self.values.values()):
            self._request.set_output_tensor(i, shared(value))

    def compute(self, window: NDArray[np.uint8]) -> None:
        """Run one window, uint8[S, S, 3]; the results, float32[1, ...], are in `values`."""
        self._window[0] = window
        self._request.start_async()
        self._request.wait()


class OpenVinoBackend:
    """A network compiled for one window at a time, and for each requested set of outputs.

    With a fixed shape OpenVINO plans its memory once. Layers that lead only to other outputs are not computed.

    Args:
        model: bytes of the ONNX file.
        threads: threads per run; by default all cores that this process may use.
        precision: how float32 layers are computed, "f32" or "bf16".

    Raises:
        BackendError: the library is missing, cannot read the model, or cannot compute in this precision.
    """

    name = "openvino"

    def __init__(self, model: bytes, threads: int | None = None, precision: str = PRECISION) -> None:
        core = _library().Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError("this processor does not support bfloat16; choose another precision")
        self._core = core
        try:
            self._model = core.read_model(model, b"")
        except Exception as error:  # the library raises RuntimeError and errors of its bindings
            raise BackendError(f"OpenVINO cannot read the model: {error}") from error
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "INFERENCE_PRECISION_HINT": precision,
        }
        self._compiled: dict[tuple[str, ...], Any] = {}
        self._compiling = threading.Lock()
        self._local = threading.local()

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """See `Shaped`."""
        return {
            name: tuple(side.get_length() if side.is_static else None for side in list(tensor.get_partial_shape())[1:])
            for tensor in (*self._model.inputs, *self._model.outputs)
            for name in tensor.get_names()
        }

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """See `Backend`."""
        try:
            request = self._request(tuple(sorted(outputs)))
            results = {
                name: np.empty((len(windows), *value.shape[1:]), np.float32) for name, value in request.values.items()
            }
            for i, window in enumerate(windows):
                request.compute(window)
                for name, value in request.values.items():
                    results[name][i] = value[0]
        except Exception as error:  # as above
            raise BackendError(f"openvino failed on {len(windows)} windows: {error}") from error
        return results

    def _request(self, outputs: tuple[str, ...]) -> _Request:
        """Return this thread's request. The compiled network is shared, its buffers are not."""
        requests: dict[tuple[str, ...], _Request] = self._local.__dict__.setdefault("requests", {})
        if outputs not in requests:
            with self._compiling:
                if outputs not in self._compiled:
                    self._compiled[outputs] = self._compile(outputs)
            requests[outputs] = _Request(self._compiled[outputs], outputs)
        return requests[outputs]

    def _compile(self, outputs: tuple[str, ...]) -> Any:
        model = self._model.clone()
        nodes = {name: output for output in model.outputs for name in output.get_names()}
        size = model.inputs[0].get_partial_shape()[1].get_length()
        chosen = [nodes[name].get_node() for name in outputs]
        part = _library().Model(chosen, model.get_parameters(), "edgeparse")
        part.reshape([1, size, size, 3])
        return self._core.compile_model(part, "CPU", self._settings)
