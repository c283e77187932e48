"""Compare an engine with ONNX Runtime on real pictures, output by output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeparse import images, windows
from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from edgeparse.errors import ImageError

# Largest mean difference from fp32 that a precision may have, as a fraction of the output's standard deviation.
TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "int8": 1e-1}
# Windows per run; memory grows with it.
BATCH = 16


@dataclass(frozen=True)
class Difference:
    """How one output differs from the reference.

    Attributes:
        mean: Mean difference, as a fraction of the reference's standard deviation.
        largest: Largest difference, likewise.
        same_choice: Fraction of windows whose largest element, or sign, is the same.
    """

    mean: float
    largest: float
    same_choice: float


def compare(engine: Backend, reference: Backend, shown: np.ndarray, outputs: Sequence[str]) -> dict[str, Difference]:
    """Run both on windows, uint8[N, S, S, 3], and compare every output."""
    expected_outputs, engine_outputs = _run(reference, shown, outputs), _run(engine, shown, outputs)
    differences = {}
    for name in outputs:
        expected, got = expected_outputs[name], engine_outputs[name]
        spread = max(float(expected.std()), 1e-9)
        error = np.abs(got - expected) / spread
        same = _choice(expected) == _choice(got)
        differences[name] = Difference(float(error.mean()), float(error.max()), float(same.mean()))
    return differences


def _run(backend: Backend, shown: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Run in batches; return each output as float32[N, V]."""
    parts = [backend.run(shown[i : i + BATCH], outputs) for i in range(0, len(shown), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]).reshape(len(shown), -1) for name in outputs}


def _choice(output: np.ndarray) -> np.ndarray:
    """Return the index of the largest element of each row, or the sign of a single one."""
    choice: np.ndarray = output.argmax(1) if output.shape[1] > 1 else output[:, 0] > 0
    return choice


def exceeding_tolerance(differences: dict[str, Difference], precision: str) -> list[str]:
    """Return the outputs that differ by more than the precision explains, or are NaN."""
    return [name for name, difference in differences.items() if not difference.mean <= TOLERANCE[precision]]


def windows_from(folder: Path, bundle: Bundle, count: int) -> np.ndarray:
    """Return at most `count` windows of the folder's pictures, uint8[N, S, S, 3], cut as the runtime cuts them.

    Raises:
        ImageError: No picture can be read.
    """
    cuts: list[np.ndarray] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            cut = windows.frame(bundle, images.read(path), max(1, count // 4))
        except ImageError:
            continue
        cuts.extend(cut.pixels)
        if len(cuts) >= count:
            break
    if not cuts:
        raise ImageError("not_found", f"{folder} must have a readable picture; name another folder with --pictures")
    return np.stack(cuts[:count])
