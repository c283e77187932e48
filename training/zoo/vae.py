"""Autoencoders, variational or not. The generator is the decoder; the encoder only provides codes of photos."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.zoo import losses
from training.zoo.base import Maker, PatchEncoder, Terms
from training.zoo.blocks import ACTIVATIONS, blocks, to_picture, up
from training.zoo.space import Config


def decoder(config: Config, inputs: int) -> nn.Sequential:
    """Return a decoder of `inputs` channels at 1/2**levels of the size to a picture."""
    width = config.width
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, width, config.kernel, padding=config.kernel // 2),
        ACTIVATIONS[config.nonlinearity](),
    ]
    for _ in range(config.levels):
        layers += [blocks(width, config), up(width, width, config)]
    return nn.Sequential(*layers, to_picture(width, config))


class Autoencoder(Maker):
    """Decoder that reconstructs photos from codes, optionally regularised (KL, MMD)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder = PatchEncoder(config.levels, config.latent)
        self.generator = decoder(config, self.encoder.latent)
        self.log_variance = nn.Parameter(torch.full((1, self.encoder.latent, 1, 1), -4.0))

    def prepare(self, photos: Tensor) -> None:
        self.encoder.fit(photos)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        code = self.encoder(photo)
        if self.config.regulariser == "KL":
            # Starts almost without noise; otherwise no signal reaches the decoder.
            log_variance = self.log_variance.expand_as(code)
            drawn = code + torch.randn_like(code) * (0.5 * log_variance).exp()
            return drawn, [("KL", 1e-4 * losses.kl(code.float(), log_variance))]
        if self.config.regulariser == "MMD":
            return code, [("MMD", 0.02 * losses.mmd(code.float()))]
        return code, []
