"""Pixels, compression and hashes of pictures' files."""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from training.data.augment import Jpeg


def read_pixels(path: Path) -> np.ndarray:
    """Return uint8[H, W, 3] of a picture's file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@functools.cache
def _standard_tables() -> np.ndarray:
    """Return the luminance table of every quality from 1 to 100, as libjpeg scales the standard's: int[100, 64]."""
    tables = []
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as image:
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            tables.append(image.quantization[0])
    return np.array(tables)


def jpeg_of_file(path: Path) -> Jpeg | None:
    """Return the compression of a picture's file, or None if it is no JPEG. Other tables count as the nearest of libjpeg's."""
    with Image.open(path) as image:
        if not isinstance(image, JpegImagePlugin.JpegImageFile):
            return None
        distance = np.abs(_standard_tables() - np.array(image.quantization[0])).sum(1)
        sampling = JpegImagePlugin.get_sampling(image)
        # -1: one plane, or a sampling that the library has no number for.
        return Jpeg(int(distance.argmin()) + 1, 2 if sampling < 0 else sampling)


def hashed(key: str) -> int:
    """Return 64 bits of a key's hash."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
