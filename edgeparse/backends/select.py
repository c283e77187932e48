"""Choose the backend that runs here."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edgeparse.backends import onnxruntime
from edgeparse.backends.base import Backend, variant_for
from edgeparse.backends.tensorrt import library
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError

# What `auto` tries, best first. It compiles nothing and uses engines that were built beforehand. ONNX Runtime's TensorRT providers
# and OpenVINO compile when they load, so they must be named.
PREFERENCE = ("tensorrt", "tensorrt-rtx", "cuda", "cpu")
NAMES = (
    "auto",
    "cpu",
    "openvino",
    "cuda",
    "tensorrt",
    "tensorrt-rtx",
    "onnxruntime-tensorrt",
    "onnxruntime-tensorrt-rtx",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """Whether a backend can run here; `reason` says why not."""

    name: str
    usable: bool
    reason: str | None


def survey_backends(bundle: Bundle) -> list[Finding]:
    """Check each backend of `PREFERENCE` on this machine. Loads the inference libraries but no model."""
    providers = onnxruntime.available()
    findings = []
    for name in PREFERENCE:
        reason = _engine_reason(name, bundle) if name in library.LIBRARIES else providers[name]
        findings.append(Finding(name, reason is None, reason))
    return findings


def _engine_reason(name: str, bundle: Bundle) -> str | None:
    from edgeparse.backends.tensorrt.build import find_engine
    from edgeparse.backends.tensorrt.engine_cache import EngineCache

    cache = EngineCache()
    try:
        cache.read(find_engine(bundle, name, cache))
    except BackendError as error:
        return str(error)
    return None


def create(name: str, bundle: Bundle, variant: str | None = None, threads: int | None = None) -> Backend:
    """Load a bundle's network on the named backend; with "auto", on the best that works.

    Args:
        name: one of `NAMES`.
        bundle: the bundle.
        variant: the precision; by default the best for the backend.
        threads: threads per run; by default all cores that this process may use.

    Raises:
        BackendError: the name is unknown, or the backend cannot run here.
        BundleError: the bundle has no model of that precision, or the file was changed.
    """
    if name not in NAMES:
        raise BackendError(f"backend must be one of {', '.join(NAMES)}, got {name!r}")
    if name != "auto":
        return _load(name, bundle, variant, threads)
    reasons = []
    for candidate in PREFERENCE:
        try:
            reason = _skip_reason(candidate, bundle)
            if reason is None:
                return _load(candidate, bundle, variant, threads)
        except BackendError as error:
            reason = str(error)
        _log.info("auto skips %s: %s", candidate, reason)
        reasons.append(f"{candidate}: {reason}")
    raise BackendError("no backend can run here. " + "; ".join(reasons))


def _skip_reason(name: str, bundle: Bundle) -> str | None:
    """Return why `auto` can skip a backend without loading its library."""
    if name not in library.LIBRARIES:
        return onnxruntime.available()[name]
    trt = library.get_library(name)
    if not library.is_installed(trt):
        return f"it is not installed: {trt.install}"
    from edgeparse.backends.tensorrt.build import build_command, has_engine
    from edgeparse.backends.tensorrt.engine_cache import EngineCache

    if not has_engine(bundle, name, EngineCache()):
        return f"no engine was compiled for this bundle; run `{build_command(name)}`"
    return None


def _load(name: str, bundle: Bundle, variant: str | None, threads: int | None) -> Backend:
    if name in library.LIBRARIES:
        from edgeparse.backends.tensorrt.backend import load_engine
        from edgeparse.backends.tensorrt.engine_cache import EngineCache

        return load_engine(bundle, name, EngineCache(), variant)
    if name == "openvino":
        from edgeparse.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(bundle.model(variant_for(bundle, name, variant)), threads)
    chosen = variant_for(bundle, name, variant)
    settings = provider_settings(name, bundle, chosen)
    return onnxruntime.OnnxRuntimeBackend(bundle.model(chosen), name, threads, settings=settings)


def provider_settings(name: str, bundle: Bundle, variant: str) -> dict[str, str]:
    """Return ONNX Runtime's provider options that depend on the variant: whether a GPU may use TF32."""
    return onnxruntime.TF32 if name == "cuda" and variant in bundle.tf32 else {}
