"""Batches of windows to train on: which pictures, where they are cut, and the tones they are shown in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from training.data import augment
from training.data.dataset import Collection, Sample, extended
from training.data.online_augment import Renewal
from training.data.tones import Tones, curves, random_tones, toned
from training.model.network import WINDOW


@dataclass(frozen=True)
class Cuts:
    """N windows: the variants int64[N] that they are cut from; their corners, float[N, 2], top and left as shares of the way that there
    is; whether they are mirrored and then transposed, bool[N]; and whether they get the tones, bool[N], that are there for each."""

    variant: np.ndarray
    corner: np.ndarray
    mirrored: np.ndarray
    transposed: np.ndarray
    toned: np.ndarray
    tones: Tones


class Store(Protocol):
    """Keeps variants, each of which is uint8[H, W, 3], and cuts windows from them."""

    def replace(self, made: list[tuple[int, np.ndarray]]) -> None:
        """Keep others in the place of the variants that have these numbers."""
        ...

    def cut(self, cuts: Cuts, size: int) -> np.ndarray | Tensor:
        """uint8[N, size, size, 3]. A variant that is too small is extended by reflection, as the runtime does."""
        ...


class HostStore:
    """Variants where they are."""

    def __init__(self, variants: list[np.ndarray], room: np.ndarray) -> None:
        self._variants = variants

    def replace(self, made: list[tuple[int, np.ndarray]]) -> None:
        for number, pixels in made:
            self._variants[number] = pixels

    def cut(self, cuts: Cuts, size: int) -> np.ndarray:
        windows = np.empty((len(cuts.variant), size, size, 3), np.uint8)
        curve = curves(cuts.tones)
        for i, variant in enumerate(cuts.variant):
            pixels = extended(self._variants[variant], size)
            top, left = (
                int(share * (side - size + 1)) for share, side in zip(cuts.corner[i], pixels.shape[:2], strict=True)
            )
            window = pixels[top : top + size, left : left + size]
            window = window[:, ::-1] if cuts.mirrored[i] else window
            window = window.transpose(1, 0, 2) if cuts.transposed[i] else window
            windows[i] = toned(window, curve[i]) if cuts.toned[i] else window
        return windows


class DeviceStore:
    """Variants in a GPU's memory, and windows cut there: one that learns tens of thousands a second takes more than a processor cuts.

    Cuts the same windows as `HostStore`; tones may differ by a grey level, as they are computed in float32.

    Args:
        room: how many pixels each variant, and any that replaces it, may have, int64[N].
    """

    def __init__(self, variants: list[np.ndarray], room: np.ndarray, device: torch.device) -> None:
        self._pixels = torch.empty((int(room.sum()), 3), dtype=torch.uint8, device=device)
        self._shapes, self._firsts = np.zeros((len(variants), 2), np.int64), np.cumsum(room) - room
        for start in range(0, len(variants), 1000):
            self.replace(list(enumerate(variants[start : start + 1000], start)))

    def replace(self, made: list[tuple[int, np.ndarray]]) -> None:
        if not made:
            return
        # One transfer, and copies on the device, in the order of all else that is computed there.
        sent = self._sent(np.concatenate([pixels.reshape(-1, 3) for _, pixels in made]))
        start = 0
        for number, pixels in made:
            first, count = int(self._firsts[number]), pixels.shape[0] * pixels.shape[1]
            self._pixels[first : first + count] = sent[start : start + count]
            self._shapes[number] = pixels.shape[:2]
            start += count

    def cut(self, cuts: Cuts, size: int) -> Tensor:
        shape = self._shapes[cuts.variant]
        corner = (cuts.corner * (np.maximum(shape - size, 0) + 1)).astype(np.int64)
        columns = (*corner.T, *shape.T, self._firsts[cuts.variant], cuts.mirrored, cuts.transposed, cuts.toned)
        top, left, height, width, first, mirrored, transposed, toned = (
            self._sent(np.ascontiguousarray(column))[:, None, None] for column in columns
        )
        along, across = (torch.arange(size, device=first.device).view(shape) for shape in ((-1, 1), (1, -1)))
        y, x = torch.where(transposed, across, along), torch.where(transposed, along, across)
        x = torch.where(mirrored, size - 1 - x, x)
        y, x = _reflected(top + y, height), _reflected(left + x, width)
        windows = self._pixels[first + y * width + x]
        return torch.where(toned[..., None], self._toned(windows, cuts.tones), windows)

    def _sent(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._pixels.device, non_blocking=True)

    def _toned(self, windows: Tensor, tones: Tones) -> Tensor:
        gain, gamma, offset = (self._sent(part.astype(np.float32)) for part in tones)
        values = torch.arange(256, device=windows.device) / 255
        curve = 255 * gain[:, None] * (values ** gamma[:, None])[..., None] + offset[:, None, None]
        curve = curve.clamp(0, 255).round().to(torch.uint8)
        return curve.gather(1, windows.flatten(1, 2).long()).view_as(windows)


def grown(sample: Sample) -> int:
    """How many pixels the largest has that a codec chain can make of a picture."""
    height, width = (math.ceil(augment.SCALES[1] * side) for side in sample.pixels.shape[:2])
    return height * width


def _reflected(place: Tensor, side: Tensor) -> Tensor:
    place = place % (2 * side)
    return torch.where(place < side, place, 2 * side - 1 - place)


class Batches:
    """Balanced batches: half camera, half generated; public generators equally often, zoo generators the more often the less they are
    told from photos, photo sets by the root of their size.

    A picture that was made from a photo comes with that photo, through the same chain and cut at the same place, so that content does
    not tell the two apart; without `paired`, with any photo. The share `toned` of the windows of both classes get random tone curves.
    A `renewal` of the same collection has variants replaced by new ones before a batch is cut.
    """

    def __init__(
        self,
        collection: Collection,
        seed: int,
        *,
        generators: int = 14,
        pictures: int = 4,
        public_fraction: float = 0.3,
        hard_example_weight: float = 0.0,
        toned: float = 0.0,
        paired: bool = True,
        store: Callable[[list[np.ndarray], np.ndarray], Store] = HostStore,
        renewal: Renewal | None = None,
    ) -> None:
        self.collection, self.rng = collection, np.random.default_rng(seed)
        self.generators, self.pictures, self.public_fraction = generators, pictures, public_fraction
        self.size, self.hard_example_weight, self.toned = WINDOW, hard_example_weight, toned
        # A running detection loss of each source; at first all are taken for what cannot be told.
        self.loss = np.full(len(collection.sources), np.log(2))
        samples = [sample for sample in collection.samples if sample.variants]
        variants = [variant for sample in samples for variant in sample.variants]
        self._renewal = renewal
        room = [
            grown(sample) if renewal else len(pixels) * pixels.shape[1]
            for sample in samples
            for pixels in sample.variants
        ]
        self._store = store(variants, np.array(room, np.int64))
        self._count = np.array([len(sample.variants) for sample in samples], np.int64)
        self._first = np.cumsum(self._count) - self._count
        # Of every variant: its source, and the variant of its photo that went through the same chain, or -1.
        source = np.array([sample.source for sample in samples], np.int64)
        self._source = np.repeat(source, self._count)
        self._twin = self._twins(samples) if paired else np.full(len(variants), -1)
        self.by_source = {int(i): np.flatnonzero(source == i) for i in np.unique(source)}
        known = [i for i in self.by_source if collection.sources[i].labels is not None]
        self.zoo = [i for i in known if collection.sources[i].zoo]
        self.public = [i for i in known if not collection.sources[i].zoo]
        cameras = [i for i in self.by_source if collection.sources[i].labels is None and not collection.sources[i].zoo]
        counts = np.array([len(self.by_source[i]) for i in cameras], float) ** 0.5
        self.cameras, self.camera_weights = cameras, counts / counts.sum()

    def _twins(self, samples: list[Sample]) -> np.ndarray:
        def shown(sample: Sample) -> tuple[bool, str | None]:
            return self.collection.sources[sample.source].zoo, sample.photo

        photos = {
            shown(sample): (sample, int(first))
            for sample, first in zip(samples, self._first, strict=True)
            if self.collection.sources[sample.source].labels is None and sample.photo is not None
        }
        found = []
        for sample in samples:
            camera = self.collection.sources[sample.source].labels is None
            photo, first = (None, 0) if camera or sample.photo is None else photos.get(shown(sample), (None, 0))
            for chain, variant in zip(sample.chains, sample.variants, strict=True):
                place = photo.chains.index(chain) if photo is not None and chain in photo.chains else -1
                alike = photo is not None and place >= 0 and photo.variants[place].shape == variant.shape
                found.append(first + place if alike else -1)
        return np.array(found, np.int64)

    def missed(self, source: np.ndarray, loss: np.ndarray) -> None:
        """Take in the detection losses, float[N], of windows of these sources."""
        for i in np.unique(source):
            self.loss[i] += 0.1 * (loss[source == i].mean() - self.loss[i])

    def zoo_shares(self) -> np.ndarray:
        """How often each zoo generator is drawn: 1 + hard_example_weight for one whose loss is that of guessing,
        or worse; 1 for one without loss."""
        shares = 1 + self.hard_example_weight * np.minimum(self.loss[self.zoo] / np.log(2), 1)
        return shares / shares.sum()

    def __call__(self) -> tuple[np.ndarray | Tensor, np.ndarray]:
        """(windows uint8[N, size, size, 3], source int64[N])."""
        if self._renewal is not None:
            self._store.replace(self._renewal.take())
        # Read once: another thread may change it, and a batch has one size.
        rng, size = self.rng, self.size
        made = self._some_variants(np.concatenate([self._members(source) for source in self._generators()]))
        twin = self._twin[made]
        filled = self._some_variants(self._photos(int((twin < 0).sum())))
        taken = np.concatenate([twin[twin >= 0], filled])
        # Twins lie where their pictures do; photos that stand in for one, anywhere.
        place = np.concatenate([np.flatnonzero(twin >= 0), np.arange(len(filled)) + len(made)])
        corner, turned = rng.random((len(made) + len(filled), 2)), rng.random((len(made) + len(filled), 2)) < 0.5
        corner, turned = (np.concatenate([part[: len(made)], part[place]]) for part in (corner, turned))
        variant = np.concatenate([made, taken])
        chosen = rng.random(len(variant)) < self.toned
        cuts = Cuts(variant, corner, turned[:, 0], turned[:, 1], chosen, random_tones(rng, len(variant)))
        return self._store.cut(cuts, size), self._source[variant]

    def _generators(self) -> list[int]:
        """Those of one batch."""
        public = min(round(self.generators * self.public_fraction), len(self.public))
        zoo = min(self.generators - public, len(self.zoo))
        return [
            *map(int, self.rng.choice(self.public, public, replace=False)),
            *map(int, self.rng.choice(self.zoo, zoo, replace=False, p=self.zoo_shares())),
        ]

    def _members(self, source: int) -> np.ndarray:
        """As many samples of a generator as it has in a batch."""
        members = self.by_source[source]
        return self.rng.choice(members, self.pictures, replace=len(members) < self.pictures)

    def _photos(self, count: int) -> np.ndarray:
        """Samples of whole photos."""
        if not count:
            return np.empty(0, np.int64)
        sets = self.rng.choice(self.cameras, count, p=self.camera_weights)
        return np.array([self.rng.choice(self.by_source[int(source)]) for source in sets])

    def _some_variants(self, samples: np.ndarray) -> np.ndarray:
        """One of each sample."""
        shares = self.rng.random(len(samples))
        return self._first[samples] + (shares * self._count[samples]).astype(np.int64)
