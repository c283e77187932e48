"""The pictures that networks are trained and evaluated on, with their labels; and the batches of windows cut from them.

Decoding and re-encoding are slower than the network, so every picture's random chains are made once, kept in memory as uint8,
and windows are cut from those.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from training import codecs
from training.labels import Labels
from training.networks import WINDOW
from training.tones import random_curves, toned


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
    jpeg: codecs.Jpeg | None = None
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
        """Samples of a split, narrowed by class, by zoo or real, and by the split of their source."""
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
    return sample.pixels if sample.jpeg is None else codecs.encode(sample.pixels, "JPEG", *sample.jpeg)


def through_chain(sample: Sample, seed: int) -> np.ndarray:
    """The pixels, in the form that photos come in, after the chain of that seed."""
    return codecs.random_chain(as_it_comes(sample), np.random.default_rng(seed))


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


def crop(pixels: np.ndarray, rng: np.random.Generator, size: int = WINDOW) -> np.ndarray:
    """A random window, uint8[size, size, 3], mirrored and transposed at random.

    A picture that is too small is extended by reflection, as the runtime does.
    """
    short = [max(0, size - side) for side in pixels.shape[:2]]
    if any(short):
        pixels = np.pad(pixels, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")
    top = rng.integers(0, pixels.shape[0] - size + 1)
    left = rng.integers(0, pixels.shape[1] - size + 1)
    window = pixels[top : top + size, left : left + size]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    if rng.random() < 0.5:
        window = window.transpose(1, 0, 2)
    return window


class Batches:
    """Balanced batches: half camera, half generated; public generators equally often, zoo generators the more often the less they are
    told from photos, photo sets by the root of their size.

    A picture that was made from a photo comes with that photo, through the same chain and cut at the same place, so that content does
    not tell the two apart. The share `toned` of the windows of both classes get random tone curves.
    """

    def __init__(
        self,
        collection: Collection,
        seed: int,
        *,
        generators: int = 14,
        pictures: int = 4,
        real_share: float = 0.3,
        emphasis: float = 0.0,
        toned: float = 0.0,
    ) -> None:
        self.collection, self.rng = collection, np.random.default_rng(seed)
        self.generators, self.pictures, self.real_share = generators, pictures, real_share
        self.size, self.emphasis, self.toned = WINDOW, emphasis, toned
        # A running detection loss of each source; at first all are taken for what cannot be told.
        self.loss = np.full(len(collection.sources), np.log(2))
        self.by_source: dict[int, list[Sample]] = {}
        self.photos: dict[tuple[bool, str], Sample] = {}
        for sample in collection.samples:
            if sample.variants:
                self.by_source.setdefault(sample.source, []).append(sample)
                source = collection.sources[sample.source]
                if source.labels is None and sample.photo is not None:
                    self.photos[source.zoo, sample.photo] = sample
        known = [i for i in self.by_source if collection.sources[i].labels is not None]
        self.zoo = [i for i in known if collection.sources[i].zoo]
        self.real = [i for i in known if not collection.sources[i].zoo]
        cameras = [i for i in self.by_source if collection.sources[i].labels is None and not collection.sources[i].zoo]
        counts = np.array([len(self.by_source[i]) for i in cameras], float) ** 0.5
        self.cameras, self.camera_weights = cameras, counts / counts.sum()

    def _twin(self, sample: Sample, chain: int) -> tuple[Sample, np.ndarray] | None:
        """The photo that a picture was made from and what the picture's chain made of it, where both are here."""
        if sample.photo is None:
            return None
        photo = self.photos.get((self.collection.sources[sample.source].zoo, sample.photo))
        if photo is None or chain not in photo.chains:
            return None
        return photo, photo.variants[photo.chains.index(chain)]

    def missed(self, source: np.ndarray, loss: np.ndarray) -> None:
        """Take in the detection losses, float[N], of windows of these sources."""
        for i in np.unique(source):
            self.loss[i] += 0.1 * (loss[source == i].mean() - self.loss[i])

    def zoo_shares(self) -> np.ndarray:
        """How often each zoo generator is drawn: 1 + emphasis for one whose loss is that of guessing, or worse; 1 for one without loss."""
        shares = 1 + self.emphasis * np.minimum(self.loss[self.zoo] / np.log(2), 1)
        return shares / shares.sum()

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """(windows uint8[N, size, size, 3], source int64[N])."""
        # Read once: another thread may change it, and a batch has one size.
        rng, window = self.rng, self.size
        made: list[tuple[np.ndarray, int]] = []
        taken: list[tuple[np.ndarray, int]] = []
        real = min(round(self.generators * self.real_share), len(self.real))
        zoo = min(self.generators - real, len(self.zoo))
        drawn = [
            *rng.choice(self.real, real, replace=False),
            *rng.choice(self.zoo, zoo, replace=False, p=self.zoo_shares()),
        ]
        for source in drawn:
            members = self.by_source[int(source)]
            for i in rng.choice(len(members), self.pictures, replace=len(members) < self.pictures):
                sample, place = members[i], int(rng.integers(2**62))
                variant = int(rng.integers(len(sample.variants)))
                pixels = sample.variants[variant]
                made.append((crop(pixels, np.random.default_rng(place), window), sample.source))
                twin = self._twin(sample, sample.chains[variant])
                if twin is not None and twin[1].shape == pixels.shape:
                    taken.append((crop(twin[1], np.random.default_rng(place), window), twin[0].source))
        while len(taken) < len(made):
            members = self.by_source[int(rng.choice(self.cameras, p=self.camera_weights))]
            sample = members[rng.integers(len(members))]
            taken.append((crop(sample.variants[rng.integers(len(sample.variants))], rng, window), sample.source))
        windows, sources = zip(*made, *taken, strict=True)
        return np.stack([self._in_some_tones(window) for window in windows]), np.array(sources)

    def _in_some_tones(self, window: np.ndarray) -> np.ndarray:
        return toned(window, random_curves(self.rng)) if self.rng.random() < self.toned else window
