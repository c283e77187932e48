"""What a bundle says of pictures of an index: the runtime's own windows and backend, and the mean over a picture's windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeparse import windows
from edgeparse.backends.base import Backend
from edgeparse.readout import unit
from training.data import augment
from training.data.dataset import Collection, Sample, as_it_comes, chain_seed, through_chain
from training.labels import DISCRETE

HEADS = ["embedding", "generated", "family", "continuous", *DISCRETE, "losses"]
WINDOWS = 8
# "mixed" is a random chain a picture, "edited" one of heavy edits; "as stored" leaves the classes the file formats that they came in.
CHAINS = {"mixed": augment.random_chain, "edited": augment.strong_chain}
CONDITIONS = (*CHAINS, "as stored", *augment.CONDITIONS)


@dataclass(frozen=True)
class Predictions:
    """Outputs averaged over each picture's windows, with each picture's source. `values[name]` is float32[P, K]."""

    values: dict[str, np.ndarray]
    source: np.ndarray

    def of(self, sources: Iterable[int]) -> np.ndarray:
        """Indices of the pictures of these sources."""
        return np.flatnonzero(np.isin(self.source, list(sources)))

    @property
    def logit(self) -> np.ndarray:
        return self.values["generated"][:, 0]

    def embeddings(self) -> np.ndarray:
        """Unit vectors, float32[P, D], made once: an interval asks for them hundreds of times."""
        return self._units

    @cached_property
    def _units(self) -> np.ndarray:
        return np.stack([unit(vector) for vector in self.values["embedding"]])


def evaluation_seed(sample: Sample, draw: int = 0) -> int:
    """Of a sample's chain in every evaluation: a photo and its twins meet the same. Training meets none of these, of whichever draw."""
    return chain_seed(sample.content(), 0, draw)


def native(pixels: np.ndarray, count: int = WINDOWS) -> np.ndarray:
    """A picture as the runtime shows it to a network: uint8[N, 128, 128, 3] at native resolution, N at most `count`."""
    return windows.cut(pixels, count).pixels


def predict(
    backend: Backend,
    samples: list[Sample],
    condition: str,
    frame: Callable[[np.ndarray], np.ndarray] = native,
    draw: int = 0,
    outputs: Sequence[str] = HEADS,
) -> Predictions:
    """Run pictures through a condition, or through a random chain each (of `CHAINS`, fixed by the content and `draw`).

    Generated pictures are first saved as photos come, except "as stored", where the classes' file formats differ.
    """

    def prepare(sample: Sample) -> np.ndarray:
        if condition in CHAINS:
            pixels = through_chain(sample, evaluation_seed(sample, draw), CHAINS[condition])
        elif condition == "as stored":
            pixels = sample.pixels
        else:
            pixels = augment.CONDITIONS[condition](as_it_comes(sample))
        return frame(pixels)

    rows: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    with ThreadPoolExecutor(2) as pool:
        for cut in pool.map(prepare, samples):
            for name, value in backend.run(cut, outputs).items():
                rows[name].append(value.mean(axis=0))
    return Predictions({name: np.stack(row) for name, row in rows.items()}, np.array([s.source for s in samples]))


def few(samples: list[Sample], count: int) -> list[Sample]:
    """The first `count` pictures of every source; which photos they show was drawn when they were made."""
    counts: dict[int, int] = {}
    chosen = []
    for sample in samples:
        counts[sample.source] = counts.get(sample.source, 0) + 1
        if counts[sample.source] <= count:
            chosen.append(sample)
    return chosen


def with_photos_content(made: Predictions, collection: Collection) -> Predictions:
    """The predictions for pictures of generators that show photos."""
    rows = np.array([collection.sources[i].shows_photos() for i in made.source], bool)
    return Predictions({name: value[rows] for name, value in made.values.items()}, made.source[rows])
