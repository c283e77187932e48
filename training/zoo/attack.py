"""Adversarial perturbations of photos that fool a small classifier: FGSM (arXiv 1412.6572) and PGD (arXiv 1706.06083).

The classifier is trained to tell by how much a photo is rotated (arXiv 1803.07728), a label that needs no annotation. Labels of the
generator
are read off the classifier, because the pictures show its gradient.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.zoo.base import Maker, Terms
from training.zoo.blocks import blocks, down
from training.zoo.space import Config

TURNS = 4


def classifier(config: Config) -> nn.Sequential:
    """Return a classifier float[N, 3, H, W] -> logits float[N, 4]."""
    layers: list[nn.Module] = [down(3, config.width, config, config.down_sampling)]
    for _ in range(config.levels):
        layers += [blocks(config.width, config), down(config.width, config.width, config, config.down_sampling)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(config.width, TURNS))


class Attack(Maker):
    """Changes photos by a few grey levels so that the classifier errs."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator = classifier(config)
        rng = np.random.default_rng(config.seed)
        grey_level = (1 - self.low) / 255
        self.radius = float(rng.uniform(4, 10)) * grey_level
        self.steps = 1 if config.task == "FGSM" else 3

    def given(self, photo: Tensor) -> tuple[Tensor, Terms]:
        return photo, []

    def _error(self, photo: Tensor, turns: Tensor) -> Tensor:
        return F.cross_entropy(self.generator(photo).float(), turns)

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        turns = torch.arange(len(photo), device=photo.device) % TURNS
        turned = torch.stack([picture.rot90(int(turn), (1, 2)) for picture, turn in zip(photo, turns, strict=True)])
        return None, [("cross_entropy", self._error(turned, turns))]

    def pictures(self, photo: Tensor) -> Tensor:
        turns = torch.zeros(len(photo), dtype=torch.int64, device=photo.device)
        step = self.radius if self.steps == 1 else 2 * self.radius / self.steps
        moved = photo.clone()
        for _ in range(self.steps):
            moved.requires_grad_(True)
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(self._error(moved, turns), moved)
            moved = moved.detach() + step * gradient.sign()
            moved = torch.maximum(torch.minimum(moved, photo + self.radius), photo - self.radius).clamp(self.low, 1)
        return moved
