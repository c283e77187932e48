"""Sample batches of training windows: which variants, where windows are cut, and which tone curves they get."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from training.data import augment
from training.data.dataset import Collection, Sample, pad_to
from training.data.online_augment import OnlineAugmenter
from training.data.tones import Tones, apply_curves, curves, draw_tones
from training.model.network import WINDOW

# Windows uint8[N, S, S, 3] and their sources int64[N].
Batch = tuple[np.ndarray | Tensor, np.ndarray]


@dataclass(frozen=True)
class Cuts:
    """How to cut N windows.

    Attributes:
        variant: number of the variant to cut from, int64[N].
        corner: top and left as fractions of their range, float[N, 2].
        mirrored: whether to mirror the window, bool[N].
        transposed: whether to transpose the window, after mirroring, bool[N].
        toned: whether to apply the tone curve, bool[N].
        tones: a tone curve per window.
    """

    variant: np.ndarray
    corner: np.ndarray
    mirrored: np.ndarray
    transposed: np.ndarray
    toned: np.ndarray
    tones: Tones


class Store(Protocol):
    """Keeps variants, uint8[H, W, 3] each, and cuts windows from them."""

    def replace(self, variants: list[tuple[int, np.ndarray]]) -> None:
        """Replace variants, given as (number, pixels)."""
        ...

    def cut(self, cuts: Cuts, size: int) -> np.ndarray | Tensor:
        """Return windows uint8[N, size, size, 3]. Small variants are extended by reflection, as in the runtime."""
        ...


class HostStore:
    """Keeps variants in the memory of the host.

    Args:
        variants: uint8[H, W, 3] each.
        capacity: not used; see `DeviceStore`.
    """

    def __init__(self, variants: list[np.ndarray], capacity: np.ndarray) -> None:
        self._variants = variants

    def replace(self, variants: list[tuple[int, np.ndarray]]) -> None:
        for number, pixels in variants:
            self._variants[number] = pixels

    def cut(self, cuts: Cuts, size: int) -> np.ndarray:
        windows = np.empty((len(cuts.variant), size, size, 3), np.uint8)
        curve = curves(cuts.tones)
        for i, variant in enumerate(cuts.variant):
            pixels = pad_to(self._variants[variant], size)
            top, left = (
                int(fraction * (side - size + 1))
                for fraction, side in zip(cuts.corner[i], pixels.shape[:2], strict=True)
            )
            window = pixels[top : top + size, left : left + size]
            window = window[:, ::-1] if cuts.mirrored[i] else window
            window = window.transpose(1, 0, 2) if cuts.transposed[i] else window
            windows[i] = apply_curves(window, curve[i]) if cuts.toned[i] else window
        return windows


class DeviceStore:
    """Keeps variants in a GPU's memory and cuts windows there. A GPU trains on more windows per second than a CPU core can cut.

    Cuts the same windows as `HostStore`. Tone curves may differ by one grey level, because they are computed in float32.

    Args:
        variants: uint8[H, W, 3] each.
        capacity: maximum number of pixels of each variant and of those that replace it, int64[N].
        device: where to keep the variants.
    """

    def __init__(self, variants: list[np.ndarray], capacity: np.ndarray, device: torch.device) -> None:
        self._pixels = torch.empty((int(capacity.sum()), 3), dtype=torch.uint8, device=device)
        self._shapes, self._starts = np.zeros((len(variants), 2), np.int64), np.cumsum(capacity) - capacity
        for start in range(0, len(variants), 1000):
            self.replace(list(enumerate(variants[start : start + 1000], start)))

    def replace(self, variants: list[tuple[int, np.ndarray]]) -> None:
        if not variants:
            return
        # One transfer, then copies on the device, which run in order with all other work there.
        pixels = self._to_device(np.concatenate([array.reshape(-1, 3) for _, array in variants]))
        offset = 0
        for number, array in variants:
            start, count = int(self._starts[number]), array.shape[0] * array.shape[1]
            self._pixels[start : start + count] = pixels[offset : offset + count]
            self._shapes[number] = array.shape[:2]
            offset += count

    def cut(self, cuts: Cuts, size: int) -> Tensor:
        shape = self._shapes[cuts.variant]
        corner = (cuts.corner * (np.maximum(shape - size, 0) + 1)).astype(np.int64)
        columns = (*corner.T, *shape.T, self._starts[cuts.variant], cuts.mirrored, cuts.transposed, cuts.toned)
        top, left, height, width, start, mirrored, transposed, toned = (
            self._to_device(np.ascontiguousarray(column))[:, None, None] for column in columns
        )
        rows, columns_of_window = (torch.arange(size, device=start.device).view(shape) for shape in ((-1, 1), (1, -1)))
        y = torch.where(transposed, columns_of_window, rows)
        x = torch.where(transposed, rows, columns_of_window)
        x = torch.where(mirrored, size - 1 - x, x)
        y, x = _reflect(top + y, height), _reflect(left + x, width)
        windows = self._pixels[start + y * width + x]
        return torch.where(toned[..., None], self._apply_tones(windows, cuts.tones), windows)

    def _to_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._pixels.device, non_blocking=True)

    def _apply_tones(self, windows: Tensor, tones: Tones) -> Tensor:
        gain, gamma, offset = (self._to_device(part.astype(np.float32)) for part in tones)
        values = torch.arange(256, device=windows.device) / 255
        curve = 255 * gain[:, None] * (values ** gamma[:, None])[..., None] + offset[:, None, None]
        curve = curve.clamp(0, 255).round().to(torch.uint8)
        return curve.gather(1, windows.flatten(1, 2).long()).view_as(windows)


def max_pixels(sample: Sample) -> int:
    """Return the number of pixels of the largest variant that a codec chain can make of a picture."""
    height, width = (math.ceil(augment.SCALES[1] * side) for side in sample.pixels.shape[:2])
    return int(height * width)


def _reflect(position: Tensor, side: Tensor) -> Tensor:
    position = position % (2 * side)
    return torch.where(position < side, position, 2 * side - 1 - position)


class Batches:
    """Samples balanced batches, half camera and half generated.

    Public generators are drawn equally often, zoo generators more often the harder they are to detect, and photo sets in proportion to the
    square root of their size. A picture made from a photo is paired with that photo, after the same chain and cut at the same place, so
    that content does not separate the two.

    Args:
        collection: samples with their variants.
        seed: seed of all draws.
        generators: generators in a batch.
        pictures: windows per generator. The batch has as many windows of photos.
        public_fraction: fraction of the generators that are public.
        hard_example_weight: see `zoo_probabilities`.
        toned: fraction of windows, of both classes, that get a random tone curve.
        paired: whether to pair pictures with their photos. Otherwise all photos are drawn independently.
        store: builds the store from variants and their capacities.
        augmenter: supplies new variants of the same collection, which are taken over before each batch.
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
        augmenter: OnlineAugmenter | None = None,
    ) -> None:
        self.collection, self.rng = collection, np.random.default_rng(seed)
        self.generators, self.pictures, self.public_fraction = generators, pictures, public_fraction
        self.size, self.hard_example_weight, self.toned = WINDOW, hard_example_weight, toned
        # Running detection loss of each source. Starts at the loss of a guess.
        self.loss = np.full(len(collection.sources), np.log(2))
        samples = [sample for sample in collection.samples if sample.variants]
        variants = [variant for sample in samples for variant in sample.variants]
        self._augmenter = augmenter
        capacity = [
            max_pixels(sample) if augmenter else len(pixels) * pixels.shape[1]
            for sample in samples
            for pixels in sample.variants
        ]
        self._store = store(variants, np.array(capacity, np.int64))
        self._count = np.array([len(sample.variants) for sample in samples], np.int64)
        self._first = np.cumsum(self._count) - self._count
        # For each variant: its source, and the variant of its photo after the same chain, or -1.
        source = np.array([sample.source for sample in samples], np.int64)
        self._source = np.repeat(source, self._count)
        self._photo_variant = self._photo_variants(samples) if paired else np.full(len(variants), -1)
        self.by_source = {int(i): np.flatnonzero(source == i) for i in np.unique(source)}
        generated = [i for i in self.by_source if collection.sources[i].labels is not None]
        self.zoo = [i for i in generated if collection.sources[i].zoo]
        self.public = [i for i in generated if not collection.sources[i].zoo]
        cameras = [i for i in self.by_source if collection.sources[i].labels is None and not collection.sources[i].zoo]
        counts = np.array([len(self.by_source[i]) for i in cameras], float) ** 0.5
        self.cameras, self.camera_weights = cameras, counts / counts.sum()

    def _photo_variants(self, samples: list[Sample]) -> np.ndarray:
        """Return for each variant the number of its photo's variant with the same chain and shape, or -1, int64[V]."""

        def key(sample: Sample) -> tuple[bool, str | None]:
            return self.collection.sources[sample.source].zoo, sample.photo

        photos = {
            key(sample): (sample, int(first))
            for sample, first in zip(samples, self._first, strict=True)
            if self.collection.sources[sample.source].labels is None and sample.photo is not None
        }
        numbers = []
        for sample in samples:
            camera = self.collection.sources[sample.source].labels is None
            photo, first = (None, 0) if camera or sample.photo is None else photos.get(key(sample), (None, 0))
            for chain, variant in zip(sample.chains, sample.variants, strict=True):
                index = photo.chains.index(chain) if photo is not None and chain in photo.chains else -1
                matches = photo is not None and index >= 0 and photo.variants[index].shape == variant.shape
                numbers.append(first + index if matches else -1)
        return np.array(numbers, np.int64)

    def update_losses(self, source: np.ndarray, loss: np.ndarray) -> None:
        """Update the running losses of sources int64[N] with the detection losses float[N] of their windows."""
        for i in np.unique(source):
            self.loss[i] += 0.1 * (loss[source == i].mean() - self.loss[i])

    def zoo_probabilities(self) -> np.ndarray:
        """Return the probability of drawing each zoo generator, float[len(zoo)].

        It is proportional to 1 for a generator without loss, and to 1 + `hard_example_weight` if the loss is that of a guess or higher.
        """
        weights = 1 + self.hard_example_weight * np.minimum(self.loss[self.zoo] / np.log(2), 1)
        return np.asarray(weights / weights.sum())

    def __call__(self) -> Batch:
        """Return a batch: windows uint8[N, size, size, 3] and their sources int64[N]."""
        if self._augmenter is not None:
            self._store.replace(self._augmenter.take())
        # Read once, because another thread may change it and a batch has one size.
        rng, size = self.rng, self.size
        generated = self._random_variants(np.concatenate([self._draw_samples(i) for i in self._draw_generators()]))
        photo = self._photo_variant[generated]
        others = self._random_variants(self._draw_photos(int((photo < 0).sum())))
        photos = np.concatenate([photo[photo >= 0], others])
        # A paired photo is cut where its picture is, any other photo at a place of its own.
        place = np.concatenate([np.flatnonzero(photo >= 0), np.arange(len(others)) + len(generated)])
        count = len(generated) + len(others)
        corner, turned = rng.random((count, 2)), rng.random((count, 2)) < 0.5
        corner, turned = (np.concatenate([part[: len(generated)], part[place]]) for part in (corner, turned))
        variant = np.concatenate([generated, photos])
        toned = rng.random(len(variant)) < self.toned
        cuts = Cuts(variant, corner, turned[:, 0], turned[:, 1], toned, draw_tones(rng, len(variant)))
        return self._store.cut(cuts, size), self._source[variant]

    def _draw_generators(self) -> list[int]:
        """Draw the generators of a batch."""
        public = min(round(self.generators * self.public_fraction), len(self.public))
        zoo = min(self.generators - public, len(self.zoo))
        return [
            *map(int, self.rng.choice(self.public, public, replace=False)),
            *map(int, self.rng.choice(self.zoo, zoo, replace=False, p=self.zoo_probabilities())),
        ]

    def _draw_samples(self, source: int) -> np.ndarray:
        """Draw `pictures` samples of a generator, int64[pictures]."""
        members = self.by_source[source]
        return self.rng.choice(members, self.pictures, replace=len(members) < self.pictures)

    def _draw_photos(self, count: int) -> np.ndarray:
        """Draw samples of whole photos, int64[count]."""
        if not count:
            return np.empty(0, np.int64)
        sets = self.rng.choice(self.cameras, count, p=self.camera_weights)
        return np.array([self.rng.choice(self.by_source[int(source)]) for source in sets])

    def _random_variants(self, samples: np.ndarray) -> np.ndarray:
        """Draw one variant of each sample, int64[N]."""
        fractions = self.rng.random(len(samples))
        return np.asarray(self._first[samples] + (fractions * self._count[samples]).astype(np.int64))


@contextlib.contextmanager
def prefetch(sample: Callable[[], Batch], depth: int = 4) -> Iterator[Callable[[], Batch]]:
    """Sample batches in a thread, at most `depth` ahead. Yields a function that returns the next batch.

    The thread ends when the context exits. Its exceptions are raised by the function.
    """
    ready: queue.Queue[Batch | Exception] = queue.Queue(depth)
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                ready.put(sample())
            except Exception as error:
                ready.put(error)
                return

    def next_batch() -> Batch:
        batch = ready.get()
        if isinstance(batch, Exception):
            raise batch
        return batch

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield next_batch
    finally:
        stopped.set()
        while thread.is_alive():
            with contextlib.suppress(queue.Empty):
                ready.get(timeout=0.1)
