"""Stored results, and the bundle that each of them was measured on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edgeparse.bundle import Bundle

RESULTS = Path(__file__).parent.parent / "results"
# Significant digits of a stored figure: intervals are wider than what this drops.
DIGITS = 6


def predictions_sha256(bundle: Bundle, variant: str) -> str:
    """Return a hash of everything that determines a bundle's predictions in one precision.

    That is the model file, the gallery, and the manifest's windows, outputs, labels and calibration. The version, the
    metrics and the other model files may change without changing a prediction.
    """
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    files = [bundle.hashes[file] for file in (bundle.variants[variant], bundle.gallery) if file is not None]
    fields = {key: manifest.get(key) for key in ("window", "framing", "outputs", "labels", "calibration")}
    return hashlib.sha256(json.dumps([files, fields], sort_keys=True).encode()).hexdigest()


def bundle_identity(bundle: Bundle, variant: str | None = None) -> dict[str, str]:
    """Return the fields that a result stores about its bundle; `variant` defaults to the bundle's choice for CPUs."""
    variant = variant or bundle.default_variant
    return {"bundle": bundle.label, "variant": variant, "answers_sha256": predictions_sha256(bundle, variant)}


def is_measured_on(result: dict[str, Any], bundle: Bundle) -> bool:
    """Return whether a result also holds for this bundle, because both predict the same."""
    variant = str(result["variant"])
    return variant in bundle.variants and result["answers_sha256"] == predictions_sha256(bundle, variant)


def read_result(name: str) -> dict[str, Any] | None:
    """Read a result of the repository, or return None if it was never measured."""
    path = RESULTS / f"{name}.json"
    result: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return result


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, with figures rounded to `DIGITS` significant digits."""
    path.write_text(json.dumps(_rounded(result), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
