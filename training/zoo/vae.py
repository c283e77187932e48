"""Autoencoders, variational or not. The generator is the decoder; the encoder only gives it photos to make again."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from training.zoo.blocks import ACTIVATIONS, blocks, down, to_picture, up
from training.zoo.space import Config


def decoder(config: Config, inputs: int, levels: int) -> nn.Sequential:
    """`inputs` channels at 1/2**levels of the size -> the picture."""
    widths = [config.width] * (levels + 1)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, widths[-1], config.kernel, padding=config.kernel // 2),
        ACTIVATIONS[config.nonlinearity](),
    ]
    for level in reversed(range(levels)):
        layers += [blocks(widths[level + 1], config), up(widths[level + 1], widths[level], config)]
    return nn.Sequential(*layers, to_picture(widths[0], config))


def build(config: Config) -> tuple[nn.Module, nn.Module | None]:
    """(decoder, encoder); the encoder is one plain recipe for all, since no picture shows what it was."""
    plain = replace(config, kernel=3, normalization="none", nonlinearity="silu")
    layers: list[nn.Module] = []
    channels = 3
    for level in range(config.levels):
        layers.append(down(channels, 32 * 2**level, plain, "strided"))
        channels = 32 * 2**level
    moments = 2 * config.latent if config.regulariser == "KL" else config.latent
    encoder = nn.Sequential(
        *layers, nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, moments, 3, padding=1)
    )
    return decoder(config, config.latent, config.levels), encoder
