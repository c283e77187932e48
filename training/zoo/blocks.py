"""Layers of the generators. Joins of connections are modules, so that inspection finds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.zoo.space import Config

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}
LAST: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def normalization(kind: str, channels: int) -> list[nn.Module]:
    """Return the normalisation layer of a kind, or no layer for `none`."""
    if kind == "batch":
        return [nn.BatchNorm2d(channels)]
    if kind == "instance":
        return [nn.InstanceNorm2d(channels, affine=True)]
    if kind == "group":
        return [nn.GroupNorm(4, channels)]
    return []


class Sum(nn.Module):
    """Join of a residual connection."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        return a + b


class Concatenation(nn.Module):
    """Join of a U-Net skip connection."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Concatenate channels."""
        return torch.cat([a, b], dim=1)


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation (arXiv 1709.01507): two fully connected layers scale channels, given the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(
            nn.Linear(channels, channels // 4), nn.ReLU(), nn.Linear(channels // 4, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float[N, C, H, W] to the same shape."""
        gate: Tensor = self.gate(self.pool(x).flatten(1))
        return x * gate[:, :, None, None]


class Block(nn.Module):
    """Repeated block: convolutions with normalisation and nonlinearity, with a residual connection if the config has skips."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(config.convs_per_block):
            layers.append(nn.Conv2d(channels, channels, config.kernel, padding=config.kernel // 2))
            layers += normalization(config.normalization, channels)
            layers.append(ACTIVATIONS[config.nonlinearity]())
        if config.attention:
            layers.append(ChannelAttention(channels))
        self.body = nn.Sequential(*layers)
        self.join = Sum() if config.skip and config.family != "translation" else None

    def forward(self, x: Tensor) -> Tensor:
        """Map float[N, C, H, W] to the same shape."""
        y: Tensor = self.body(x)
        joined: Tensor = y if self.join is None else self.join(x, y)
        return joined


def blocks(channels: int, config: Config) -> nn.Sequential:
    """Return the blocks of one level."""
    return nn.Sequential(*(Block(channels, config) for _ in range(config.blocks_per_level)))


def _between(channels: int, config: Config) -> list[nn.Module]:
    """Return the layers after a change of size. Instance norm is only used inside blocks, where a connection bypasses it."""
    kind = "none" if config.normalization == "instance" else config.normalization
    return [*normalization(kind, channels), ACTIVATIONS[config.nonlinearity]()]


def up(inputs: int, outputs: int, config: Config) -> nn.Sequential:
    """Return layers that double height and width."""
    k = config.kernel
    if config.up_sampling == "transposed":
        layers: list[nn.Module] = [nn.ConvTranspose2d(inputs, outputs, k + 1, stride=2, padding=k // 2)]
    elif config.up_sampling == "pixel_shuffle":
        layers = [nn.Conv2d(inputs, outputs * 4, k, padding=k // 2), nn.PixelShuffle(2)]
    else:
        layers = [nn.Upsample(scale_factor=2, mode=config.up_sampling), nn.Conv2d(inputs, outputs, k, padding=k // 2)]
    return nn.Sequential(*layers, *_between(outputs, config))


def down(inputs: int, outputs: int, config: Config, kind: str) -> nn.Sequential:
    """Return layers that halve height and width."""
    k = config.kernel
    if kind == "strided":
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, k, stride=2, padding=k // 2)]
    else:
        pool = nn.MaxPool2d(2) if kind == "max_pool" else nn.AvgPool2d(2)
        layers = [nn.Conv2d(inputs, outputs, k, padding=k // 2), pool]
    return nn.Sequential(*layers, *_between(outputs, config))


def to_picture(channels: int, config: Config) -> nn.Sequential:
    """Return the last convolution, to three channels, and its nonlinearity."""
    last = LAST.get(config.last_nonlinearity)
    return nn.Sequential(nn.Conv2d(channels, 3, config.kernel, padding=config.kernel // 2), *([last()] if last else []))
