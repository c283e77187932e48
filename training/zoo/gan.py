"""Unconditional spatial GANs (arXiv 1611.08207): a grid of noise becomes a texture of any size.

As there, one generator learns the texture of a handful of photos: that is what a small network can learn in a minute.
"""

from __future__ import annotations

from torch import nn

from training.zoo.space import Config
from training.zoo.vae import decoder


def build(config: Config) -> tuple[nn.Module, nn.Module | None]:
    """(generator, None). Noise has `latent` channels at 1/2**levels of the size."""
    return decoder(config, config.latent, config.levels), None
