"""Files and windows that the benchmarks share. Loads no PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from edgeparse import images, windows

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
# The code that determines the cached networks.
_SOURCES = ("export/published.py", "export/published_networks.py", "benchmarks/networks.py")


def cache() -> Path:
    """Return the folder of cached networks for the current state of the code that creates them."""
    digest = hashlib.sha256(b"".join((ROOT / source).read_bytes() for source in _SOURCES)).hexdigest()
    return user_cache_path("edgeparse") / "benchmarks" / digest[:12]


def checkpoint(task: str) -> Path:
    """Return the path of a published network's checkpoint."""
    return cache() / f"{task}.pth"


def bundle(task: str) -> Path:
    """Return the folder of a published network's bundle."""
    return cache() / task


def floor(size: int) -> Path:
    """Return the path of the light detector's ONNX file for windows of `size` pixels."""
    return cache() / f"floor-{size}.onnx"


def sample_files() -> list[Path]:
    """Return the paths of the sample pictures."""
    return sorted(path for path in SAMPLES.iterdir() if path.suffix != ".md")


def sample_windows(size: int) -> np.ndarray:
    """Return windows of the sample pictures, uint8[N, size, size, 3]."""
    return np.concatenate([windows.cut(images.read(path).pixels, 8, size).pixels for path in sample_files()])


def window(size: int) -> np.ndarray:
    """Return one window of a photo, uint8[1, size, size, 3]."""
    return windows.cut(images.read(SAMPLES / "camera-dog.jpg").pixels, 1, size).pixels
