"""Where the networks are that `benchmarks.networks` makes, and what they are shown; loads no PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from edgeparse import images, windows

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
# What the made networks follow from.
_SOURCES = ("export/published.py", "export/published_networks.py", "benchmarks/networks.py")


def cache() -> Path:
    """A folder of its own for each state of the code that makes the networks."""
    digest = hashlib.sha256(b"".join((ROOT / source).read_bytes() for source in _SOURCES)).hexdigest()
    return user_cache_path("edgeparse") / "benchmarks" / digest[:12]


def checkpoint(task: str) -> Path:
    """A published network's checkpoint."""
    return cache() / f"{task}.pth"


def bundle(task: str) -> Path:
    """A published network's bundle."""
    return cache() / task


def floor(size: int) -> Path:
    """The light detector as ONNX for windows of `size`."""
    return cache() / f"floor-{size}.onnx"


def sample_files() -> list[Path]:
    """The sample pictures."""
    return sorted(path for path in SAMPLES.iterdir() if path.suffix != ".md")


def sample_windows(size: int) -> np.ndarray:
    """uint8[N, S, S, 3]: windows of the sample pictures."""
    return np.concatenate([windows.cut(images.read(path).pixels, 8, size).pixels for path in sample_files()])


def window(size: int) -> np.ndarray:
    """What all networks are shown, uint8[1, S, S, 3]: part of a photo."""
    return windows.cut(images.read(SAMPLES / "camera-dog.jpg").pixels, 1, size).pixels
