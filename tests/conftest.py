"""Pictures and bundles that several tests use."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeparse import Parser
from edgeparse.bundle import default_folder

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"


def sample_files() -> list[Path]:
    return sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp"))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8[H, W, 3] with texture at every scale."""
    rng = np.random.default_rng(seed)
    coarse = np.asarray(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((width, height)))
    return np.clip(coarse + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def parser() -> Parser:
    return Parser()


@pytest.fixture
def bundle_copy(tmp_path: Path) -> Path:
    """A default bundle that a test may damage."""
    return Path(shutil.copytree(default_folder(), tmp_path / "bundle"))
