"""Autoregressive models over pixels, in parallel at a scale (arXiv 1703.03664): of every 2x2 pixels the first is a photo's, and the
others are drawn one after another, each from a discretised logistic (arXiv 1701.05517) given all before it.

Pixel after pixel, a picture of 192 x 192 would take 36,864 passes; so it takes three.
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
# Improbable values are not drawn (as arXiv 1904.09751): one speckle leads to the next.
TAIL = 0.1
# Ten grey levels: where nothing can be known a wider logistic would fit better, and would be drawn as coloured snow.
WIDEST = -2.5
# Half a grey level, where the range is [-1, 1].
HALF_LEVEL = 1 / 255


def _network(config: Config, inputs: int) -> nn.Sequential:
    """float[N, inputs, h, w] -> mean and logarithm of the scale of three channels, float[N, 6, h, w]."""
    pad = config.kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, config.width, config.kernel, padding=pad),
        ACTIVATIONS[config.nonlinearity](),
        blocks(config.width, config),
        nn.Conv2d(config.width, 6, config.kernel, padding=pad),
    )


class SubPixels(nn.Module):
    """The first of every 2x2 pixels, float[N, 3, H/2, W/2] in [-1, 1] -> the picture, float[N, 3, H, W]."""

    def __init__(self, config: Config, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.networks = nn.ModuleList(_network(config, 3 * place) for place in range(1, DRAWN + 1))
        self.shuffle = nn.PixelShuffle(2)

    def distribution(self, known: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(mean, logarithm of the scale), float[N, 3, h, w] each, of the pixels that follow the `known` ones."""
        shift, log_scale = self.networks[len(known) - 1](torch.cat(known, dim=1)).float().chunk(2, dim=1)
        # Begins as the last pixel again, a few grey levels wide.
        return known[-1] + shift, (log_scale - 3.5).clamp(-6, WIDEST)

    def forward(self, first: Tensor) -> Tensor:
        pixels = [first]
        for _ in range(DRAWN):
            mean, log_scale = self.distribution(pixels)
            logistic = torch.logit(TAIL + (1 - 2 * TAIL) * torch.rand_like(mean))
            pixels.append((mean + self.temperature * log_scale.exp() * logistic).clamp(-1, 1))
        return self.shuffle(torch.stack(pixels, dim=2).flatten(1, 2))


def split(photo: Tensor) -> list[Tensor]:
    """float[N, 3, H, W] -> the four pixels of every 2x2, each float[N, 3, H/2, W/2], in reading order."""
    return list(F.pixel_unshuffle(photo, 2).unflatten(1, (3, 4)).unbind(2))


def cross_entropy(mean: Tensor, log_scale: Tensor, pixel: Tensor) -> Tensor:
    """Of the grey levels in [-1, 1] under a discretised logistic: mean over values, in nats."""
    inverse = (-log_scale).exp()
    above = torch.sigmoid(inverse * (pixel - mean + HALF_LEVEL)).where(pixel < 1 - HALF_LEVEL, 1.0)
    below = torch.sigmoid(inverse * (pixel - mean - HALF_LEVEL)).where(pixel > -1 + HALF_LEVEL, 0.0)
    return -(above - below).clamp_min(1e-6).log().mean()


class SubPixelModel(Maker):
    """Pixels drawn at the temperature that the config's seed draws."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator = SubPixels(config, float(np.random.default_rng(config.seed).uniform(0.4, 0.8)))

    def prepare(self, photos: Tensor) -> None:
        # Each pixel begins as a copy of the one before it.
        for network in self.generator.networks:
            nn.init.zeros_(network[-1].weight)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        return split(photo)[0], []

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        pixels = split(photo)
        errors = [
            cross_entropy(*self.generator.distribution(pixels[:place]), pixels[place]) for place in range(1, DRAWN + 1)
        ]
        return None, [("cross_entropy", torch.stack(errors).mean())]
