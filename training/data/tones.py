"""Random tone curves for training windows: brightness, contrast and white balance tell nothing of how a picture was made.

The public generators' pictures are few, and each generator's show much the same subjects and colours. A network that is shown them in
their own tones alone learns these.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# A curve is 255 * gain * (value / 255) ** gamma + offset; the gain of each channel differs a little from the common one.
GAIN, WHITE_BALANCE = (0.7, 1.2), (0.95, 1.05)
LOG_GAMMA, OFFSET = 0.3, 15.0


class Tones(NamedTuple):
    """The curves of N windows: gain float[N, 3], gamma float[N], offset float[N]."""

    gain: np.ndarray
    gamma: np.ndarray
    offset: np.ndarray


def random_tones(rng: np.random.Generator, count: int) -> Tones:
    """Curves for that many windows."""
    gain = rng.uniform(*GAIN, (count, 1)) * rng.uniform(*WHITE_BALANCE, (count, 3))
    return Tones(gain, np.exp(rng.uniform(-LOG_GAMMA, LOG_GAMMA, count)), rng.uniform(-OFFSET, OFFSET, count))


def curves(tones: Tones) -> np.ndarray:
    """What becomes of every value: uint8[N, 256, 3]."""
    bent = (np.arange(256) / 255) ** tones.gamma[:, None]
    values = 255 * tones.gain[:, None] * bent[..., None] + tones.offset[:, None, None]
    return np.clip(values, 0, 255).round().astype(np.uint8)


def toned(window: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """A window in other tones, by curves uint8[256, 3]: uint8[S, S, 3] -> the same shape."""
    return np.stack([np.take(curves[:, channel], window[..., channel]) for channel in range(3)], axis=-1)
