"""Losses that train the zoo's generators, under the names of `training.labels.LOSSES`."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def reconstruction(name: str, picture: Tensor, target: Tensor, low: float) -> Tensor:
    """Return L1, L2 or pixel-wise cross-entropy of a picture in [low, 1] and its target.

    Raises:
        ValueError: the name is unknown, or cross-entropy is asked of pictures that do not lie in [0, 1].
    """
    if name == "L1":
        return F.l1_loss(picture, target)
    if name == "L2":
        return F.mse_loss(picture, target)
    if name == "cross_entropy":
        if low != 0.0:
            raise ValueError(f"low must be 0 for cross_entropy, got {low}")
        # CUDA's autocast refuses this function for all dtypes.
        with torch.autocast(picture.device.type, enabled=False):
            return F.binary_cross_entropy(picture.clamp(1e-4, 1 - 1e-4), target)
    raise ValueError(f"reconstruction loss must be L1, L2 or cross_entropy, got {name!r}")


def spectral(picture: Tensor, target: Tensor) -> Tensor:
    """Return the L1 distance of the log amplitude spectra."""
    a, b = (torch.fft.rfft2(x, norm="ortho").abs().add(0.05).log() for x in (picture, target))
    return F.l1_loss(a, b)


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of a diagonal normal from the standard normal, averaged over values."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def mmd(latent: Tensor) -> Tensor:
    """Return the maximum mean discrepancy of latent vectors and the standard normal (arXiv 1711.01558).

    The kernel is inverse multiquadratic.
    """
    vectors = latent.permute(0, 2, 3, 1).reshape(-1, latent.shape[1])
    vectors = vectors[torch.randperm(len(vectors), device=latent.device)[:256]]
    prior = torch.randn_like(vectors)
    scale = 2.0 * vectors.shape[1]

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (scale / (scale + torch.cdist(a, b).square())).mean()

    return kernel(vectors, vectors) + kernel(prior, prior) - 2 * kernel(vectors, prior)


def patch_mmd(picture: Tensor, photo: Tensor, side: int = 8, count: int = 256) -> Tensor:
    """Return the maximum mean discrepancy of the patches of two sets with different content (arXiv 1502.02761)."""

    def patches(x: Tensor) -> Tensor:
        every = F.unfold(x.float(), side, stride=side // 2).transpose(1, 2).flatten(0, 1)
        return every[torch.randperm(len(every), device=x.device)[:count]]

    a, b = patches(picture), patches(photo)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        distance = torch.cdist(a, b).square() / a.shape[1]
        return torch.stack([(scale / (scale + distance)).mean() for scale in (0.02, 0.1, 0.5)]).sum()

    return kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)


def critic_loss(name: str, photo: Tensor, fake: Tensor) -> Tensor:
    """Return the critic's loss, given its scores of photos and of generated pictures."""
    if name == "adversarial":
        return F.softplus(-photo).mean() + F.softplus(fake).mean()
    if name == "hinge":
        return F.relu(1 - photo).mean() + F.relu(1 + fake).mean()
    if name == "least_squares":
        return (photo - 1).square().mean() + fake.square().mean()
    if name == "WGAN":
        return fake.mean() - photo.mean()
    raise ValueError(f"adversarial loss must be adversarial, hinge, least_squares or WGAN, got {name!r}")


def generator_loss(name: str, fake: Tensor) -> Tensor:
    """Return the generator's adversarial loss, given the critic's scores of its pictures."""
    if name == "adversarial":
        return F.softplus(-fake).mean()
    if name == "least_squares":
        return (fake - 1).square().mean()
    return -fake.mean()


def gradient_penalty(critic: nn.Module, photo: Tensor, fake: Tensor) -> Tensor:
    """Return the gradient penalty of WGAN-GP (arXiv 1704.00028): gradients between photo and picture should have unit norm."""
    mix = torch.rand(len(photo), 1, 1, 1, device=photo.device)
    between = (mix * photo + (1 - mix) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


class PatchCritic(nn.Module):
    """Patch critic (arXiv 1611.07004): three strided convolutions, and one score per patch."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [3, width, width * 2, width * 2]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map float[N, 3, H, W] to scores float[N, 1, h, w]."""
        scores: Tensor = self.body(x)
        return scores
