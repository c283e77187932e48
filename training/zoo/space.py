"""The search space of the zoo: every choice a generator is drawn from, and the draw itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from training.labels import FAMILIES

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
    latent: tuple[int, ...] = (16, 24, 32)
    reconstruction: tuple[str, ...] = ("L1", "L2", "L1", "cross_entropy")
    regulariser: tuple[str, ...] = ("", "KL", "MMD")
    adversary: tuple[str, ...] = ("", "", "", "", *ADVERSARIAL)
    spectral: tuple[bool, ...] = (False, False, True)


# What the generators of a family differ in beyond the choices above.
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


def _balanced(values: Sequence, count: int, rng: np.random.Generator) -> list:
    """`count` draws in which each value comes as often as any other, in random order."""
    return [values[i % len(values)] for i in rng.permutation(count)]


def _settle(config: Config) -> Config:
    """Resolve choices that exclude one another, as the family's own practice does."""
    if config.kernel == 7:
        # A wide kernel on many channels would take a whole budget for its pictures alone.
        config = replace(config, width=16)
    family, decodes = config.family, config.family == "vae" or config.task in ("tokens", "latent")
    if family == "gan":
        config = replace(
            config,
            adversary=config.adversary or ADVERSARIAL[config.seed % len(ADVERSARIAL)],
            reconstruction="",
            skip={"plain": False, "residual": True}.get(config.task, config.skip),
            levels=1 + config.levels,
            # Beside its adversary each gets one loss on statistics: an adversary alone collapses within a minute's training.
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
    if family in ("flow", "attack") or config.task in ("pixels", "sub_pixels"):
        # What they minimise is given by what they are.
        config = replace(config, adversary="", spectral=False, last_nonlinearity="none")
    if family == "flow" or config.task == "sub_pixels":
        config = replace(config, reconstruction="", up_sampling="pixel_shuffle", levels=1)
    if config.task == "tokens":
        # One token a 4x4 patch: the prior's cost grows with their number.
        config = replace(config, levels=2)
    if family == "translation":
        # Most have skips, as most that are in use: without, a minute's training leaves a blur.
        config = replace(config, skip=config.skip or config.seed % 2 == 0)
    if config.task == "cycle":
        # Unpaired pictures can only be learnt from through an adversary; a step takes two networks and five passes.
        config = replace(
            config,
            width=16,
            kernel=min(config.kernel, 5),
            adversary=config.adversary or ADVERSARIAL[config.seed % len(ADVERSARIAL)],
            reconstruction="L1",
            spectral=False,
        )
    if family == "attack":
        # Gradients with respect to every pixel cost several passes a picture.
        config = replace(config, reconstruction="", up_sampling="none", width=16)
    if config.task == "pixels":
        # Noise cannot be told through a bottleneck without skips, and every picture takes several passes.
        config = replace(
            config,
            skip=True,
            width=16,
            kernel=min(config.kernel, 5),
            reconstruction="L1" if config.reconstruction == "L1" else "L2",
        )
    if config.normalization == "instance":
        # Instance norm takes a picture's own colours away; only a connection around it brings them back.
        config = replace(config, skip=True, task="residual" if config.task == "plain" else config.task)
    if config.reconstruction == "cross_entropy":
        config = replace(config, last_nonlinearity="sigmoid")
    return config


def draw(count: int, seed: int, families: Sequence[str], rounds: int = 1) -> list[Config]:
    """Draw `rounds` times `count` configs, each time balanced over families and, within a family, over the values of every choice.

    A family's draw does not depend on which other families are drawn, nor a round's on how many there are: a zoo can grow. A second
    round is the first one of the next seed, under other names.
    """
    a_family = math.ceil(count / len(families))
    return [config for i in range(rounds) for config in _round(count, seed + i, families, i * a_family)]


def _round(count: int, seed: int, families: Sequence[str], first: int) -> list[Config]:
    """One draw, whose names count from `first`."""
    configs = []
    for place, family in enumerate(families):
        rng = np.random.default_rng([seed, list(FAMILIES).index(family)])
        size = len(range(place, count, len(families)))
        choices = asdict(Space()) | {"task": TASKS[family]}
        columns = {name: _balanced(values, size, rng) for name, values in choices.items()}
        seeds = rng.integers(0, 2**31, size)
        for i in range(size):
            picked = {name: column[i] for name, column in columns.items()}
            configs.append(
                _settle(Config(name=f"{family}-{first + i:03d}", family=family, seed=int(seeds[i]), **picked))
            )
    # Families alternate, so that a build that is stopped early is balanced too.
    return sorted(configs, key=lambda config: (config.name.rsplit("-", 1)[1], families.index(config.family)))
