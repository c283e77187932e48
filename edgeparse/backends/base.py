"""What a backend provides, and which of a bundle's model files it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgeparse.bundle import Bundle
from edgeparse.errors import BundleError

# Parts of a run on a device.
TRANSFERS = ("host_to_device", "compute", "device_to_host")

# Best precision first. A CPU runs the bundle's default variant; on a GPU, ONNX Runtime would run the quantise/dequantise pairs of an
# INT8 file one by one.
_GPU = ("fp16", "fp32")
# TensorRT needs symmetric INT8, CPUs prefer asymmetric INT8: each has a file of its own.
TENSORRT_SUFFIX = "-tensorrt"
_TENSORRT = {"fp32": "fp32", "fp16": "fp16", "int8": f"int8{TENSORRT_SUFFIX}"}
_TENSORRT_ONLY = set(_TENSORRT.values()) - set(_TENSORRT)


class Backend(Protocol):
    """A loaded network. Thread-safe."""

    @property
    def name(self) -> str:
        """Name in reports, for example "onnxruntime-cpu"."""

    def run(self, windows: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Compute outputs.

        Args:
            windows: uint8[N, S, S, 3] with N >= 1; S is the bundle's `window`.
            outputs: names of the outputs to return.

        Returns:
            float32 arrays by name, owned by the caller.

        Raises:
            BackendError: the library failed.
        """


@runtime_checkable
class Timed(Protocol):
    """A backend that can time transfers and computing separately."""

    def timed(
        self, windows: NDArray[np.uint8], outputs: Sequence[str]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
        """Return the result of `Backend.run`, and the milliseconds of each of `TRANSFERS`."""


@runtime_checkable
class Shaped(Protocol):
    """A backend that knows the shapes of its network before it runs."""

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of `windows` and of each output without the batch axis; None is a side that the model leaves open."""


def variant_for(bundle: Bundle, backend: str, precision: str | None = None) -> str:
    """Choose the variant of a bundle for a backend.

    Args:
        bundle: the bundle.
        backend: name of the backend, as in `select.NAMES`.
        precision: the requested precision; by default the best for the backend.

    Raises:
        BundleError: the bundle has no such precision for this backend.
    """
    tensorrt = "tensorrt" in backend
    if precision is not None:
        variant = _TENSORRT.get(precision, precision) if tensorrt else precision
        if variant not in bundle.variants:
            others = [name for name in bundle.variants if tensorrt or name not in _TENSORRT_ONLY]
            raise BundleError(
                f"bundle {bundle.label} has no {precision} model for {'TensorRT' if tensorrt else backend}; choose from "
                f"{', '.join(others)}, or export it again"
            )
        return variant
    if backend in ("cpu", "openvino"):
        return bundle.default_variant
    return next((name for name in _GPU if name in bundle.variants), bundle.default_variant)
