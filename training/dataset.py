"""The pictures that networks are trained and evaluated on, with their labels; and the batches of windows cut from them.

Decoding and re-encoding are slower than the network, so every picture's random chains are made once, kept in memory as uint8,
and windows are cut from those.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training import codecs
from training.labels import Labels
from training.networks import WINDOW
from training.photos import NOT_PHOTO_LIKE, Picture, generator_split, photo_split, read_index, split_of
from training.public import LABELS


@dataclass
class Generator:
    """A generator, or one source of camera photos (`labels` None)."""

    name: str
    labels: Labels | None
    zoo: bool
    split: str


@dataclass
class Sample:
    """One picture. `photo` names the photo whose content it shows, where it shows one."""

    pixels: np.ndarray
    source: int
    split: str
    photo: str | None = None
    # A generator's picture: it came lossless, as photos seldom do.
    made: bool = False
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


def zoo_splits(labels: dict[str, Labels], fold: int = 0) -> dict[str, str]:
    """Which zoo generators are trained on (two thirds), validated on and tested on (a sixth each), balanced over families.

    A name's number decides, so that a generator more or less moves no other. One with the same labels as another goes where that one is:
    else one side would know the other's answers. Each `fold` turns the pattern by one: over six of them every generator is a test one once.
    """
    pattern = ("train", "train", "test", "train", "train", "val")
    of_labels: dict[bytes, str] = {}
    return {
        name: of_labels.setdefault(labels[name].key(), pattern[(int(name.rsplit("-", 1)[1]) + fold) % len(pattern)])
        for name in sorted(labels)
    }


def load_zoo(folder: Path) -> Collection:
    """Every finished generator of a zoo, and the photo crops it was built from, as one camera source a photo set."""
    entries = {path: read_entry(path) for path in generator_files(folder)}
    files = [path for path, entry in entries.items() if passes(entry)]
    labels = {path.stem: Labels.from_json(entries[path]["labels"]) for path in files}
    splits = zoo_splits(labels)
    (photos_file,) = folder.glob("photos-*.npz")
    with np.load(photos_file, allow_pickle=False) as file:
        photos, photo_splits, photo_names = file["pixels"], file["splits"], file["sources"]
    collection = Collection([], [])
    places: dict[str, int] = {}
    for pixels, split, name in zip(photos, photo_splits, photo_names, strict=True):
        set_name = name.split("/")[0]
        if set_name not in places:
            places[set_name] = len(collection.sources)
            collection.sources.append(Generator(set_name, None, True, "train"))
        collection.samples.append(Sample(pixels, places[set_name], str(split), str(name)))
    for path in files:
        with np.load(path, allow_pickle=False) as file:
            source = len(collection.sources)
            collection.sources.append(Generator(path.stem, labels[path.stem], True, splits[path.stem]))
            for pixels, split, twin in zip(file["pictures"], file["splits"], file["twins"], strict=True):
                photo = str(photo_names[twin]) if twin >= 0 else None
                collection.samples.append(Sample(pixels, source, str(split), photo, made=True))
    return collection


def generator_files(folder: Path) -> list[Path]:
    """Finished generators' files in a zoo, by name."""
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith(("photos", ".")))


def read_entry(path: Path) -> dict:
    """What is kept of a finished generator beside its pictures: config, labels, quality."""
    with np.load(path, allow_pickle=False) as file:
        entry: dict = json.loads(str(file["entry"]))
    return entry


def passes(entry: dict) -> bool:
    """The zoo's quality rule: reconstructions of at least 20 dB; unconditional pictures within 2.0 of photos' mean log spectrum
    (photos of two halves differ by about 0.1, a flat colour by 5) and with some contrast."""
    quality = entry["quality"]
    if "psnr_db" in quality:
        return quality["psnr_db"] >= 20.0
    return quality["spectrum_distance"] <= 2.0 and entry["contrast"] >= 10.0


def _read(picture: Picture) -> np.ndarray:
    return picture.read()


def load_public(folder: Path) -> Collection:
    """The data folder's photos and public generators' pictures, whole.

    A picture of a training generator is in `train` or, so that known generators can be tested, in `test`; one made from a photo is where
    its photo is, and left out where its generator is elsewhere.
    """
    collection = Collection([], [])
    places: dict[str, int] = {}
    pictures = [p for p in read_index(folder) if p.set not in NOT_PHOTO_LIKE]
    with ProcessPoolExecutor() as pool:
        arrays = list(pool.map(_read, pictures, chunksize=64))
    for picture, pixels in zip(pictures, arrays, strict=True):
        if picture.set not in places:
            places[picture.set] = len(collection.sources)
            labels = None if picture.camera else LABELS.get(picture.set, Labels(None, {}, {}, None))
            split = "train" if picture.camera else generator_split(picture.set)
            collection.sources.append(Generator(picture.set, labels, False, split))
        source = places[picture.set]
        if picture.camera:
            split = photo_split(picture.path)
        elif collection.sources[source].split != "train":
            split = collection.sources[source].split
        elif picture.twin is not None:
            split = photo_split(picture.twin)
        else:
            split = split_of(picture.path.stem)
        if picture.twin is not None and photo_split(picture.twin) != split:
            continue
        twin = picture.path if picture.camera else picture.twin
        photo = f"{twin.parent.name}/{twin.name}" if twin is not None else None
        collection.samples.append(Sample(pixels, source, split, photo, made=not picture.camera))
    return collection


def join(*collections: Collection) -> Collection:
    """One collection of several."""
    joined = Collection([], [])
    for collection in collections:
        offset = len(joined.sources)
        joined.sources += collection.sources
        for sample in collection.samples:
            sample.source += offset
        joined.samples += collection.samples
    return joined


def as_it_comes(sample: Sample, seed: int) -> np.ndarray:
    """A picture's pixels in the form that photos come in."""
    if not sample.made:
        return sample.pixels
    return codecs.as_photos_come(sample.pixels, sample.photo, np.random.default_rng([seed, 1]))


def through_chain(sample: Sample, seed: int) -> np.ndarray:
    """The pixels, in the form that photos come in, after the chain of that seed."""
    return codecs.random_chain(as_it_comes(sample, seed), np.random.default_rng(seed))


def _chains(job: tuple[Sample, list[int]]) -> list[np.ndarray]:
    sample, seeds = job
    return [through_chain(sample, seed) for seed in seeds]


# Random chains of one content; every picture of it takes some of these.
CHAINS = 10


def chain_seed(content: str, chain: int, seed: int) -> int:
    """The seed of one of a content's chains; the same for a photo and everything made from it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{content}/{chain}".encode()).digest()[:8], "big") >> 1


def add_variants(samples: list[Sample], count: int, seed: int) -> None:
    """Send every sample through `count` of its content's chains, so that neither a twin's codec nor its content tells it from its photo."""
    rng = np.random.default_rng(seed)
    jobs = []
    for sample in samples:
        content = sample.content()
        sample.chains = [int(chain) for chain in rng.permutation(CHAINS)[:count]]
        jobs.append((sample, [chain_seed(content, chain, seed) for chain in sample.chains]))
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
    """Balanced batches: half camera, half generated; generators equally often, photo sets by the root of their size.

    A picture that was made from a photo comes with that photo, through the same chain and cut at the same place, so that content does
    not tell the two apart.
    """

    def __init__(
        self, collection: Collection, seed: int, *, generators: int = 14, pictures: int = 4, real_share: float = 0.3
    ) -> None:
        self.collection, self.rng = collection, np.random.default_rng(seed)
        self.generators, self.pictures, self.real_share = generators, pictures, real_share
        self.size = WINDOW
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

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """(windows uint8[N, size, size, 3], source int64[N])."""
        # Read once: another thread may change it, and a batch has one size.
        rng, window = self.rng, self.size
        made: list[tuple[np.ndarray, int]] = []
        taken: list[tuple[np.ndarray, int]] = []
        real = min(round(self.generators * self.real_share), len(self.real))
        zoo = min(self.generators - real, len(self.zoo))
        for source in [*rng.choice(self.real, real, replace=False), *rng.choice(self.zoo, zoo, replace=False)]:
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
        return np.stack(windows), np.array(sources)
