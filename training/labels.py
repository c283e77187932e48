"""The label spaces, declared once: what the networks predict and what the bundle's manifest repeats.

The parameters follow "Reverse Engineering of Generative Models" (arXiv 2106.07873): nine continuous architecture
parameters, discrete architecture parameters and ten loss types. The published L2 and MSE are the same function,
so they share one name here, and the place that frees is taken by the spectral loss.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """One continuous parameter: `scaled = (f(value) - f(low)) / (f(high) - f(low))`, `f` = log1p for `log`, else identity."""

    low: float
    high: float
    log: bool
    unit: str

    def scale(self, value: float) -> float:
        """Map a value in `unit` to [0, 1] (outside the range it goes beyond)."""
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
    """What is known of one generator. A missing key is unknown, and no loss or metric looks at it."""

    family: str | None
    continuous: dict[str, float]
    discrete: dict[str, str]
    losses: tuple[str, ...] | None

    def to_json(self) -> dict[str, object]:
        return {
            "family": self.family,
            "continuous": self.continuous,
            "discrete": self.discrete,
            "losses": None if self.losses is None else list(self.losses),
        }

    @staticmethod
    def from_json(data: dict) -> Labels:
        losses = data["losses"]
        return Labels(data["family"], data["continuous"], data["discrete"], None if losses is None else tuple(losses))

    def key(self) -> bytes:
        """All of it as bytes: equal for generators that no label tells apart."""
        vectors = (self.continuous_vector(), self.discrete_vector(), self.loss_vector())
        return f"{self.family}".encode() + b"".join(vector.tobytes() for vector in vectors)

    def family_index(self) -> int:
        """Index into FAMILIES, or -1 where unknown."""
        return -1 if self.family is None else list(FAMILIES).index(self.family)

    def continuous_vector(self) -> np.ndarray:
        """float32[9], scaled; NaN where unknown."""
        return np.array(
            [p.scale(self.continuous[n]) if n in self.continuous else np.nan for n, p in CONTINUOUS.items()], np.float32
        )

    def discrete_vector(self) -> np.ndarray:
        """int64[len(DISCRETE)], class indices; -1 where unknown."""
        return np.array(
            [values.index(self.discrete[n]) if n in self.discrete else -1 for n, values in DISCRETE.items()], np.int64
        )

    def loss_vector(self) -> np.ndarray:
        """float32[10], 1 where the loss was used; NaN where unknown."""
        if self.losses is None:
            return np.full(len(LOSSES), np.nan, np.float32)
        return np.array([float(name in self.losses) for name in LOSSES], np.float32)
