"""The search space of the zoo: every choice a generator is drawn from, and the draw itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

ADVERSARIAL = ("adversarial", "hinge", "WGAN", "least_squares")


@dataclass(frozen=True)
class Space:
    """The values each choice may take; a value named twice is drawn twice as often."""

    width: tuple[int, ...] = (16, 24, 32)
    levels: tuple[int, ...] = (1, 2, 1, 2, 2)
    blocks_per_level: tuple[int, ...] = (1, 2, 1, 3)
    convs_per_block: tuple[int, ...] = (1, 2)
    kernel: tuple[int, ...] = (3, 5, 3, 7, 5)
    normalization: tuple[str, ...] = ("none", "batch", "instance", "group")
    nonlinearity: tuple[str, ...] = ("relu", "leaky_relu", "elu", "silu")
    last_nonlinearity: tuple[str, ...] = ("none", "tanh", "sigmoid")
    up_sampling: tuple[str, ...] = ("nearest", "bilinear", "transposed", "pixel_shuffle")
    down_sampling: tuple[str, ...] = ("strided", "max_pool", "average_pool")
    skip: tuple[bool, ...] = (False, True)
    attention: tuple[bool, ...] = (False, False, True)
    latent: tuple[int, ...] = (8, 16, 32)
    reconstruction: tuple[str, ...] = ("L1", "L2", "L1", "cross_entropy")
    regulariser: tuple[str, ...] = ("", "KL", "MMD")
    adversary: tuple[str, ...] = ("", "", "", "", *ADVERSARIAL)
    spectral: tuple[bool, ...] = (False, False, True)
    task: tuple[str, ...] = ("colour", "super_resolution", "denoise", "deblur")


@dataclass(frozen=True)
class Config:
    """One generator to be: its family, its seed and one value from each choice of the space."""

    name: str
    family: str
    seed: int
    width: int
    levels: int
    blocks_per_level: int
    convs_per_block: int
    kernel: int
    normalization: str
    nonlinearity: str
    last_nonlinearity: str
    up_sampling: str
    down_sampling: str
    skip: bool
    attention: bool
    latent: int
    reconstruction: str
    regulariser: str
    adversary: str
    spectral: bool
    task: str

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of the losses that train it, as in `training.labels.LOSSES`."""
        used = (self.reconstruction, self.regulariser, self.adversary, "spectral" if self.spectral else "")
        return tuple(name for name in used if name)


def _balanced(values: Sequence, count: int, rng: np.random.Generator) -> list:
    """`count` draws in which each value comes as often as any other, in random order."""
    return [values[i % len(values)] for i in rng.permutation(count)]


def _settle(config: Config) -> Config:
    """Resolve choices that exclude one another, as the family's own practice does."""
    if config.family == "gan":
        adversary = config.adversary or ADVERSARIAL[config.seed % len(ADVERSARIAL)]
        return replace(
            config,
            adversary=adversary,
            reconstruction="",
            regulariser="",
            task="",
            down_sampling="none",
            levels=1 + config.levels,
        )
    vae = config.family == "vae"
    config = replace(config, task="", down_sampling="none") if vae else replace(config, regulariser="", latent=0)
    if config.normalization == "instance":
        # Instance norm takes a picture's own colours away; only a connection around it brings them back.
        config = replace(config, skip=True)
    if config.reconstruction == "cross_entropy":
        config = replace(config, last_nonlinearity="sigmoid")
    return config


def draw(count: int, seed: int, families: Sequence[str], space: Space | None = None) -> list[Config]:
    """Draw `count` configs, balanced over families and, within a family, over the values of every choice."""
    choices = asdict(space or Space())
    rng = np.random.default_rng(seed)
    configs = []
    for place, family in enumerate(families):
        size = len(range(place, count, len(families)))
        columns = {name: _balanced(values, size, rng) for name, values in choices.items()}
        for i in range(size):
            picked = {name: column[i] for name, column in columns.items()}
            configs.append(_settle(Config(name=f"{family}-{i:03d}", family=family, seed=seed * 10_007 + i, **picked)))
    # Families alternate, so that a build that is stopped early is balanced too.
    return sorted(configs, key=lambda config: (config.name.rsplit("-", 1)[1], families.index(config.family)))
