"""Random tone curves for training windows: brightness, contrast and white balance tell nothing of how a picture was made.

The public generators' pictures are few, and each generator's show much the same subjects and colours. A network that is shown them in
their own tones alone learns these.
"""

from __future__ import annotations

import numpy as np

# A curve is 255 * gain * (value / 255) ** gamma + offset; the gain of each channel differs a little from the common one.
GAIN, WHITE_BALANCE = (0.7, 1.2), (0.95, 1.05)
LOG_GAMMA, OFFSET = 0.3, 15.0


def random_curves(rng: np.random.Generator) -> np.ndarray:
    """A tone curve of each channel: uint8[256, 3], what becomes of every value."""
    gain = rng.uniform(*GAIN) * rng.uniform(*WHITE_BALANCE, 3)
    gamma, offset = np.exp(rng.uniform(-LOG_GAMMA, LOG_GAMMA)), rng.uniform(-OFFSET, OFFSET)
    values = 255 * gain * (np.arange(256)[:, None] / 255) ** gamma + offset
    return np.clip(values, 0, 255).round().astype(np.uint8)


def toned(window: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """A window in other tones: uint8[S, S, 3] -> the same shape."""
    return np.stack([np.take(curves[:, channel], window[..., channel]) for channel in range(3)], axis=-1)
