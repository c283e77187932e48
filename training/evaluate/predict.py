"""Predictions of a bundle for the pictures of a collection: the one way in which every evaluation runs a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeparse import windows
from edgeparse.backends.base import Backend
from edgeparse.postprocess import unit
from training.data import augment
from training.data.dataset import Collection, Sample, apply_chain, chain_seed
from training.labels import DISCRETE

HEADS = ["embedding", "generated", "family", "continuous", *DISCRETE, "losses"]
WINDOWS = 8
# "mixed" applies one random codec chain to each picture, "edited" one chain of heavy edits.
CHAINS = {"mixed": augment.random_chain, "edited": augment.strong_chain}
CONDITIONS = (*CHAINS, *augment.CONDITIONS)


@dataclass(frozen=True)
class Predictions:
    """Outputs averaged over the windows of each picture.

    Attributes:
        values: float32[P, K] for each output.
        source: int64[P], the index of each picture's source in its collection.
    """

    values: dict[str, np.ndarray]
    source: np.ndarray

    def rows_of(self, sources: Iterable[int]) -> np.ndarray:
        """Return the indices of the pictures of these sources."""
        return np.flatnonzero(np.isin(self.source, list(sources)))

    def take(self, rows: np.ndarray) -> Predictions:
        """Return the predictions for some of the pictures."""
        return Predictions({name: value[rows] for name, value in self.values.items()}, self.source[rows])

    @property
    def logit(self) -> np.ndarray:
        """The logit of "generated", float32[P]."""
        return self.values["generated"][:, 0]

    def embeddings(self) -> np.ndarray:
        """Return unit vectors, float32[P, D]. They are cached, because bootstraps ask for them hundreds of times."""
        return self._units

    @cached_property
    def _units(self) -> np.ndarray:
        return np.stack([unit(vector) for vector in self.values["embedding"]])


def evaluation_seed(sample: Sample, draw: int = 0) -> int:
    """Return the seed of a sample's codec chain.

    A photo and the pictures made from it share the seed. Training uses none of these seeds.
    """
    return chain_seed(sample.content(), 0, draw)


def native_windows(pixels: np.ndarray, count: int = WINDOWS) -> np.ndarray:
    """Cut at most `count` windows at native resolution, uint8[N, 128, 128, 3], as the runtime does."""
    return windows.cut(pixels, count).pixels


def predict(
    backend: Backend,
    samples: Sequence[Sample],
    condition: str,
    frame: Callable[[np.ndarray], np.ndarray] = native_windows,
    draw: int = 0,
    outputs: Sequence[str] = HEADS,
) -> Predictions:
    """Run a network on pictures after a condition.

    In the conditions of `CHAINS`, lossless generated pictures are first saved in the format of photos. The others start
    from the files as they are stored.

    Args:
        backend: the network to run.
        samples: the pictures.
        condition: one of `CONDITIONS`.
        frame: cuts a picture, uint8[H, W, 3], into windows, uint8[N, S, S, 3].
        draw: selects another random chain for each picture, in the conditions of `CHAINS`.
        outputs: the outputs to keep.
    """

    def prepare(sample: Sample) -> np.ndarray:
        if condition in CHAINS:
            pixels = apply_chain(sample, evaluation_seed(sample, draw), CHAINS[condition])
        else:
            pixels = augment.CONDITIONS[condition](sample.pixels)
        return frame(pixels)

    rows: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    with ThreadPoolExecutor(2) as pool:
        for cut in pool.map(prepare, samples):
            for name, value in backend.run(cut, outputs).items():
                rows[name].append(value.mean(axis=0))
    return Predictions({name: np.stack(row) for name, row in rows.items()}, np.array([s.source for s in samples]))


def first_pictures(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return the first `count` pictures of every source. Their order is random: the zoo drew the photos at random."""
    counts: Counter[int] = Counter()
    chosen = []
    for sample in samples:
        counts[sample.source] += 1
        if counts[sample.source] <= count:
            chosen.append(sample)
    return chosen


def with_photo_content(predictions: Predictions, collection: Collection) -> Predictions:
    """Keep the pictures of generators that show photo content, so that content does not reveal the generator."""
    return predictions.take(np.array([collection.sources[i].has_photo_content() for i in predictions.source], bool))
