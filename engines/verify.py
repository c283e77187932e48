"""An engine against ONNX Runtime on real pictures, head by head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeparse import images, windows
from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from edgeparse.errors import ImageError

# Largest mean difference from fp32, as a share of the output's spread, that a precision may show.
TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "int8": 1e-1}


@dataclass(frozen=True)
class Difference:
    """One output: its mean and largest difference from the reference, as shares of the reference's spread, and how often its
    largest element is the same."""

    mean: float
    largest: float
    same_choice: float


def compare(engine: Backend, reference: Backend, given: np.ndarray, outputs: Sequence[str]) -> dict[str, Difference]:
    """Run both on uint8[N, S, S, 3]; every output is looked at."""
    right, told = reference.run(given, outputs), engine.run(given, outputs)
    found = {}
    for name in outputs:
        expected, got = right[name].reshape(len(given), -1), told[name].reshape(len(given), -1)
        spread = max(float(expected.std()), 1e-9)
        error = np.abs(got - expected) / spread
        choice = expected.argmax(1) if expected.shape[1] > 1 else expected[:, 0] > 0
        chosen = got.argmax(1) if got.shape[1] > 1 else got[:, 0] > 0
        found[name] = Difference(float(error.mean()), float(error.max()), float((choice == chosen).mean()))
    return found


def too_far(differences: dict[str, Difference], precision: str) -> list[str]:
    """The outputs that differ by more than their precision explains; NaN is too far."""
    return [name for name, difference in differences.items() if not difference.mean <= TOLERANCE[precision]]


def windows_of(folder: Path, bundle: Bundle, count: int) -> np.ndarray:
    """uint8[N, S, S, 3] of the folder's pictures, at most `count`, cut as the runtime cuts them.

    Raises:
        ImageError: there is no picture that can be read.
    """
    found: list[np.ndarray] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            cut = windows.frame(bundle, images.read(path), max(1, count // 4))
        except ImageError:
            continue
        found.extend(cut.pixels)
        if len(found) >= count:
            break
    if not found:
        raise ImageError("not_found", f"there is no picture in {folder} that can be read")
    return np.stack(found[:count])
