"""OpenVINO on the CPU: faster than ONNX Runtime once it is warm, with a slower start; taken by name only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse.backends.onnxruntime import usable_cores
from edgeparse.errors import BackendError

# Traces are in the last bits of a picture, which bfloat16 has not: where a processor has it, OpenVINO would take it by itself.
PRECISION = "f32"


# As in pyproject.toml.
INSTALL = 'pip install "openvino>=2025.0"'


def _library() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f"OpenVINO cannot be imported ({error}); install it with {INSTALL}") from error
    return openvino


def version() -> str | None:
    """The library's version, or None where it is not installed."""
    try:
        return str(_library().__version__)
    except BackendError:
        return None


class _Request:
    """A compiled network's request with the memory of its window, and of what it makes of it by output: float32[1, ...]. What the library
    gives back by itself is copied, and named anew each time, which takes a tenth of the time of a window."""

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
        """Put what becomes of a window, uint8[S, S, 3], into `values`."""
        self._window[0] = window
        self._request.start_async()
        self._request.wait()


class OpenVinoBackend:
    """A network that is compiled for one window at a time, for each set of outputs that is asked for.

    A fixed shape lets it plan its memory once; and what leads only to outputs that nobody asked for is not computed.

    Args:
        model: the ONNX file's bytes.
        threads: threads of one run; by default the cores that this process may use.
        precision: of what the file has in float32, "f32" or "bf16".

    Raises:
        BackendError: the library is missing, or cannot read the model or compute in this precision.
    """

    name = "openvino"

    def __init__(self, model: bytes, threads: int | None = None, precision: str = PRECISION) -> None:
        core = _library().Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError("this processor has no bfloat16; take another precision")
        self._core = core
        try:
            self._model = core.read_model(model, b"")
        except Exception as error:  # the library raises RuntimeError, and what its bindings raise
            raise BackendError(f"OpenVINO cannot read the model: {error}") from error
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "INFERENCE_PRECISION_HINT": precision,
        }
        self._compiled: dict[tuple[str, ...], Any] = {}
        self._compiling = threading.Lock()
        self._own = threading.local()

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        return {
            name: tuple(side.get_length() if side.is_static else None for side in list(tensor.get_partial_shape())[1:])
            for tensor in (*self._model.inputs, *self._model.outputs)
            for name in tensor.get_names()
        }

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        try:
            request = self._request(tuple(sorted(outputs)))
            made = {
                name: np.empty((len(windows), *value.shape[1:]), np.float32) for name, value in request.values.items()
            }
            for i, window in enumerate(windows):
                request.compute(window)
                for name, value in request.values.items():
                    made[name][i] = value[0]
        except Exception as error:  # as above
            raise BackendError(f"openvino failed on {len(windows)} windows: {error}") from error
        return made

    def _request(self, outputs: tuple[str, ...]) -> _Request:
        """This thread's request: a network is compiled once, its buffers are each thread's own."""
        own: dict[tuple[str, ...], _Request] = self._own.__dict__.setdefault("requests", {})
        if outputs not in own:
            with self._compiling:
                if outputs not in self._compiled:
                    self._compiled[outputs] = self._compile(outputs)
            own[outputs] = _Request(self._compiled[outputs], outputs)
        return own[outputs]

    def _compile(self, outputs: tuple[str, ...]) -> Any:
        model = self._model.clone()
        found = {name: output for output in model.outputs for name in output.get_names()}
        size = model.inputs[0].get_partial_shape()[1].get_length()
        chosen = [found[name].get_node() for name in outputs]
        part = _library().Model(chosen, model.get_parameters(), "edgeparse")
        part.reshape([1, size, size, 3])
        return self._core.compile_model(part, "CPU", self._settings)
