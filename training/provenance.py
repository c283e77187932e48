"""Which bundles a measured figure holds for: all that answer the same, byte by byte, in the precision that was run."""

from __future__ import annotations

import hashlib
import json

from edgeparse.bundle import Bundle


def answers_sha256(bundle: Bundle, variant: str) -> str:
    """SHA-256 of all that a bundle answers with in one precision: the model file, the gallery, and what the manifest says of windows,
    outputs, labels and calibration. Another file of it, its version and its metrics may change, and no answer does."""
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    files = [bundle.hashes[file] for file in (bundle.variants[variant], bundle.gallery) if file is not None]
    said = {key: manifest.get(key) for key in ("window", "framing", "outputs", "labels", "calibration")}
    return hashlib.sha256(json.dumps([files, said], sort_keys=True).encode()).hexdigest()


def measured_of(bundle: Bundle, variant: str | None = None) -> dict[str, str]:
    """What a file of figures keeps of the bundle that they were measured of."""
    variant = variant or bundle.default_variant
    return {"bundle": bundle.label, "variant": variant, "answers_sha256": answers_sha256(bundle, variant)}


def holds_for(found: dict[str, object], bundle: Bundle) -> bool:
    """Whether figures are of a bundle that answers as this one does."""
    variant = str(found["variant"])
    return variant in bundle.variants and found["answers_sha256"] == answers_sha256(bundle, variant)
