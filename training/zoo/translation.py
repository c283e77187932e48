"""Image-to-image networks: encoder-decoders, with or without U-Net skips, that restore degraded photos.

Most are trained on pairs. The task `cycle` is trained on unpaired pictures and the way back, as CycleGAN (arXiv 1703.10593).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.zoo import losses
from training.zoo.base import RECONSTRUCTION_WEIGHT, Maker, Terms
from training.zoo.blocks import Concatenation, blocks, down, to_picture, up
from training.zoo.space import Config


class EncoderDecoder(nn.Module):
    """Encoder-decoder float[N, inputs, H, W] -> float[N, 3, H, W], with H and W multiples of 2**levels."""

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
        picture: Tensor = self.last(x)
        return picture


def condition(config: Config, photo: Tensor) -> Tensor:
    """Degrade a photo float[N, 3, H, W] in [-1, 1]: remove colour, detail or sharpness, or add noise."""
    if config.task == "colour":
        # A quarter of the colour stays, because colours cannot be learnt from grey in a minute of training.
        grey = photo.mean(1, keepdim=True)
        return grey + 0.25 * (photo - grey)
    if config.task == "super_resolution":
        return F.interpolate(F.avg_pool2d(photo, 2), scale_factor=2, mode="nearest")
    if config.task == "denoise":
        return photo + 0.15 * torch.randn_like(photo)
    return F.avg_pool2d(F.pad(photo, (2, 2, 2, 2), mode="reflect"), 5, stride=1)


class Translation(Maker):
    """Network that restores a photo from its degraded version."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator = EncoderDecoder(config)

    def _signed(self, picture: Tensor) -> Tensor:
        return picture if self.low < 0 else picture * 2 - 1

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        return condition(self.config, self._signed(photo)), []


class Cycle(Translation):
    """Networks from faded pictures to photos and back (unpaired): no faded picture is compared with its own photo."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.back = EncoderDecoder(config)
        rng = np.random.default_rng(config.seed)
        self.contrast, self.saturation = rng.uniform(0.75, 0.9), rng.uniform(0.4, 0.8)
        self.tint = rng.uniform(-0.08, 0.08, 3).tolist()

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        signed = self._signed(photo)
        grey = signed.mean(1, keepdim=True)
        tint = torch.tensor(self.tint, device=photo.device)[:, None, None]
        return self.contrast * (grey + self.saturation * (signed - grey)) + tint, []

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        faded, _ = self.given(photo.roll(1, 0))
        signed = self._signed(photo)
        picture = self.generator(faded).float()

        def distance(made: Tensor, wanted: Tensor) -> Tensor:
            return losses.reconstruction("L1", self._signed(made.float()), wanted, -1.0)

        cycles = distance(self.back(self._signed(picture)), faded) + distance(
            self.generator(self._signed(self.back(signed).float())), signed
        )
        same = distance(self.generator(signed), signed)
        return picture, [("L1", RECONSTRUCTION_WEIGHT["L1"] * (cycles + 0.5 * same))]


def build(config: Config) -> Maker:
    """Return the module of a translation config."""
    return Cycle(config) if config.task == "cycle" else Translation(config)
