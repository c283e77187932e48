"""Pictures and their labels in memory, and their random codec chains.

Decoding and encoding are slower than the network. Each picture's random chains are therefore computed once and kept as uint8, and
windows are cut from the results (`training.data.sampler`).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from training.data import augment
from training.labels import Labels
from training.model.network import WINDOW

# Chains per content. Chain 0 changes nothing; the others are random.
CHAINS = 10


@dataclass
class Generator:
    """A generator, or a source of camera photos (`labels` is None)."""

    name: str
    labels: Labels | None
    zoo: bool
    split: str

    def has_photo_content(self) -> bool:
        """Return whether this is a generator whose pictures show the content of photos.

        A GAN of the zoo shows the texture it was trained on, and that texture alone tells it from other generators.
        """
        return self.labels is not None and self.labels.family != "gan"


@dataclass
class Sample:
    """One picture.

    Attributes:
        pixels: uint8[H, W, 3].
        source: index into `Collection.sources`.
        split: "train", "val" or "test".
        photo: name of the photo whose content the picture shows, if any.
        made: whether a generator stored the picture losslessly. Photos are seldom lossless.
        jpeg: compression to apply to a lossless picture, taken from its photo or from some training photo. Without it, the file format
            would separate the classes.
        variants: the picture after some of its content's chains, each uint8[H, W, 3].
        chains: the chain of each variant. A picture and its photo share chains.
    """

    pixels: np.ndarray
    source: int
    split: str
    photo: str | None = None
    made: bool = False
    jpeg: augment.Jpeg | None = None
    variants: list[np.ndarray] = field(default_factory=list)
    chains: list[int] = field(default_factory=list)

    def content(self) -> str:
        """Return an identifier of the content: the photo's name, or a hash of the pixels."""
        return self.photo or hashlib.sha256(self.pixels.tobytes()).hexdigest()


@dataclass
class Collection:
    """Sources and their pictures. A sample's `source` indexes `sources`."""

    sources: list[Generator]
    samples: list[Sample]

    def select(
        self, *, split: str, camera: bool | None = None, zoo: bool | None = None, source_split: str | None = None
    ) -> list[Sample]:
        """Return samples of a split, filtered by class, by zoo or public, and by the split of their source. None means any."""
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


def random_subset(samples: list[Sample], count: int, rng: np.random.Generator) -> list[Sample]:
    """Return at most `count` samples in random order."""
    return [samples[i] for i in rng.permutation(len(samples))[:count]]


def photo_encoded(sample: Sample) -> np.ndarray:
    """Return the pixels, uint8[H, W, 3], with the compression that photos have."""
    return sample.pixels if sample.jpeg is None else augment.encode(sample.pixels, "JPEG", *sample.jpeg)


def apply_chain(sample: Sample, seed: int, chain: augment.Change = augment.random_chain) -> np.ndarray:
    """Return the pixels, uint8[H, W, 3], with the compression that photos have, after a chain with this seed."""
    return chain(photo_encoded(sample), np.random.default_rng(seed))


def _apply_chains(job: tuple[Sample, list[int | None]]) -> list[np.ndarray]:
    sample, seeds = job
    return [photo_encoded(sample) if seed is None else apply_chain(sample, seed) for seed in seeds]


def chain_seed(content: str, chain: int, seed: int) -> int:
    """Return the seed of one of a content's chains. A photo and all pictures made from it get the same seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{content}/{chain}".encode()).digest()[:8], "big") >> 1


def add_variants(samples: list[Sample], count: int, seed: int) -> None:
    """Apply `count` of its content's chains to every sample.

    A generated picture and its photo get chains with the same seeds, so that neither codec nor content separates them.
    """
    rng = np.random.default_rng(seed)
    jobs: list[tuple[Sample, list[int | None]]] = []
    for sample in samples:
        content = sample.content()
        sample.chains = [int(chain) for chain in rng.permutation(CHAINS)[:count]]
        jobs.append((sample, [chain_seed(content, chain, seed) if chain else None for chain in sample.chains]))
    with ProcessPoolExecutor() as pool:
        for sample, variants in zip(samples, pool.map(_apply_chains, jobs, chunksize=32), strict=True):
            sample.variants = variants


def pad_to(pixels: np.ndarray, size: int) -> np.ndarray:
    """Extend a picture uint8[H, W, 3] to at least `size` pixels a side by reflection, as the runtime does."""
    missing = [max(0, size - side) for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def crop(pixels: np.ndarray, rng: np.random.Generator, size: int = WINDOW) -> np.ndarray:
    """Cut a random window, uint8[size, size, 3], mirrored and transposed at random. Small pictures are padded (`pad_to`)."""
    pixels = pad_to(pixels, size)
    top = rng.integers(0, pixels.shape[0] - size + 1)
    left = rng.integers(0, pixels.shape[1] - size + 1)
    window = pixels[top : top + size, left : left + size]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    if rng.random() < 0.5:
        window = window.transpose(1, 0, 2)
    return window
