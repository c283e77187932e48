"""Autoregressive models over pixels, parallel within a scale (arXiv 1703.03664).

The first pixel of each 2x2 comes from a photo. The other three are drawn one after another from discretised logistics (arXiv 1701.05517). A
picture takes three passes; drawing every pixel in turn would take 36,864 for 192x192.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.zoo.base import Maker, Terms
from training.zoo.blocks import ACTIVATIONS, blocks
from training.zoo.space import Config

DRAWN = 3
# Improbable values are not drawn (as in arXiv 1904.09751), because one speckle leads to the next.
TAIL = 0.1
# Largest scale, ten grey levels. A wider logistic would fit unpredictable areas better, but is sampled as coloured noise.
WIDEST = -2.5
# Half a grey level in the range [-1, 1].
HALF_LEVEL = 1 / 255


def _network(config: Config, inputs: int) -> nn.Sequential:
    """Return a network float[N, inputs, h, w] -> mean and log scale of three channels, float[N, 6, h, w]."""
    pad = config.kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, config.width, config.kernel, padding=pad),
        ACTIVATIONS[config.nonlinearity](),
        blocks(config.width, config),
        nn.Conv2d(config.width, 6, config.kernel, padding=pad),
    )


class SubPixels(nn.Module):
    """Map the first pixel of each 2x2, float[N, 3, H/2, W/2] in [-1, 1], to a picture float[N, 3, H, W]."""

    def __init__(self, config: Config, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.networks = nn.ModuleList(_network(config, 3 * place) for place in range(1, DRAWN + 1))
        self.shuffle = nn.PixelShuffle(2)

    def distribution(self, known: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Predict mean and log scale, float[N, 3, h, w] each, of the pixels after the `known` ones."""
        shift, log_scale = self.networks[len(known) - 1](torch.cat(known, dim=1)).float().chunk(2, dim=1)
        # Starts as a copy of the last pixel, a few grey levels wide.
        return known[-1] + shift, (log_scale - 3.5).clamp(-6, WIDEST)

    def forward(self, first: Tensor) -> Tensor:
        pixels = [first]
        for _ in range(DRAWN):
            mean, log_scale = self.distribution(pixels)
            logistic = torch.logit(TAIL + (1 - 2 * TAIL) * torch.rand_like(mean))
            pixels.append((mean + self.temperature * log_scale.exp() * logistic).clamp(-1, 1))
        picture: Tensor = self.shuffle(torch.stack(pixels, dim=2).flatten(1, 2))
        return picture


def split(photo: Tensor) -> list[Tensor]:
    """Split float[N, 3, H, W] into the four pixels of each 2x2 in reading order, float[N, 3, H/2, W/2] each."""
    return list(torch.unflatten(F.pixel_unshuffle(photo, 2), 1, (3, 4)).unbind(2))


def cross_entropy(mean: Tensor, log_scale: Tensor, pixel: Tensor) -> Tensor:
    """Return the cross-entropy of grey levels in [-1, 1] under a discretised logistic, in nats, averaged over values."""
    inverse = (-log_scale).exp()
    above = torch.sigmoid(inverse * (pixel - mean + HALF_LEVEL)).where(pixel < 1 - HALF_LEVEL, 1.0)
    below = torch.sigmoid(inverse * (pixel - mean - HALF_LEVEL)).where(pixel > -1 + HALF_LEVEL, 0.0)
    return -(above - below).clamp_min(1e-6).log().mean()


class SubPixelModel(Maker):
    """Pixels drawn at a temperature that the config's seed draws."""

    generator: SubPixels

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator = SubPixels(config, float(np.random.default_rng(config.seed).uniform(0.4, 0.8)))

    def prepare(self, photos: Tensor) -> None:
        # Each pixel starts as a copy of the one before.
        for network in self.generator.networks:
            last = list(network.children())[-1]
            assert isinstance(last, nn.Conv2d)
            nn.init.zeros_(last.weight)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        return split(photo)[0], []

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        pixels = split(photo)
        errors = []
        for place in range(1, DRAWN + 1):
            mean, log_scale = self.generator.distribution(pixels[:place])
            errors.append(cross_entropy(mean, log_scale, pixels[place]))
        return None, [("cross_entropy", torch.stack(errors).mean())]
