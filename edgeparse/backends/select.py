"""Which backend runs here, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edgeparse.backends import flavours, onnxruntime
from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError
from edgeparse.precision import variant_for

# What `auto` tries, best first. It compiles nothing: it takes an engine that somebody compiled. ONNX Runtime's own TensorRT providers
# compile whenever they are opened, and so are only taken by name; so is OpenVINO, which compiles too.
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


def survey(bundle: Bundle) -> list[Finding]:
    """What each backend says of this machine and bundle, best first. Loads the inference libraries, but no model."""
    found = onnxruntime.available()
    findings = []
    for name in PREFERENCE:
        reason = _engine_reason(name, bundle) if name in flavours.FLAVOURS else found[name]
        findings.append(Finding(name, reason is None, reason))
    return findings


def _engine_reason(name: str, bundle: Bundle) -> str | None:
    from edgeparse import build
    from edgeparse.backends.plans import Store

    store = Store()
    try:
        store.read(build.find(bundle, name, store))
    except BackendError as error:
        return str(error)
    return None


def create(name: str, bundle: Bundle, variant: str | None = None, threads: int | None = None) -> Backend:
    """Load a bundle's network: on the named backend or not at all; with `auto` on the best that works.

    Raises:
        BackendError: an unknown name, or it cannot run here.
        BundleError: the bundle has no model of that precision for the backend, or a wrong hash.
    """
    if name not in NAMES:
        raise BackendError(f"there is no backend {name!r}; choose from {', '.join(NAMES)}")
    if name != "auto":
        return _load(name, bundle, variant, threads)
    reasons = []
    for candidate in PREFERENCE:
        try:
            reason = _pass_over(candidate, bundle)
            if reason is None:
                return _load(candidate, bundle, variant, threads)
        except BackendError as error:
            reason = str(error)
        _log.info("auto passes over %s: %s", candidate, reason)
        reasons.append(f"{candidate}: {reason}")
    raise BackendError("no backend can run here. " + "; ".join(reasons))


def _pass_over(name: str, bundle: Bundle) -> str | None:
    """Why `auto` need not try a backend, found without loading a library that is of no use."""
    if name not in flavours.FLAVOURS:
        return onnxruntime.available()[name]
    flavour = flavours.flavour(name)
    if not flavours.installed(flavour):
        return f"it is not installed: {flavour.install}"
    from edgeparse import build
    from edgeparse.backends.plans import Store

    if not build.built_for(bundle, name, Store()):
        return f"no engine was compiled for this bundle; {build.command(name)} compiles one"
    return None


def _load(name: str, bundle: Bundle, variant: str | None, threads: int | None) -> Backend:
    if name in flavours.FLAVOURS:
        from edgeparse import build
        from edgeparse.backends.plans import Store

        return build.load(bundle, name, Store(), variant)
    if name == "openvino":
        from edgeparse.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(bundle.model(variant_for(bundle, name, variant)), threads)
    chosen = variant_for(bundle, name, variant)
    settings = settings_of(name, bundle, chosen)
    return onnxruntime.OnnxRuntimeBackend(bundle.model(chosen), name, threads, settings=settings)


def settings_of(name: str, bundle: Bundle, variant: str) -> dict[str, str]:
    """What ONNX Runtime is told for a variant beside what holds for all: whether a GPU may use TF32."""
    return onnxruntime.TF32 if name == "cuda" and variant in bundle.tf32 else {}
