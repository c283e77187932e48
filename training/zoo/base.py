"""Common parts of all families: the generator, its training losses, and its pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.zoo import losses
from training.zoo.space import Config

Terms = list[tuple[str, Tensor]]

RECONSTRUCTION_WEIGHT = {"L1": 1.0, "L2": 4.0, "cross_entropy": 4.0}


class Maker(nn.Module):
    """Base class of a family. Photos and pictures are float[N, 3, H, W] in [low, 1].

    Attributes:
        generator: module that outputs pixels; its labels are read by inspection.
        sees_photos: whether pictures show the content of photos.
        low: lowest pixel value, 0 for a sigmoid and -1 otherwise.
    """

    sees_photos: ClassVar[bool] = True
    generator: nn.Module

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.low = 0.0 if config.last_nonlinearity == "sigmoid" else -1.0

    def prepare(self, photos: Tensor) -> None:
        """Fit closed-form parts, such as principal components, on training photos."""

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        """Return the generator's input for a photo, and the losses that computing it adds."""
        raise NotImplementedError

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        """Return pictures for the critic, if any, and all losses but the adversarial one by name."""
        given, terms = self.given(photo)
        picture = self.generator(given).float()
        return picture, [*terms, *self.likeness(picture, photo)]

    def likeness(self, picture: Tensor, photo: Tensor) -> Terms:
        """Return the reconstruction losses of a picture."""
        terms: Terms = []
        if name := self.config.reconstruction:
            terms.append((name, RECONSTRUCTION_WEIGHT[name] * losses.reconstruction(name, picture, photo, self.low)))
        if self.config.spectral:
            terms.append(("spectral", 0.02 * losses.spectral(picture, photo)))
        return terms

    def pictures(self, photo: Tensor) -> Tensor:
        """Generate one picture per photo."""
        picture: Tensor = self.generator(self.given(photo)[0])
        return picture


class PatchEncoder(nn.Module):
    """Linear encoder of patches of 2**levels pixels a side to `latent` values of unit variance.

    Starts as the principal components of patches, so that the short training is spent on the decoder. The encoder leaves no trace in
    pictures.
    """

    def __init__(self, levels: int, latent: int) -> None:
        super().__init__()
        side = 2**levels
        self.latent = min(latent, 3 * side * side)
        self.project = nn.Conv2d(3, self.latent, side, stride=side)

    @torch.no_grad()
    def fit(self, photos: Tensor) -> None:
        """Set the weights to the principal components of the photos' patches."""
        side = self.project.stride[0]
        patches = F.unfold(photos.float(), side, stride=side).transpose(1, 2).reshape(-1, 3 * side * side)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        # Components without variance, such as the colour of grey photos, are not amplified to unit variance.
        weight = (vectors[:, -self.latent :] * values[-self.latent :].clamp_min(1e-5).rsqrt()).T.flip(0)
        self.project.weight.copy_(weight.reshape(self.project.weight.shape))
        assert self.project.bias is not None
        self.project.bias.copy_(-(weight @ patches.mean(0)))

    def forward(self, photo: Tensor) -> Tensor:
        """Map float[N, 3, H, W] to float[N, latent, H / 2**levels, W / 2**levels]."""
        code: Tensor = self.project(photo)
        return code


def noised(x: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    """Return x after variance-preserving diffusion at times float[N] in [0, 1]: cos(t pi/2) x + sin(t pi/2) noise."""
    angle = (time * torch.pi / 2)[:, None, None, None]
    return angle.cos() * x + angle.sin() * noise


def with_time(x: Tensor, time: Tensor) -> Tensor:
    """Append the time as a channel: [N, C, H, W] -> [N, C + 1, H, W]."""
    return torch.cat([x, time[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)


def denoise(network: nn.Module, x: Tensor, times: Sequence[float]) -> Tensor:
    """Run deterministic DDIM (arXiv 2010.02502) through decreasing `times` down to 0. `network` predicts the noise."""
    for now, then in itertools.pairwise(times):
        t = torch.full((len(x),), now, device=x.device)
        noise = network(with_time(x, t)).float()
        angle = t[0] * torch.pi / 2
        clean = (x - angle.sin() * noise) / angle.cos()
        x = noised(clean, torch.full_like(t, then), noise)
    return x
