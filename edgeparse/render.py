"""Pictures of a fingerprint: what no eye sees, amplified; and its spectrum, where up-sampling leaves peaks."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray


def fingerprint_picture(fingerprint: NDArray[np.float32]) -> NDArray[np.uint8]:
    """float32[3, H, W] -> uint8[H, W, 3]: grey is zero, three standard deviations are black and white."""
    centred = fingerprint - fingerprint.mean(axis=(1, 2), keepdims=True)
    spread = max(float(centred.std()), 1e-8)
    grey: NDArray[np.float32] = np.clip(centred / (6 * spread) + 0.5, 0, 1) * 255
    picture: NDArray[np.uint8] = grey.round().astype(np.uint8).transpose(1, 2, 0)
    return picture


def spectrum(fingerprints: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[N, 3, H, W] -> float32[H, W]: mean log amplitude over windows and channels, zero frequency in the middle."""
    amplitude = np.abs(np.fft.fft2(fingerprints - fingerprints.mean(axis=(2, 3), keepdims=True)))
    return np.fft.fftshift(np.log1p(amplitude).mean(axis=(0, 1))).astype(np.float32)


def spectrum_picture(fingerprints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """float32[N, 3, H, W] -> uint8[H, W, 3], darkest 1% black, brightest 0.1% white."""
    values = spectrum(fingerprints)
    low, high = np.percentile(values, [1, 99.9])
    grey = (np.clip((values - low) / max(float(high - low), 1e-8), 0, 1) * 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def png(picture: NDArray[np.uint8]) -> bytes:
    """uint8[H, W, 3] as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
