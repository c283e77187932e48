"""Load the pictures of an index."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from training.data.dataset import Collection, Sample
from training.data.index.records import REBUILD_HINT, Index, read
from training.data.sources import read_pixels
from training.zoo.files import read_pictures


def load(path: Path) -> Collection:
    """Load every source and picture of an index, in its order.

    Raises:
        ValueError: a line is malformed, or a file holds fewer pictures than the index says.
        FileNotFoundError: a picture's file does not exist.
    """
    return collect(read(path))


def collect(index: Index) -> Collection:
    """Load the pictures of an index that was already read and possibly filtered."""
    sources = {key: i for i, key in enumerate(index.sources)}
    samples = [
        Sample(pixels, sources[entry.source], entry.split, entry.group, made=entry.made, jpeg=entry.jpeg)
        for entry, pixels in zip(index.entries, _pixels(index), strict=True)
    ]
    return Collection(list(index.sources.values()), samples)


def _pixels(index: Index) -> list[np.ndarray]:
    """Return uint8[H, W, 3] of every entry. Reads each file once."""
    by_file: dict[Path, list[int]] = {}
    for i, entry in enumerate(index.entries):
        by_file.setdefault(entry.place.file, []).append(i)
    for file in by_file:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is listed in the index but does not exist; restore it or {REBUILD_HINT}")
    pixels_of: list[np.ndarray] = [np.empty(0, np.uint8)] * len(index.entries)
    single = [file for file in by_file if file.suffix != ".npz"]
    archives = {
        file: [index.entries[i].place.number for i in members]
        for file, members in by_file.items()
        if file.suffix == ".npz"
    }
    with ProcessPoolExecutor() as pool:
        for file, pixels in zip(single, pool.map(read_pixels, single, chunksize=64), strict=True):
            for i in by_file[file]:
                pixels_of[i] = pixels
        for file, stack in zip(archives, pool.map(_read_archive, archives, archives.values()), strict=True):
            for i, pixels in zip(by_file[file], stack, strict=True):
                pixels_of[i] = pixels
    return pixels_of


def _read_archive(file: Path, numbers: list[int | None]) -> np.ndarray:
    """Return the pictures with these numbers of a zoo's file, uint8[N, S, S, 3]."""
    with np.load(file, allow_pickle=False) as arrays:
        photos = arrays.get("pixels")
    pictures = read_pictures(file) if photos is None else photos
    for number in numbers:
        if number is None or number >= len(pictures):
            raise ValueError(f"picture number must be below {len(pictures)} for {file}, got {number}; {REBUILD_HINT}")
    return np.asarray(pictures[np.array(numbers, np.int64)])
