"""Autoregressive models over the tokens of a vector-quantised autoencoder (as in arXiv 2012.09841).

The prior is a stack of masked convolutions (arXiv 1601.06759). Sampling thousands of tokens one after another takes hours on a CPU. A
picture therefore keeps the tokens of a photo, except at random positions, where the prior draws a new token given all earlier ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.zoo.base import Maker, PatchEncoder, Terms
from training.zoo.space import Config
from training.zoo.subpixels import SubPixelModel
from training.zoo.vae import decoder

CODES = 128
GROUP = 2
# Fraction of positions at which a new token is drawn.
REDRAWN = 0.04


class Quantizer(nn.Module):
    """Product quantisation: each group of `GROUP` channels has its own codebook, fitted by k-means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.codes: Tensor
        self.register_buffer("codes", torch.zeros(channels // GROUP, CODES, GROUP))

    @torch.no_grad()
    def fit(self, code: Tensor, rounds: int = 8) -> None:
        """Fit the codebooks by k-means on codes float[N, C, H, W]."""
        vectors = self._groups(code)
        self.codes.copy_(vectors[:, torch.randperm(vectors.shape[1], device=code.device)[:CODES]])
        for _ in range(rounds):
            nearest = torch.cdist(vectors, self.codes).argmin(2)
            for group in range(len(self.codes)):
                sums = torch.zeros_like(self.codes[group]).index_add_(0, nearest[group], vectors[group])
                counts = torch.bincount(nearest[group], minlength=CODES)[:, None]
                self.codes[group] = torch.where(counts > 0, sums / counts.clamp_min(1), self.codes[group])

    def _groups(self, code: Tensor) -> Tensor:
        """Split channels into groups: float[N, C, H, W] -> float[G, N * H * W, GROUP]."""
        n, c, h, w = code.shape
        return (
            code.float()
            .reshape(n, c // GROUP, GROUP, h, w)
            .permute(1, 0, 3, 4, 2)
            .reshape(c // GROUP, n * h * w, GROUP)
        )

    @torch.no_grad()
    def tokens(self, code: Tensor) -> Tensor:
        """Quantise codes float[N, C, H, W] to tokens int64[N, G, H, W]."""
        n, c, h, w = code.shape
        return torch.cdist(self._groups(code), self.codes).argmin(2).reshape(c // GROUP, n, h, w).transpose(0, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Look up tokens int64[N, G, H, W], and return codes float[N, C, H, W]."""
        vectors = torch.stack([self.codes[g][tokens[:, g]] for g in range(len(self.codes))], dim=1)
        return vectors.permute(0, 1, 4, 2, 3).flatten(1, 2)


class MaskedConv2d(nn.Conv2d):
    """5x5 convolution that sees only positions before the current one in reading order, and the current one if `own`."""

    def __init__(self, inputs: int, outputs: int, own: bool) -> None:
        super().__init__(inputs, outputs, 5, padding=2)
        mask = torch.zeros(5, 5)
        mask.flatten()[: 12 + own] = 1
        self.mask: Tensor
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=2)


class TokenModel(Maker):
    """Decoder of quantised codes and a prior over their tokens, trained together."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder = PatchEncoder(config.levels, min(config.latent, 16))
        latent = self.encoder.latent
        self.quantizer = Quantizer(latent)
        self.generator = decoder(config, latent)
        self.prior = nn.Sequential(
            MaskedConv2d(latent, 32, own=False),
            nn.ReLU(),
            MaskedConv2d(32, 32, own=True),
            nn.ReLU(),
            nn.Conv2d(32, CODES * latent // GROUP, 1),
        )

    def prepare(self, photos: Tensor) -> None:
        self.encoder.fit(photos)
        self.quantizer.fit(self.encoder(photos)[:8])
        # The encoder is frozen, because the codebooks are fitted to it.
        self.encoder.requires_grad_(False)

    def _logits(self, tokens: Tensor) -> Tensor:
        """Predict logits float[N, CODES, G, H, W] of tokens int64[N, G, H, W]."""
        logits: Tensor = self.prior(self.quantizer(tokens)).float()
        return torch.unflatten(logits, 1, (-1, CODES)).transpose(1, 2)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        return self.quantizer(self.quantizer.tokens(self.encoder(photo))), []

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        tokens = self.quantizer.tokens(self.encoder(photo))
        picture = self.generator(self.quantizer(tokens)).float()
        prior = F.cross_entropy(self._logits(tokens), tokens)
        return picture, [*self.likeness(picture, photo), ("cross_entropy", 0.05 * prior)]

    def pictures(self, photo: Tensor) -> Tensor:
        tokens = self.quantizer.tokens(self.encoder(photo))
        chances = self._logits(tokens).movedim(1, -1).softmax(-1)
        drawn = torch.multinomial(chances.reshape(-1, CODES), 1).reshape(tokens.shape)
        redrawn = torch.rand_like(tokens[:, :1], dtype=torch.float32) < REDRAWN
        picture: Tensor = self.generator(self.quantizer(torch.where(redrawn, drawn, tokens)))
        return picture


def build(config: Config) -> Maker:
    """Return the module of an autoregressive config."""
    return SubPixelModel(config) if config.task == "sub_pixels" else TokenModel(config)
