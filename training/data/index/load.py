"""From an index to the pictures that it names."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data.dataset import Collection, Sample
from training.data.index.records import REBUILD_HINT, Index, read
from training.data.sources import read_pixels
from training.zoo.files import read_pictures


def load(path: Path) -> Collection:
    """Every source and picture of an index, in its order.

    Raises:
        ValueError: a line is not what it should be, or a file holds fewer pictures than the index says.
        FileNotFoundError: a picture is not where the index says.
    """
    return collect(read(path))


def load_to_train(path: Path) -> Collection:
    """The same without half of the pictures, at which training and its validation never look: those for test, and those of generators that
    are on another side than they are."""
    index = read(path)
    splits = {key: source.split for key, source in index.sources.items() if source.labels is not None}
    seen = [e for e in index.entries if e.split != "test" and splits.get(e.source, e.split) == e.split]
    return collect(replace(index, entries=seen))


def collect(index: Index) -> Collection:
    """The same of an index that was read, and maybe narrowed."""
    sources = {key: i for i, key in enumerate(index.sources)}
    samples = [
        Sample(pixels, sources[entry.source], entry.split, entry.group, made=entry.made, jpeg=entry.jpeg)
        for entry, pixels in zip(index.entries, _pixels(index), strict=True)
    ]
    return Collection(list(index.sources.values()), samples)


def _pixels(index: Index) -> list[np.ndarray]:
    """uint8[H, W, 3] of every entry. Each file is read once."""
    of_file: dict[Path, list[int]] = {}
    for i, entry in enumerate(index.entries):
        of_file.setdefault(entry.place.file, []).append(i)
    for file in of_file:
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}, which the index names; put it back, or {REBUILD_HINT}")
    found: list[np.ndarray] = [np.empty(0, np.uint8)] * len(index.entries)
    single = [file for file in of_file if file.suffix != ".npz"]
    several = {
        file: [index.entries[i].place.number for i in members]
        for file, members in of_file.items()
        if file.suffix == ".npz"
    }
    with ProcessPoolExecutor() as pool:
        for file, pixels in zip(single, pool.map(read_pixels, single, chunksize=64), strict=True):
            for i in of_file[file]:
                found[i] = pixels
        for file, stack in zip(several, pool.map(_some_of, several, several.values()), strict=True):
            for i, pixels in zip(of_file[file], stack, strict=True):
                found[i] = pixels
    return found


def _some_of(file: Path, numbers: list[int | None]) -> np.ndarray:
    """uint8[N, S, S, 3]: the pictures of a zoo's file that have these numbers."""
    with np.load(file, allow_pickle=False) as arrays:
        photos = arrays.get("pixels")
    pictures = read_pictures(file) if photos is None else photos
    for number in numbers:
        if number is None or number >= len(pictures):
            raise ValueError(
                f"the index names picture {number} of {file}, which holds {len(pictures)}: it is of another build; {REBUILD_HINT}"
            )
    return pictures[numbers]
