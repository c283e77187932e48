"""An endless stream of training batches: which pictures, in which company, through which chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin
from torch.utils.data import IterableDataset, get_worker_info

from training.data.chains import JpegTables, Pixels, apply_chain, draw_chain, encode
from training.data.public_sets import PublicPicture

# Values of `Batch.target`.
CAMERA, GENERATED, NOT_ASKED = 0.0, 1.0, -1.0
# With the zoo's pictures, smooth reconstructions for the most part, as `generated`, the AUC on left-out sources fell from 0.83 to 0.77.
_TARGETS = {"camera": CAMERA, "generated": GENERATED, "processed": NOT_ASKED, "zoo": NOT_ASKED}
# Twins of JPEG photos are mostly compressed with their photo's own tables, and some are blended with it (arXiv 2505.14359).
MATCHED_FRACTION, BLENDED_FRACTION, MAX_BLEND = 0.8, 0.2, 0.6
# Probability that a lossless picture is first compressed as photos are. By weight, 14% of the photos and 72% of the generated pictures are
# lossless, so that after this step as many of both classes show no compression. Before this was balanced, the AUC on lossless photos of
# left-out sources was 0.73, and 0.88 on JPEG photos.
SAVED_FIRST = {"camera": 0.0, "generated": 0.8, "processed": 0.8, "zoo": 0.8}
PAIR_SAVED_FIRST = 0.5
# Larger sets are drawn as often as sets of this size; ImageNet and twins of all photos would otherwise drive out the others.
LARGEST = 200


@dataclass(frozen=True)
class Store:
    """Decoded pictures, uint8[H, W, 3] each.

    Attributes:
        pictures: what is known of each.
        pixels: the pictures.
        tables: distinct encoder settings of the JPEG photos among them.
        settings: encoder settings by file of the JPEG photos.
    """

    pictures: list[PublicPicture]
    pixels: list[Pixels]
    tables: JpegTables
    settings: dict[str, dict[str, Any]]

    @staticmethod
    def read(folder: Path, pictures: Sequence[PublicPicture]) -> Store:
        """Decode pictures of a data folder, or of absolute paths. All of the data take about 1.3 GB."""
        pixels: list[Pixels] = []
        options: dict[str, dict[str, Any]] = {}
        for picture in pictures:
            with Image.open(folder / picture.file) as image:
                if picture.set.role == "camera" and isinstance(image, JpegImagePlugin.JpegImageFile):
                    sampling = JpegImagePlugin.get_sampling(image)
                    # Pillow writes one or two tables, and the three usual samplings.
                    if len(image.quantization) <= 2 and sampling >= 0:
                        tables = [list(table) for table in image.quantization.values()]
                        options[picture.file] = {"qtables": tables, "subsampling": sampling}
                pixels.append(np.asarray(image.convert("RGB")))
        distinct = {repr(entry): entry for entry in options.values()}
        return Store(list(pictures), pixels, JpegTables(list(distinct.values())), options)

    def extended(self, pictures: Sequence[PublicPicture], pixels: Sequence[Pixels]) -> Store:
        """Return a store with further pictures."""
        return Store([*self.pictures, *pictures], [*self.pixels, *pixels], self.tables, self.settings)


@dataclass(frozen=True)
class Batch:
    """Training windows.

    Attributes:
        windows: uint8[N, S, S, 3].
        source: int64[N], index of each window's set.
        target: float32[N], 1 for generated, 0 for camera, -1 where detection is not asked.
    """

    windows: NDArray[np.uint8]
    source: NDArray[np.int64]
    target: NDArray[np.float32]


@dataclass(frozen=True)
class Composition:
    """How many windows of each kind a batch has. Windows of photos are added until both classes have the same number."""

    # Public generators, and windows of each: several are needed to learn what one generator's pictures have in common.
    generators: int = 9
    windows_per_generator: int = 4
    # Generators of the zoo.
    zoo: int = 2
    # Networks that restore or enlarge.
    processed: int = 1
    # Photos that come with a twin that a public generator or the zoo made from them, through the same chain.
    pairs: int = 5
    zoo_pairs: int = 1


class Stream(IterableDataset[Batch]):
    """Endless batches of windows.

    Sets are drawn by the square root of their size times their hardness.

    Args:
        store: the pictures.
        names: names of all sets; a batch's `source` indexes them.
        seed: seed of all draws.
        sizes: side of the windows of a batch in pixels -> how often, relative to the others.
        hardness: float64[len(names)]; the trainer updates it in place, in memory that worker processes share.
        composition: what a batch consists of.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        seed: int,
        sizes: Mapping[int, float],
        hardness: NDArray[np.float64],
        composition: Composition = Composition(),
    ) -> None:
        self.store, self.seed, self.hardness, self.composition = store, seed, hardness, composition
        self.sizes = list(sizes)
        self.frequencies = np.array(list(sizes.values())) / sum(sizes.values())
        index = {name: i for i, name in enumerate(names)}
        self.source = np.array([index[picture.set.name] for picture in store.pictures], np.int64)
        place = {picture.file: i for i, picture in enumerate(store.pictures)}
        self.twin_of = {
            i: place[p.twin] for i, p in enumerate(store.pictures) if p.twin is not None and p.twin in place
        }
        self.members = {
            role: self._by_set(i for i, p in enumerate(store.pictures) if p.set.role == role) for role in _TARGETS
        }
        self.paired, self.zoo_paired = (
            self._by_set(i for i in self.twin_of if store.pictures[i].set.role == role) for role in ("generated", "zoo")
        )
        for role in ("camera", "generated"):
            if not self.members[role]:
                raise ValueError(
                    f"training needs pictures of both classes, got none of role {role}; check the data folder"
                )

    def _by_set(self, members: Iterator[int]) -> dict[int, NDArray[np.int64]]:
        found: dict[int, list[int]] = defaultdict(list)
        for i in members:
            found[int(self.source[i])].append(i)
        return {source: np.array(indices, np.int64) for source, indices in found.items()}

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield self.draw(rng, self.sizes[int(rng.choice(len(self.sizes), p=self.frequencies))])

    def draw(self, rng: np.random.Generator, size: int) -> Batch:
        """Return one batch of windows of `size` pixels."""
        c = self.composition
        groups = [
            (int(i), False)
            for role, count in (("generated", c.generators), ("processed", c.processed), ("zoo", c.zoo))
            for s in self._sets(rng, self.members[role], count, distinct=True)
            for i in self._several_of(rng, self.members[role], s)
        ]
        unpaired = sum(self.store.pictures[i].set.role == "generated" for i, _ in groups)
        photos = [
            (self._one_of(rng, self.members["camera"], s), False)
            for s in self._sets(rng, self.members["camera"], unpaired)
        ]
        pairs = [
            (self._one_of(rng, members, s), True)
            for members, count in ((self.paired, c.pairs), (self.zoo_paired, c.zoo_pairs))
            for s in self._sets(rng, members, count)
        ]
        drawn = [pair for i, paired in photos + groups + pairs for pair in self._windows(rng, i, paired, size)]
        windows = np.stack([window for _, window in drawn])
        indices = np.array([i for i, _ in drawn])
        target = np.array([_TARGETS[self.store.pictures[i].set.role] for i in indices], np.float32)
        return Batch(windows, self.source[indices], target)

    def _sets(
        self, rng: np.random.Generator, of_set: Mapping[int, NDArray[np.int64]], count: int, *, distinct: bool = False
    ) -> list[int]:
        if not of_set:
            return []
        keys = np.array(list(of_set))
        sizes = np.minimum([len(members) for members in of_set.values()], LARGEST)
        weights = sizes**0.5 * self.hardness[keys]
        count = min(count, len(keys)) if distinct else count
        return [int(key) for key in rng.choice(keys, count, replace=not distinct, p=weights / weights.sum())]

    @staticmethod
    def _one_of(rng: np.random.Generator, of_set: Mapping[int, NDArray[np.int64]], source: int) -> int:
        return int(rng.choice(of_set[source]))

    def _several_of(
        self, rng: np.random.Generator, of_set: Mapping[int, NDArray[np.int64]], source: int
    ) -> NDArray[np.int64]:
        count = self.composition.windows_per_generator
        return rng.choice(of_set[source], count, replace=len(of_set[source]) < count)

    def _windows(self, rng: np.random.Generator, i: int, paired: bool, size: int) -> list[tuple[int, Pixels]]:
        """Return a window of picture `i`, and one of its photo if `paired`, each with its picture's index."""
        picture, pixels, tables = self.store.pictures[i], self.store.pixels[i], self.store.tables
        chain = draw_chain(rng, size, min(pixels.shape[:2]))
        height, width = (min(chain.region, side) for side in pixels.shape[:2])
        top, left = (
            int(rng.integers(0, side - part + 1)) for side, part in zip(pixels.shape, (height, width), strict=False)
        )
        saved_first = 0.0 if picture.jpeg else SAVED_FIRST[picture.set.role]
        if not paired:
            region = pixels[top : top + height, left : left + width]
            return [(i, apply_chain(region, chain, tables, saved_first=saved_first))]
        twin = self.twin_of[i]
        # Corners on the photo's compression grid, so that the twin can be compressed as its photo was.
        top, left = (max(0, top - (picture.y + top) % 8), max(0, left - (picture.x + left) % 8))
        region = pixels[top : top + height, left : left + width]
        y, x = picture.y + top, picture.x + left
        photo = self.store.pixels[twin][y : y + height, x : x + width]
        if photo.shape != region.shape:
            return [(i, apply_chain(region, chain, tables, saved_first=saved_first))]
        settings = self.store.settings.get(self.store.pictures[twin].file)
        if settings is not None and not picture.jpeg and y % 8 == x % 8 == 0 and rng.random() < MATCHED_FRACTION:
            region = encode(region, "JPEG", **settings)
        if rng.random() < BLENDED_FRACTION:
            fraction = rng.uniform(0, MAX_BLEND)
            region = (region * (1 - fraction) + photo * fraction).round().astype(np.uint8)
        return [
            (k, apply_chain(part, chain, tables, saved_first=PAIR_SAVED_FIRST))
            for k, part in ((i, region), (twin, photo))
        ]
