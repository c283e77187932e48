"""What every family has in common: a generator to inspect, loss terms to train it by, and pictures that it makes."""

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
    """One family's way to train a generator and to make pictures with it. Photos and pictures are float[N, 3, H, W] in [low, 1].

    `generator` is the module that makes pixels: the one that is inspected for labels.
    """

    sees_photos: ClassVar[bool] = True
    generator: nn.Module

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.low = 0.0 if config.last_nonlinearity == "sigmoid" else -1.0

    def prepare(self, photos: Tensor) -> None:
        """Fit, on some training photos, what is fitted and not trained."""

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        """(what the generator is given for this photo, the loss terms that this adds)."""
        raise NotImplementedError

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        """(pictures that an adversary may look at, every loss term but the adversary's by name)."""
        given, terms = self.given(photo)
        picture = self.generator(given).float()
        return picture, [*terms, *self.likeness(picture, photo)]

    def likeness(self, picture: Tensor, photo: Tensor) -> Terms:
        """The terms that hold a picture to its photo."""
        terms: Terms = []
        if name := self.config.reconstruction:
            terms.append((name, RECONSTRUCTION_WEIGHT[name] * losses.reconstruction(name, picture, photo, self.low)))
        if self.config.spectral:
            terms.append(("spectral", 0.02 * losses.spectral(picture, photo)))
        return terms

    def pictures(self, photo: Tensor) -> Tensor:
        """One picture a photo."""
        picture: Tensor = self.generator(self.given(photo)[0])
        return picture


class PatchEncoder(nn.Module):
    """A linear encoder: patches of 2**levels pixels a side -> `latent` numbers each, at unit variance.

    It begins as the patches' principal components, so that a generator's short training is spent on making pictures and not on
    finding out what to encode; no picture shows what its encoder was.
    """

    def __init__(self, levels: int, latent: int) -> None:
        super().__init__()
        side = 2**levels
        self.latent = min(latent, 3 * side * side)
        self.project = nn.Conv2d(3, self.latent, side, stride=side)

    @torch.no_grad()
    def fit(self, photos: Tensor) -> None:
        """Set the weights to the principal components of these photos' patches."""
        side = self.project.stride[0]
        patches = F.unfold(photos.float(), side, stride=side).transpose(1, 2).reshape(-1, 3 * side * side)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        # A component without variance (a grey set's colour) must not be blown up to unit variance.
        weight = (vectors[:, -self.latent :] * values[-self.latent :].clamp_min(1e-5).rsqrt()).T.flip(0)
        self.project.weight.copy_(weight.reshape(self.project.weight.shape))
        self.project.bias.copy_(-(weight @ patches.mean(0)))

    def forward(self, photo: Tensor) -> Tensor:
        code: Tensor = self.project(photo)
        return code


def noised(x: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    """Variance-preserving diffusion at times float[N] in [0, 1]: cos(t pi/2) x + sin(t pi/2) noise."""
    angle = (time * torch.pi / 2)[:, None, None, None]
    return angle.cos() * x + angle.sin() * noise


def with_time(x: Tensor, time: Tensor) -> Tensor:
    """The time as one more channel."""
    return torch.cat([x, time[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)


def denoise(network: nn.Module, x: Tensor, times: Sequence[float]) -> Tensor:
    """DDIM (arXiv 2010.02502) without fresh noise, through falling `times`; the last one is 0. `network` predicts the noise."""
    for now, then in itertools.pairwise(times):
        t = torch.full((len(x),), now, device=x.device)
        noise = network(with_time(x, t)).float()
        angle = t[0] * torch.pi / 2
        clean = (x - angle.sin() * noise) / angle.cos()
        x = noised(clean, torch.full_like(t, then), noise)
    return x
