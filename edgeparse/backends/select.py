"""Which backend runs here, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edgeparse.backends import onnxruntime
from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError

NAMES = ("auto", "cpu", "cuda")
# What `auto` tries, best first.
PREFERENCE = ("cuda", "cpu")
# The INT8 file is made for CPUs; on a GPU ONNX Runtime would run its Q/DQ pairs one by one.
VARIANTS = {"cuda": "fp32"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """Whether a backend can run here; `reason` says why not."""

    name: str
    usable: bool
    reason: str | None


def survey() -> list[Finding]:
    """What each backend says of this machine, best first. Loads the inference library, but no model."""
    found = onnxruntime.available()
    return [Finding(name, found[name] is None, found[name]) for name in PREFERENCE]


def create(name: str, bundle: Bundle, variant: str | None = None, threads: int | None = None) -> Backend:
    """Load a bundle's network: on the named backend or not at all; with `auto` on the best that works.

    Raises:
        BackendError: an unknown name, or it cannot run here.
        BundleError: the bundle has no such variant, or a wrong hash.
    """
    if name not in NAMES:
        raise BackendError(f"there is no backend {name!r}; choose from {', '.join(NAMES)}")
    if name != "auto":
        return _load(name, bundle, variant, threads)
    reasons = []
    for finding in survey():
        if finding.usable:
            try:
                return _load(finding.name, bundle, variant, threads)
            except BackendError as error:
                finding = Finding(finding.name, False, str(error))
        _log.info("auto passes over %s: %s", finding.name, finding.reason)
        reasons.append(f"{finding.name}: {finding.reason}")
    raise BackendError("no backend can run here. " + "; ".join(reasons))


def _load(name: str, bundle: Bundle, variant: str | None, threads: int | None) -> Backend:
    return onnxruntime.OnnxRuntimeBackend(bundle.model(variant or VARIANTS.get(name)), name, threads)
