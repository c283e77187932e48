"""Label spaces of the networks. The manifest of a bundle repeats them.

The parameters follow "Reverse Engineering of Generative Models" (arXiv 2106.07873): nine continuous architecture parameters, discrete
architecture parameters, and ten loss types. The published L2 and MSE are the same function and share one label. The spectral loss takes the
free label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

CLASSES = ("camera", "generated")

FAMILIES: dict[str, str] = {
    "vae": "decoder of an autoencoder, variational or not",
    "gan": "unconditional adversarial generator",
    "translation": "image-to-image network: restoration, colourisation, super-resolution, style",
    "flow": "normalising flow",
    "diffusion": "denoising diffusion, in pixels or in a latent space",
    "autoregressive": "predicts pixels or tokens one after another",
    "attack": "adversarial perturbation of a photo",
}

DISCRETE: dict[str, tuple[str, ...]] = {
    "normalization": ("none", "batch", "instance", "group"),
    "last_nonlinearity": ("none", "tanh", "sigmoid"),
    "block_nonlinearity": ("relu", "leaky_relu", "elu", "silu"),
    "up_sampling": ("none", "nearest", "bilinear", "transposed", "pixel_shuffle"),
    "down_sampling": ("none", "strided", "max_pool", "average_pool"),
    "skip_connections": ("no", "yes"),
    "kernel_size": ("3", "5", "7"),
}

LOSSES = (
    "L1",
    "L2",
    "MMD",
    "least_squares",
    "WGAN",
    "KL",
    "adversarial",
    "hinge",
    "cross_entropy",
    "spectral",
)


@dataclass(frozen=True)
class Continuous:
    """Scale of a continuous parameter: `(f(value) - f(low)) / (f(high) - f(low))`, where f is log1p if `log`, else the identity."""

    low: float
    high: float
    log: bool
    unit: str

    def scale(self, value: float) -> float:
        """Scale a value in `unit`: [low, high] maps to [0, 1], and other values lie outside."""
        f = np.log1p if self.log else float
        return float((f(value) - f(self.low)) / (f(self.high) - f(self.low)))


CONTINUOUS: dict[str, Continuous] = {
    "layers": Continuous(1, 64, False, "layers: convolution + fully connected + pooling + normalisation"),
    "convolution_layers": Continuous(1, 36, False, "layers"),
    "fully_connected_layers": Continuous(0, 16, False, "layers"),
    "pooling_layers": Continuous(0, 12, False, "layers"),
    "normalization_layers": Continuous(0, 32, False, "layers"),
    "filters": Continuous(16, 4096, True, "output channels summed over convolutions"),
    "blocks": Continuous(1, 14, False, "repeated blocks"),
    "layers_per_block": Continuous(1, 8, False, "layers in a block, mean"),
    "parameters": Continuous(1e3, 1e8, True, "trainable values"),
}


@dataclass(frozen=True)
class Labels:
    """Labels of one generator. Missing keys are unknown, and no loss or metric uses them."""

    family: str | None
    continuous: dict[str, float]
    discrete: dict[str, str]
    losses: tuple[str, ...] | None

    def to_json(self) -> dict[str, object]:
        """Return the labels as a JSON object."""
        return {
            "family": self.family,
            "continuous": self.continuous,
            "discrete": self.discrete,
            "losses": None if self.losses is None else list(self.losses),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Labels:
        """Read labels from a JSON object."""
        losses = data["losses"]
        return Labels(data["family"], data["continuous"], data["discrete"], None if losses is None else tuple(losses))

    def key(self) -> bytes:
        """Return bytes that are equal for generators with equal labels."""
        vectors = (self.continuous_vector(), self.discrete_vector(), self.loss_vector())
        return f"{self.family}".encode() + b"".join(vector.tobytes() for vector in vectors)

    def family_index(self) -> int:
        """Return the index into FAMILIES, or -1 if unknown."""
        return -1 if self.family is None else list(FAMILIES).index(self.family)

    def continuous_vector(self) -> np.ndarray:
        """Return the scaled continuous parameters, float32[9]; NaN if unknown."""
        return np.array(
            [p.scale(self.continuous[n]) if n in self.continuous else np.nan for n, p in CONTINUOUS.items()], np.float32
        )

    def discrete_vector(self) -> np.ndarray:
        """Return the class index of each discrete parameter, int64[7]; -1 if unknown."""
        return np.array(
            [values.index(self.discrete[n]) if n in self.discrete else -1 for n, values in DISCRETE.items()], np.int64
        )

    def loss_vector(self) -> np.ndarray:
        """Return 1 for each loss that was used and 0 for others, float32[10]; NaN if unknown."""
        if self.losses is None:
            return np.full(len(LOSSES), np.nan, np.float32)
        return np.array([float(name in self.losses) for name in LOSSES], np.float32)
