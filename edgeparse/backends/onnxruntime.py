"""ONNX Runtime, on the CPU or through CUDA."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import BackendError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            f'ONNX Runtime cannot be imported ({error}); install it with pip install "edgeparse[cpu]" or "edgeparse[gpu]", not both'
        ) from error
    return onnxruntime


def available() -> dict[str, str | None]:
    """Each device that this ONNX Runtime was built for, with None, or the reason why it was not."""
    try:
        present = _library().get_available_providers()
    except BackendError as error:
        return dict.fromkeys(PROVIDERS, str(error))
    return {
        device: None if provider in present else f"this ONNX Runtime has no {provider}; it has {', '.join(present)}"
        for device, provider in PROVIDERS.items()
    }


def version() -> str | None:
    """The library's version, or None where it is not installed."""
    try:
        return str(_library().__version__)
    except BackendError:
        return None


def usable_cores() -> int:
    """Cores that this process may run on; containers often allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OnnxRuntimeBackend:
    """A session on one device. ONNX Runtime's own `run` is thread-safe.

    Args:
        model: the ONNX file's bytes.
        device: "cpu" or "cuda"; a session that fell back to another provider is an error, not a slow answer.
        threads: threads of one run; by default the cores that this process may use.
    """

    def __init__(self, model: bytes, device: str = "cpu", threads: int | None = None) -> None:
        library = _library()
        options = library.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        provider = PROVIDERS[device]
        reason = available()[device]
        if reason is not None:
            raise BackendError(f"{device} was asked for, but {reason}")
        try:
            self._session = library.InferenceSession(model, options, providers=[provider])
        except Exception as error:  # the library raises a dozen unrelated classes
            raise BackendError(f"ONNX Runtime cannot load the model on {device}: {error}") from error
        got = self._session.get_providers()[0]
        if got != provider:
            raise BackendError(
                f"{device} was asked for, but ONNX Runtime fell back to {got}; check the driver and its libraries"
            )
        self._name = f"onnxruntime-{device}"

    @property
    def name(self) -> str:
        return self._name

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        try:
            values = self._session.run(list(outputs), {"windows": windows})
        except Exception as error:  # as above
            raise BackendError(f"{self._name} failed on {len(windows)} windows: {error}") from error
        return dict(zip(outputs, values, strict=True))
