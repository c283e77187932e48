"""Denoising diffusion, in pixels or in the latent space of an autoencoder.

A minute of training gives no sampler that paints a scene from noise. A picture therefore starts as in SDEdit (arXiv 2108.01073), from a
photo
with part of the noise added. The content comes from the photo, the details from the model.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from training.zoo import losses
from training.zoo.base import Maker, PatchEncoder, Terms, denoise, noised, with_time
from training.zoo.space import Config
from training.zoo.translation import EncoderDecoder
from training.zoo.vae import decoder

# Highest noise time in training. Sampling starts at a lower one.
LAST_TIME = 0.4


def _times(config: Config) -> list[float]:
    """Return the start time and number of steps of the sampler, drawn with the config's seed."""
    rng = np.random.default_rng(config.seed)
    return [float(t) for t in np.linspace(rng.uniform(0.06, 0.18), 0.0, int(rng.integers(4, 6)))]


def noise_loss(network: nn.Module, x: Tensor, name: str, weight: float) -> Terms:
    """Return the epsilon-prediction loss (arXiv 2006.11239), as L1 or L2, at random times."""
    time = torch.rand(len(x), device=x.device) * LAST_TIME
    noise = torch.randn_like(x)
    predicted = network(with_time(noised(x, time, noise), time)).float()
    return [(name, weight * losses.reconstruction(name, predicted, noise, -1.0))]


class PixelDiffusion(Maker):
    """U-Net that predicts the noise in a noisy photo."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator = EncoderDecoder(config, inputs=4)
        self.times = _times(config)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        time = torch.full((len(photo),), self.times[0], device=photo.device)
        return with_time(noised(photo, time, torch.randn_like(photo)), time), []

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        return None, noise_loss(self.generator, photo, self.config.reconstruction, 1.0)

    def pictures(self, photo: Tensor) -> Tensor:
        begun = self.given(photo)[0][:, :3]
        return denoise(self.generator, begun, self.times)


class LatentDiffusion(Maker):
    """Autoencoder and a denoiser of its codes, trained together without gradients between the two."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder = PatchEncoder(config.levels, config.latent)
        latent = self.encoder.latent
        self.generator = decoder(config, latent)
        self.times = _times(config)
        self.denoiser = nn.Sequential(
            nn.Conv2d(latent + 1, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, latent, 3, padding=1),
        )

    def prepare(self, photos: Tensor) -> None:
        self.encoder.fit(photos)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        return self.encoder(photo), []

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        picture, terms = super().terms(photo)
        code = self.encoder(photo).detach().float()
        return picture, [*terms, *noise_loss(self.denoiser, code, "L2", 0.1)]

    def pictures(self, photo: Tensor) -> Tensor:
        code = self.encoder(photo)
        time = torch.full((len(code),), self.times[0], device=code.device)
        begun = noised(code, time, torch.randn_like(code))
        picture: Tensor = self.generator(denoise(self.denoiser, begun, self.times))
        return picture


def build(config: Config) -> Maker:
    """Return the module of a diffusion config."""
    return PixelDiffusion(config) if config.task == "pixels" else LatentDiffusion(config)
