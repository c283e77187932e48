"""Registry of families, in the order of `training.labels.FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable

from training.zoo import autoregressive, diffusion, translation
from training.zoo.attack import Attack
from training.zoo.base import Maker
from training.zoo.flow import SuperResolutionFlow
from training.zoo.gan import TextureGAN
from training.zoo.space import Config
from training.zoo.vae import Autoencoder

REGISTRY: dict[str, Callable[[Config], Maker]] = {
    "vae": Autoencoder,
    "gan": TextureGAN,
    "translation": translation.build,
    "flow": SuperResolutionFlow,
    "diffusion": diffusion.build,
    "autoregressive": autoregressive.build,
    "attack": Attack,
}
