"""The registry of families: what each one's generator is, what it is given, and whether it sees photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from training.zoo import gan, translation, vae
from training.zoo.space import Config


@dataclass(frozen=True)
class Family:
    """A family's parts. `build` gives (generator, encoder or None); `condition` makes a translation's input from photos."""

    build: Callable[[Config], tuple[nn.Module, nn.Module | None]]
    condition: Callable[[Config, Tensor], Tensor] | None
    sees_photos: bool


REGISTRY: dict[str, Family] = {
    "vae": Family(vae.build, None, True),
    "translation": Family(translation.build, translation.condition, True),
    "gan": Family(gan.build, None, False),
}
