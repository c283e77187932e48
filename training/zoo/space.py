"""Search space of the zoo, and the draw of configs from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from training.labels import FAMILIES

ADVERSARIAL = ("adversarial", "hinge", "WGAN", "least_squares")


@dataclass(frozen=True)
class Space:
    """Values of each choice. A value that is listed twice is drawn twice as often."""

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
    latent: tuple[int, ...] = (16, 24, 32)
    reconstruction: tuple[str, ...] = ("L1", "L2", "L1", "cross_entropy")
    regulariser: tuple[str, ...] = ("", "KL", "MMD")
    adversary: tuple[str, ...] = ("", "", "", "", *ADVERSARIAL)
    spectral: tuple[bool, ...] = (False, False, True)


# Tasks or variants within a family.
TASKS: dict[str, tuple[str, ...]] = {
    "vae": ("",),
    "gan": ("plain", "residual", "style"),
    "translation": ("colour", "super_resolution", "denoise", "deblur", "cycle"),
    "flow": ("super_resolution",),
    "diffusion": ("pixels", "latent", "latent"),
    "autoregressive": ("tokens", "tokens", "sub_pixels"),
    "attack": ("FGSM", "PGD"),
}


@dataclass(frozen=True)
class Config:
    """Config of one generator: family, seed, and one value of each choice."""

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


def _balanced(values: Sequence[Any], count: int, rng: np.random.Generator) -> list[Any]:
    """Draw `count` values in random order, each equally often."""
    return [values[i % len(values)] for i in rng.permutation(count)]


def _settle(config: Config) -> Config:
    """Resolve incompatible choices, following common practice in the family."""
    if config.kernel == 7:
        # A wide kernel on many channels would spend the whole budget on generating pictures.
        config = replace(config, width=16)
    family, decodes = config.family, config.family == "vae" or config.task in ("tokens", "latent")
    if family == "gan":
        config = replace(
            config,
            adversary=config.adversary or ADVERSARIAL[config.seed % len(ADVERSARIAL)],
            reconstruction="",
            skip={"plain": False, "residual": True}.get(config.task, config.skip),
            levels=1 + config.levels,
            # An adversarial loss alone collapses within a minute of training, so a statistical loss is added.
            regulariser="MMD" if config.regulariser else "",
            spectral=config.spectral or not config.regulariser,
            last_nonlinearity="tanh" if config.last_nonlinearity == "none" else config.last_nonlinearity,
        )
    elif not decodes:
        config = replace(config, latent=0)
    if family not in ("vae", "gan"):
        config = replace(config, regulariser="")
    if family not in ("translation", "attack") and config.task != "pixels":
        config = replace(config, down_sampling="none")
    return _settle_task(_settle_losses(config))


def _settle_losses(config: Config) -> Config:
    """Resolve choices that the method's loss excludes."""
    family = config.family
    if family in ("flow", "attack") or config.task in ("pixels", "sub_pixels"):
        # The method defines the loss.
        config = replace(config, adversary="", spectral=False, last_nonlinearity="none")
    if family == "flow" or config.task == "sub_pixels":
        config = replace(config, reconstruction="", up_sampling="pixel_shuffle", levels=1)
    if config.task == "tokens":
        # One token per 4x4 patch, because the prior's cost grows with the number of tokens.
        config = replace(config, levels=2)
    if family == "translation":
        # Most have skips, like most networks in use. Without them, a minute of training leaves a blur.
        config = replace(config, skip=config.skip or config.seed % 2 == 0)
    return config


def _settle_task(config: Config) -> Config:
    """Resolve choices that the task, the norm or the reconstruction loss excludes."""
    if config.task == "cycle":
        # Unpaired training needs an adversary. A step takes two networks and five passes.
        config = replace(
            config,
            width=16,
            kernel=min(config.kernel, 5),
            adversary=config.adversary or ADVERSARIAL[config.seed % len(ADVERSARIAL)],
            reconstruction="L1",
            spectral=False,
        )
    if config.family == "attack":
        # Gradients with respect to pixels cost several passes per picture.
        config = replace(config, reconstruction="", up_sampling="none", width=16)
    if config.task == "pixels":
        # Noise cannot be predicted through a bottleneck without skips, and a picture takes several passes.
        config = replace(
            config,
            skip=True,
            width=16,
            kernel=min(config.kernel, 5),
            reconstruction="L1" if config.reconstruction == "L1" else "L2",
        )
    if config.normalization == "instance":
        # Instance norm removes a picture's colours; only a connection around it restores them.
        config = replace(config, skip=True, task="residual" if config.task == "plain" else config.task)
    if config.reconstruction == "cross_entropy":
        config = replace(config, last_nonlinearity="sigmoid")
    return config


def draw(count: int, seed: int, families: Sequence[str], rounds: int = 1) -> list[Config]:
    """Draw configs, balanced over families and, within a family, over the values of every choice.

    The draw of a family does not depend on the other families, and the draw of a round does not depend on the number of rounds, so that a
    zoo can grow. Round i is the first round of seed + i, under other names.

    Args:
        count: generators per round.
        seed: seed of the first round.
        families: families to draw.
        rounds: number of rounds.
    """
    per_family = math.ceil(count / len(families))
    return [config for i in range(rounds) for config in _round(count, seed + i, families, i * per_family)]


def _round(count: int, seed: int, families: Sequence[str], first: int) -> list[Config]:
    """Draw one round, with names numbered from `first`."""
    configs = []
    for position, family in enumerate(families):
        rng = np.random.default_rng([seed, list(FAMILIES).index(family)])
        size = len(range(position, count, len(families)))
        choices = asdict(Space()) | {"task": TASKS[family]}
        columns = {name: _balanced(values, size, rng) for name, values in choices.items()}
        seeds = rng.integers(0, 2**31, size)
        for i in range(size):
            picked = {name: column[i] for name, column in columns.items()}
            configs.append(
                _settle(Config(name=f"{family}-{first + i:03d}", family=family, seed=int(seeds[i]), **picked))
            )
    # Families alternate, so that an interrupted build is balanced too.
    return sorted(configs, key=lambda config: (config.name.rsplit("-", 1)[1], families.index(config.family)))
