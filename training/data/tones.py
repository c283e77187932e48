"""Random tone curves for training windows.

Brightness, contrast and white balance say nothing about how a picture was made. There are few public pictures, and those of one
generator have similar subjects and colours. Without random tones, the network memorises these colours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# A curve is 255 * gain * (value / 255) ** gamma + offset. The white balance varies the gain of each channel.
GAIN, WHITE_BALANCE = (0.7, 1.2), (0.95, 1.05)
LOG_GAMMA, OFFSET = 0.3, 15.0


class Tones(NamedTuple):
    """Parameters of the curves of N windows: gain float[N, 3], gamma float[N], offset float[N]."""

    gain: np.ndarray
    gamma: np.ndarray
    offset: np.ndarray


def draw_tones(rng: np.random.Generator, count: int) -> Tones:
    """Draw the curves of `count` windows."""
    gain = rng.uniform(*GAIN, (count, 1)) * rng.uniform(*WHITE_BALANCE, (count, 3))
    return Tones(gain, np.exp(rng.uniform(-LOG_GAMMA, LOG_GAMMA, count)), rng.uniform(-OFFSET, OFFSET, count))


def curves(tones: Tones) -> np.ndarray:
    """Return the curves as lookup tables, uint8[N, 256, 3]."""
    powers = (np.arange(256) / 255) ** tones.gamma[:, None]
    values = 255 * tones.gain[:, None] * powers[..., None] + tones.offset[:, None, None]
    return np.asarray(np.clip(values, 0, 255).round(), np.uint8)


def apply_curves(window: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Apply the lookup table uint8[256, 3] of each channel to a window uint8[S, S, 3]."""
    return np.stack([np.take(curves[:, channel], window[..., channel]) for channel in range(3)], axis=-1)
