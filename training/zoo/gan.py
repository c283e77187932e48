"""Unconditional spatial GANs (arXiv 1611.08207): a grid of noise becomes a texture of any size.

As in the paper, a generator learns the texture of a few photos, which a small network can do in a minute. Plain ones are stacks as in DCGAN
(arXiv 1511.06434), and residual ones have skips. Style-modulated ones (as in arXiv 1812.04948) map the mean of the noise to scales and
shifts
of all channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.zoo import losses
from training.zoo.base import Maker, Terms
from training.zoo.blocks import ACTIVATIONS, blocks, to_picture, up
from training.zoo.space import Config
from training.zoo.vae import decoder


class StyleGenerator(nn.Module):
    """Generator from noise float[N, latent, h, w] to a picture; a style modulates the channels of each level."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, latent = config.width, config.latent
        self.mapping = nn.Sequential(
            nn.Linear(latent, 32),
            ACTIVATIONS[config.nonlinearity](),
            nn.Linear(32, 32),
            ACTIVATIONS[config.nonlinearity](),
        )
        self.first = nn.Conv2d(latent, width, config.kernel, padding=config.kernel // 2)
        self.levels = nn.ModuleList(
            nn.Sequential(blocks(width, config), up(width, width, config)) for _ in range(config.levels)
        )
        self.styles = nn.ModuleList(nn.Linear(32, 2 * width) for _ in range(config.levels))
        self.last = to_picture(width, config)

    def forward(self, noise: Tensor) -> Tensor:
        # The mean over n positions has 1 / sqrt(n) of the noise's deviation.
        places = noise.shape[2] * noise.shape[3]
        style = self.mapping(noise.mean((2, 3)) * places**0.5)
        x = self.first(noise)
        for level, modulate in zip(self.levels, self.styles, strict=True):
            scale, shift = modulate(style)[:, :, None, None].chunk(2, dim=1)
            x = level(x * (1 + scale) + shift)
        picture: Tensor = self.last(x)
        return picture


class TextureGAN(Maker):
    """Generator that is trained on photos through its adversary only."""

    sees_photos = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator = StyleGenerator(config) if config.task == "style" else decoder(config, config.latent)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        """Return noise for pictures of the number and size of the photos."""
        side = [length // 2**self.config.levels for length in photo.shape[2:]]
        return torch.randn(len(photo), self.config.latent, *side, device=photo.device), []

    def likeness(self, picture: Tensor, photo: Tensor) -> Terms:
        """Compare statistics, because pictures are unpaired: of patches, and the mean spectrum."""
        terms: Terms = []
        if self.config.regulariser == "MMD":
            terms.append(("MMD", 2.0 * losses.patch_mmd(picture, photo)))
        if not self.config.spectral:
            return terms
        a, b = (torch.fft.rfft2(x.float(), norm="ortho").abs().mean(0).add(0.05).log() for x in (picture, photo))
        return [*terms, ("spectral", 0.3 * F.l1_loss(a, b))]
