"""Fingerprints as images: amplified residuals, and their spectrum, in which upsampling leaves peaks."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray


def fingerprint_picture(fingerprint: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Amplify a fingerprint: float32[3, H, W] -> uint8[H, W, 3]. Zero is grey, three standard deviations are black or white."""
    centred = fingerprint - fingerprint.mean(axis=(1, 2), keepdims=True)
    spread = max(float(centred.std()), 1e-8)
    grey: NDArray[np.float32] = np.clip(centred / (6 * spread) + 0.5, 0, 1) * 255
    picture: NDArray[np.uint8] = grey.round().astype(np.uint8).transpose(1, 2, 0)
    return picture


def spectrum(fingerprints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean log amplitude over windows and channels: float32[N, 3, H, W] -> float32[H, W], zero frequency centred."""
    amplitude = np.abs(np.fft.fft2(fingerprints - fingerprints.mean(axis=(2, 3), keepdims=True)))
    return np.fft.fftshift(np.log1p(amplitude).mean(axis=(0, 1))).astype(np.float32)


def spectrum_picture(fingerprints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw the spectrum: float32[N, 3, H, W] -> uint8[H, W, 3]. The darkest 1% are black, the brightest 0.1% white."""
    values = spectrum(fingerprints)
    low, high = np.percentile(values, [1, 99.9])
    grey = (np.clip((values - low) / max(float(high - low), 1e-8), 0, 1) * 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode uint8[H, W, 3] or [H, W] as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
