"""The pictures that networks are trained and evaluated on, with their labels, and what codecs make of them.

Decoding and re-encoding are slower than the network, so every picture's random chains are made once, kept in memory as uint8,
and windows are cut from those (`training.data.sampler`).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from training.data import augment
from training.labels import Labels
from training.model.network import WINDOW


@dataclass
class Generator:
    """A generator, or one source of camera photos (`labels` None)."""

    name: str
    labels: Labels | None
    zoo: bool
    split: str

    def shows_photos(self) -> bool:
        """Whether it is a generator whose pictures have photos' content. Every picture of a GAN of the zoo shows the texture that it
        learned, by which anybody can tell it from another's."""
        return self.labels is not None and self.labels.family != "gan"


@dataclass
class Sample:
    """One picture. `photo` names the photo whose content it shows, where it shows one; `jpeg` is how a picture that comes lossless from
    its generator is to be saved: as that photo was, or as some photo of training was, else the file format tells the classes apart."""

    pixels: np.ndarray
    source: int
    split: str
    photo: str | None = None
    # As a generator made it: lossless, as photos seldom come.
    made: bool = False
    jpeg: augment.Jpeg | None = None
    variants: list[np.ndarray] = field(default_factory=list)
    # Which of its content's chains each variant went through; a picture and its photo share them.
    chains: list[int] = field(default_factory=list)

    def content(self) -> str:
        """What it shows: the photo's name, or a hash of the pixels."""
        return self.photo or hashlib.sha256(self.pixels.tobytes()).hexdigest()


@dataclass
class Collection:
    """Sources and their pictures. A sample's `source` indexes `sources`."""

    sources: list[Generator]
    samples: list[Sample]

    def select(
        self, *, split: str, camera: bool | None = None, zoo: bool | None = None, source_split: str | None = None
    ) -> list[Sample]:
        """Samples of a split, narrowed by class, by zoo or public, and by the split of their source."""
        chosen = []
        for sample in self.samples:
            source = self.sources[sample.source]
            if (
                sample.split == split
                and camera in (None, source.labels is None)
                and zoo in (None, source.zoo)
                and source_split in (None, source.split)
            ):
                chosen.append(sample)
        return chosen


def some(samples: list[Sample], count: int, rng: np.random.Generator) -> list[Sample]:
    """At most `count` of the samples, in random order."""
    return [samples[i] for i in rng.permutation(len(samples))[:count]]


def as_it_comes(sample: Sample) -> np.ndarray:
    """A picture's pixels in the form that photos come in."""
    return sample.pixels if sample.jpeg is None else augment.encode(sample.pixels, "JPEG", *sample.jpeg)


def through_chain(sample: Sample, seed: int, chain: augment.Change = augment.random_chain) -> np.ndarray:
    """The pixels, in the form that photos come in, after the chain of that seed."""
    return chain(as_it_comes(sample), np.random.default_rng(seed))


def _chains(job: tuple[Sample, list[int | None]]) -> list[np.ndarray]:
    sample, seeds = job
    return [as_it_comes(sample) if seed is None else through_chain(sample, seed) for seed in seeds]


# Chains of one content; every picture of it takes some of these. The first does nothing, the others are random.
CHAINS = 10


def chain_seed(content: str, chain: int, seed: int) -> int:
    """The seed of one of a content's chains; the same for a photo and everything made from it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{content}/{chain}".encode()).digest()[:8], "big") >> 1


def add_variants(samples: list[Sample], count: int, seed: int) -> None:
    """Send every sample through `count` of its content's chains, so that neither a twin's codec nor its content tells it from its photo."""
    rng = np.random.default_rng(seed)
    jobs: list[tuple[Sample, list[int | None]]] = []
    for sample in samples:
        content = sample.content()
        sample.chains = [int(chain) for chain in rng.permutation(CHAINS)[:count]]
        jobs.append((sample, [chain_seed(content, chain, seed) if chain else None for chain in sample.chains]))
    with ProcessPoolExecutor() as pool:
        for sample, variants in zip(samples, pool.map(_chains, jobs, chunksize=32), strict=True):
            sample.variants = variants


def extended(pixels: np.ndarray, size: int) -> np.ndarray:
    """At least `size` pixels a side: a picture that is too small is extended by reflection, as the runtime does."""
    short = [max(0, size - side) for side in pixels.shape[:2]]
    return np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric") if any(short) else pixels


def crop(pixels: np.ndarray, rng: np.random.Generator, size: int = WINDOW) -> np.ndarray:
    """A random window, uint8[size, size, 3], of the `extended` picture, mirrored and transposed at random."""
    pixels = extended(pixels, size)
    top = rng.integers(0, pixels.shape[0] - size + 1)
    left = rng.integers(0, pixels.shape[1] - size + 1)
    window = pixels[top : top + size, left : left + size]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    if rng.random() < 0.5:
        window = window.transpose(1, 0, 2)
    return window
