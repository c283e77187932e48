"""Image-to-image networks: an encoder-decoder, with U-Net skips or without, that restores what was taken from a photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.zoo.base import Maker, Terms
from training.zoo.blocks import Concatenation, blocks, down, to_picture, up
from training.zoo.space import Config


class EncoderDecoder(nn.Module):
    """float[N, inputs, H, W] -> float[N, 3, H, W]; H and W multiples of 2**levels."""

    def __init__(self, config: Config, inputs: int = 3) -> None:
        super().__init__()
        widths = [config.width] * (config.levels + 1)
        self.first = nn.Conv2d(inputs, widths[0], config.kernel, padding=config.kernel // 2)
        self.downs = nn.ModuleList(
            down(widths[i], widths[i + 1], config, config.down_sampling) for i in range(config.levels)
        )
        self.middle = blocks(widths[-1], config)
        self.ups = nn.ModuleList(up(widths[i + 1], widths[i], config) for i in reversed(range(config.levels)))
        self.joins = nn.ModuleList(Concatenation() for _ in range(config.levels)) if config.skip else None
        self.merges = (
            nn.ModuleList(
                nn.Conv2d(2 * widths[i], widths[i], config.kernel, padding=config.kernel // 2)
                for i in reversed(range(config.levels))
            )
            if config.skip
            else None
        )
        self.last = to_picture(widths[0], config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        kept = []
        for layer in self.downs:
            kept.append(x)
            x = layer(x)
        x = self.middle(x)
        for i, layer in enumerate(self.ups):
            x = layer(x)
            if self.joins is not None and self.merges is not None:
                x = self.merges[i](self.joins[i](x, kept[-1 - i]))
        return self.last(x)


def condition(config: Config, photo: Tensor) -> Tensor:
    """What the network is given: the photo with its colour, detail or cleanness taken away. Same shape, [-1, 1]."""
    if config.task == "colour":
        # A quarter of the colour stays: a minute's training cannot guess a photo's colours from grey.
        grey = photo.mean(1, keepdim=True)
        return grey + 0.25 * (photo - grey)
    if config.task == "super_resolution":
        return F.interpolate(F.avg_pool2d(photo, 2), scale_factor=2, mode="nearest")
    if config.task == "denoise":
        return photo + 0.15 * torch.randn_like(photo)
    return F.avg_pool2d(F.pad(photo, (2, 2, 2, 2), mode="reflect"), 5, stride=1)


class Translation(Maker):
    """A network that is given what is left of a photo and makes the photo again."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator = EncoderDecoder(config)

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        signed = photo if self.low < 0 else photo * 2 - 1
        return condition(self.config, signed), []
