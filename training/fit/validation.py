"""What a training run is judged by while it goes on: windows of validation photos, and of generators that it learns nothing from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import Collection, Sample, crop, some, through_chain
from training.device import supports_fast_bfloat16
from training.metrics import auc

# Pictures of each kind, and windows cut from each.
PICTURES, PER_PICTURE = 300, 2


@dataclass(frozen=True)
class Validation:
    """Windows uint8[N, S, S, 3] by kind, `PER_PICTURE` of a picture one after another, and the sources int64[N] of the zoo's; -1 of
    those that are not compared, as they do not show photos. A kind may be empty."""

    windows: dict[str, np.ndarray]
    zoo_source: np.ndarray

    @staticmethod
    def of(
        collection: Collection, seed: int, cut: Callable[[np.ndarray, np.random.Generator], np.ndarray] = crop
    ) -> Validation:
        """Validation photos, and generators of the zoo and public ones that are for validation; each picture through a random chain. `cut`
        makes a window of what comes out."""
        rng = np.random.default_rng(seed)
        samples = {
            "camera": collection.select(split="val", camera=True, zoo=False),
            "zoo": collection.select(split="val", camera=False, zoo=True, source_split="val"),
            "public": collection.select(split="val", camera=False, zoo=False, source_split="val"),
        }
        chosen = {kind: some(members, PICTURES, rng) for kind, members in samples.items()}
        return Validation(
            {kind: _windows(members, seed + place, cut) for place, (kind, members) in enumerate(chosen.items())},
            np.repeat(
                [s.source if collection.sources[s.source].shows_photos() else -1 for s in chosen["zoo"]], PER_PICTURE
            ),
        )

    def scores(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """AUC of telling photos from the zoo, from public generators, and one generator of the zoo from two, a window each; what cannot be
        told for want of pictures is left out. `network` is in evaluation mode."""
        outputs = {kind: _predict(network, windows, device) for kind, windows in self.windows.items() if len(windows)}
        found: dict[str, float] = {}
        for kind in ("zoo", "public"):
            if "camera" in outputs and kind in outputs:
                found[kind] = auc(outputs["camera"]["generated"][:, 0], outputs[kind]["generated"][:, 0])
        if "zoo" in outputs:
            alike = self.same_generator(outputs["zoo"]["embedding"])
            found |= {} if alike is None else {"same_generator": alike}
        return found

    def same_generator(self, embedding: np.ndarray) -> float | None:
        """AUC of telling one generator of the zoo from two by unit vectors, float[N, D], of its windows; None for want of pictures."""
        picture = np.arange(len(self.zoo_source)) // PER_PICTURE
        known = self.zoo_source >= 0
        pairs = np.triu(picture[:, None] != picture[None, :]) & known[:, None] & known[None, :]
        alike = (embedding @ embedding.T)[pairs]
        same = (self.zoo_source[:, None] == self.zoo_source[None, :])[pairs]
        return auc(alike[~same], alike[same]) if same.any() and not same.all() else None


def _windows(
    samples: list[Sample], seed: int, cut: Callable[[np.ndarray, np.random.Generator], np.ndarray]
) -> np.ndarray:
    jobs = [(sample, [seed, i], cut) for i, sample in enumerate(samples)]
    with ProcessPoolExecutor() as pool:
        windows = [window for of_one in pool.map(_windows_of, jobs, chunksize=8) for window in of_one]
    return np.stack(windows) if windows else np.empty((0, 0, 0, 3), np.uint8)


def _windows_of(
    job: tuple[Sample, list[int], Callable[[np.ndarray, np.random.Generator], np.ndarray]],
) -> list[np.ndarray]:
    sample, seed, cut = job
    rng = np.random.default_rng(seed)
    return [cut(through_chain(sample, int(rng.integers(2**62))), rng) for _ in range(PER_PICTURE)]


@torch.no_grad()
def _predict(network: nn.Module, windows: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """The logit and the embedding of every window, float32."""
    made: dict[str, list[np.ndarray]] = {"generated": [], "embedding": []}
    for start in range(0, len(windows), 128):
        with torch.autocast(device.type, torch.bfloat16, enabled=supports_fast_bfloat16(device)):
            outputs: dict[str, Tensor] = network(torch.from_numpy(windows[start : start + 128]).to(device))
        for name, parts in made.items():
            parts.append(outputs[name].float().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in made.items()}
