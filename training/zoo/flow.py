"""Normalising flows of affine couplings (arXiv 1605.08803) for super-resolution (as in arXiv 2006.14200).

The 2x2 means of a photo are kept, and the flow generates the details between them from noise. The loss is the negative log likelihood.
Up to a constant this is the Kullback-Leibler divergence from data to model, so its label is KL.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.zoo.base import Maker, Terms
from training.zoo.blocks import ACTIVATIONS, Block
from training.zoo.space import Config

_HAAR = 0.5 * torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
DETAILS = 9


class Coupling(nn.Module):
    """Affine coupling: a small network predicts scale and shift of one part from the other part and the means."""

    def __init__(self, config: Config, first: bool) -> None:
        super().__init__()
        self.first = first
        self.kept, self.changed = (4, 5) if first else (5, 4)
        self.network = nn.Sequential(
            nn.Conv2d(self.kept + 3, config.width, config.kernel, padding=config.kernel // 2),
            ACTIVATIONS[config.nonlinearity](),
            Block(config.width, config),
            nn.Conv2d(config.width, 2 * self.changed, config.kernel, padding=config.kernel // 2),
        )

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x[:, :4], x[:, 4:]) if self.first else (x[:, 4:], x[:, :4])

    def _join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([kept, changed] if self.first else [changed, kept], dim=1)

    def _scale_shift(self, kept: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.network(torch.cat([kept, means], dim=1)).float().chunk(2, dim=1)
        return 2 * torch.tanh(scale / 2), shift

    def forward(self, details: Tensor, means: Tensor) -> Tensor:
        """Map noise to details."""
        kept, changed = self._split(details)
        scale, shift = self._scale_shift(kept, means)
        return self._join(kept, changed * scale.exp() + shift)

    def encode(self, details: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
        """Map details to noise, and return it with the log determinant per value."""
        kept, changed = self._split(details)
        scale, shift = self._scale_shift(kept, means)
        return self._join(kept, (changed - shift) * (-scale).exp()), -scale


class Flow(nn.Module):
    """Map noise and means, float[N, 9 + 3, H/2, W/2], to a picture float[N, 3, H, W]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.haar: Tensor
        self.register_buffer("haar", _HAAR.clone())
        self.scale = nn.Parameter(torch.full((1, DETAILS, 1, 1), -2.0))
        couplings = [Coupling(config, i % 2 == 0) for i in range(config.blocks_per_level + 3)]
        self.couplings = nn.ModuleList(couplings)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, given: Tensor) -> Tensor:
        details, means = given[:, :DETAILS], given[:, DETAILS:]
        for coupling in self.couplings:
            details = coupling(details, means)
        details = details * self.scale.exp()
        bands = torch.cat([2 * means[:, None], torch.unflatten(details, 1, (3, 3))], dim=1)
        picture: Tensor = self.shuffle(torch.einsum("kb,nkchw->ncbhw", self.haar, bands).flatten(1, 2))
        return picture

    def split(self, photo: Tensor) -> tuple[Tensor, Tensor]:
        """Split a picture into details float[N, 9, H/2, W/2] and means float[N, 3, H/2, W/2]."""
        pixels = torch.unflatten(F.pixel_unshuffle(photo.float(), 2), 1, (3, 4))
        bands = torch.einsum("kb,ncbhw->nkchw", self.haar, pixels)
        return bands[:, 1:].flatten(1, 2), bands[:, 0] / 2

    def negative_log_likelihood(self, photo: Tensor) -> Tensor:
        """Return the negative log likelihood of details given means, in nats, averaged over values."""
        details, means = self.split(photo)
        # Dequantises: noise within the step of eight-bit values makes them continuous.
        details = details + (torch.rand_like(details) - 0.5) * (2 / 255)
        code = details * (-self.scale).exp()
        log_determinant = (-self.scale).expand_as(code).mean()
        for coupling in reversed(list(self.couplings)):
            assert isinstance(coupling, Coupling)
            code, gained = coupling.encode(code, means)
            log_determinant = log_determinant + gained.sum() / code.numel()
        return 0.5 * code.square().mean() - log_determinant


class SuperResolutionFlow(Maker):
    """Details drawn from a flow, at a temperature that the config's seed draws."""

    generator: Flow

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator = Flow(config)
        self.temperature = float(np.random.default_rng(config.seed).uniform(0.5, 0.9))

    def prepare(self, photos: Tensor) -> None:
        # Couplings start as the identity (arXiv 1807.03039).
        for coupling in self.generator.couplings:
            assert isinstance(coupling, Coupling)
            last = coupling.network[-1]
            assert isinstance(last, nn.Conv2d)
            nn.init.zeros_(last.weight)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        details, means = self.generator.split(photo)
        return torch.cat([self.temperature * torch.randn_like(details), means], dim=1), []

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        return None, [("KL", self.generator.negative_log_likelihood(photo))]
