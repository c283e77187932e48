"""Which of a bundle's model files a backend should run."""

from __future__ import annotations

from edgeparse.bundle import Bundle
from edgeparse.errors import BundleError

# By what a backend can make use of, best first. A CPU takes the bundle's own choice; on a GPU ONNX Runtime would run the pairs
# of an INT8 file one by one. TensorRT's INT8 is symmetric, a CPU's is not: each has its own file.
_GPU = ("fp16", "fp32")
_TENSORRT = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-tensorrt"}
_OF_TENSORRT = set(_TENSORRT.values()) - set(_TENSORRT)


def variant_for(bundle: Bundle, backend: str, precision: str | None = None) -> str:
    """The variant of `bundle` for a backend: of the precision that was asked for, else the best that it has.

    Raises:
        BundleError: the bundle has none of that precision for this backend.
    """
    tensorrt = "tensorrt" in backend
    if precision is not None:
        variant = _TENSORRT.get(precision, precision) if tensorrt else precision
        if variant not in bundle.variants:
            which = f"{precision} model for {'TensorRT' if tensorrt else backend}"
            others = [name for name in bundle.variants if tensorrt or name not in _OF_TENSORRT]
            raise BundleError(
                f"bundle {bundle.label} has no {which}; it has {', '.join(others)}: take one of these, or export it again"
            )
        return variant
    if backend in ("cpu", "openvino"):
        return bundle.default_variant
    return next((name for name in _GPU if name in bundle.variants), bundle.default_variant)
