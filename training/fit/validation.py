"""Validation during training: windows of held-out photos and generators."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.data.dataset import Collection, Sample, apply_chain, crop, random_subset
from training.device import supports_fast_bfloat16
from training.metrics import auc

# Pictures of each kind, and windows per picture.
PICTURES, PER_PICTURE = 300, 2
BATCH = 128

# Cuts a window uint8[S, S, 3] from a picture uint8[H, W, 3].
Cut = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Validation:
    """Validation windows.

    Attributes:
        windows: uint8[N, S, S, 3] for each of "camera", "zoo" and "public", with `PER_PICTURE` consecutive windows per picture. May be
            empty.
        zoo_source: source of each zoo window, int64[N]; -1 if the generator does not show photos' content and is not compared.
    """

    windows: dict[str, np.ndarray]
    zoo_source: np.ndarray

    @staticmethod
    def from_collection(collection: Collection, seed: int, cut: Cut = crop) -> Validation:
        """Cut windows from validation photos and from pictures of validation generators, each after a random codec chain.

        Args:
            collection: all sources and pictures.
            seed: seed of the choice of pictures, the chains and the windows.
            cut: cuts a window from a processed picture.
        """
        rng = np.random.default_rng(seed)
        samples = {
            "camera": collection.select(split="val", camera=True, zoo=False),
            "zoo": collection.select(split="val", camera=False, zoo=True, source_split="val"),
            "public": collection.select(split="val", camera=False, zoo=False, source_split="val"),
        }
        chosen = {kind: random_subset(members, PICTURES, rng) for kind, members in samples.items()}
        compared = [s.source if collection.sources[s.source].has_photo_content() else -1 for s in chosen["zoo"]]
        return Validation(
            {kind: _windows(members, seed + i, cut) for i, (kind, members) in enumerate(chosen.items())},
            np.repeat(compared, PER_PICTURE),
        )

    def scores(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """Return AUCs per window by name.

        "zoo" and "public" are those of detection. "same_generator" is that of telling pairs of one zoo generator from pairs of two. A
        score without pictures is omitted.

        Args:
            network: network in evaluation mode.
            device: device of the network.
        """
        outputs = {kind: _predict(network, windows, device) for kind, windows in self.windows.items() if len(windows)}
        scores: dict[str, float] = {}
        for kind in ("zoo", "public"):
            if "camera" in outputs and kind in outputs:
                scores[kind] = auc(outputs["camera"]["generated"][:, 0], outputs[kind]["generated"][:, 0])
        if "zoo" in outputs:
            same = self.same_generator(outputs["zoo"]["embedding"])
            scores |= {} if same is None else {"same_generator": same}
        return scores

    def same_generator(self, embedding: np.ndarray) -> float | None:
        """Return the AUC of telling pairs of one zoo generator from pairs of two, or None if there are no pairs of either kind.

        Args:
            embedding: unit vectors of the zoo windows, float[N, D].
        """
        picture = np.arange(len(self.zoo_source)) // PER_PICTURE
        known = self.zoo_source >= 0
        pairs = np.triu(picture[:, None] != picture[None, :]) & known[:, None] & known[None, :]
        similarity = (embedding @ embedding.T)[pairs]
        same = (self.zoo_source[:, None] == self.zoo_source[None, :])[pairs]
        return auc(similarity[~same], similarity[same]) if same.any() and not same.all() else None


def _windows(samples: list[Sample], seed: int, cut: Cut) -> np.ndarray:
    jobs = [(sample, [seed, i], cut) for i, sample in enumerate(samples)]
    with ProcessPoolExecutor() as pool:
        windows = [window for cuts in pool.map(_cut_windows, jobs, chunksize=8) for window in cuts]
    return np.stack(windows) if windows else np.empty((0, 0, 0, 3), np.uint8)


def _cut_windows(job: tuple[Sample, list[int], Cut]) -> list[np.ndarray]:
    sample, seed, cut = job
    rng = np.random.default_rng(seed)
    return [cut(apply_chain(sample, int(rng.integers(2**62))), rng) for _ in range(PER_PICTURE)]


@torch.no_grad()
def _predict(network: nn.Module, windows: np.ndarray, device: torch.device) -> dict[str, np.ndarray]:
    """Return detection logit and embedding of every window, float32."""
    parts: dict[str, list[np.ndarray]] = {"generated": [], "embedding": []}
    for start in range(0, len(windows), BATCH):
        with torch.autocast(device.type, torch.bfloat16, enabled=supports_fast_bfloat16(device)):
            outputs: dict[str, Tensor] = network(torch.from_numpy(windows[start : start + BATCH]).to(device))
        for name, arrays in parts.items():
            arrays.append(outputs[name].float().cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
