"""Pictures and their labels in memory, and the random codec chain that evaluation applies to each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from training.data import augment
from training.labels import Labels


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
    """

    pixels: np.ndarray
    source: int
    split: str
    photo: str | None = None
    made: bool = False
    jpeg: augment.Jpeg | None = None

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


def chain_seed(content: str, chain: int, seed: int) -> int:
    """Return the seed of one of a content's chains. A photo and all pictures made from it get the same seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{content}/{chain}".encode()).digest()[:8], "big") >> 1
