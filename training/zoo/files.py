"""Files of a zoo: finished generators, their pictures, the quality rule and the splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from training.labels import FAMILIES, Labels


def generator_files(folder: Path) -> list[Path]:
    """Return the files of finished generators, sorted by name."""
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith(("photos", ".")))


def read_entry(path: Path) -> dict[str, Any]:
    """Return config, labels and quality of a finished generator."""
    with np.load(path, allow_pickle=False) as file:
        entry: dict[str, Any] = json.loads(str(file["entry"]))
    return entry


def differences(pictures: np.ndarray) -> np.ndarray:
    """Return each pixel minus its left neighbour, modulo 256: uint8[N, S, S, 3] -> the same shape.

    Compressed files of these are a quarter smaller, as with PNG's Sub filter.
    """
    return np.diff(pictures, axis=2, prepend=np.uint8(0))


def read_pictures(path: Path) -> np.ndarray:
    """Return the pictures of a finished generator, uint8[N, S, S, 3]."""
    with np.load(path, allow_pickle=False) as file:
        pictures: np.ndarray = np.cumsum(file["differences"], axis=2, dtype=np.uint8)
    return pictures


def falls_short(entry: dict[str, Any]) -> bool:
    """Return whether a generator's pictures are too poor.

    Reconstructions need a PSNR of 20 dB. Unconditional pictures need a mean log spectrum within 2.0 of that of photos (two halves of the
    photos differ by about 0.1, a flat colour by 5), and a variety of 15 grey levels (photos have about 60).
    """
    quality = entry["quality"]
    if "psnr_db" in quality:
        return bool(quality["psnr_db"] < 20.0)
    return bool(quality["spectrum_distance"] > 2.0 or entry["variety"] < 15.0)


def passes(entry: dict[str, Any]) -> bool:
    """Return whether a generator meets the quality rule: not too poor, and at most 50 dB from its photos.

    At 78 dB, an attack changes one value in a thousand by one grey level. Such pictures count as photos.
    """
    return not falls_short(entry) and entry["quality"].get("psnr_db", 0.0) <= 50.0


# Generators of a family numbered below this may be held out. Later ones are for training, unless they share the labels of a held-out one. A
# zoo that grows is then tested on the same generators.
HELD_OUT_AMONG = 50
_PATTERN = ("train", "train", "test", "train", "train", "val")


def zoo_splits(labels: dict[str, Labels], fold: int = 0) -> dict[str, str]:
    """Return the split of every zoo generator, balanced over families.

    Of the first `HELD_OUT_AMONG` generators of a family, two thirds are for training, and one sixth each for validation and test. Later
    ones
    are for training. The number in the name decides, so that adding generators moves no other. Generators with equal labels share a split.

    Args:
        labels: labels of the generators by name.
        fold: rotates the pattern. Over six folds, every generator that may be held out is a test generator once.
    """
    split_by_labels: dict[bytes, str] = {}
    return {
        name: split_by_labels.setdefault(labels[name].key(), split_of_name(name, fold))
        # Generators that may be held out come first.
        for name in sorted(labels, key=lambda name: (_number(name) >= HELD_OUT_AMONG, name))
    }


def split_of_name(name: str, fold: int = 0) -> str:
    """Return the split of a generator that shares its labels with no other."""
    number = _number(name)
    return "train" if number >= HELD_OUT_AMONG else _PATTERN[(number + fold) % len(_PATTERN)]


def _number(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def named_by_zoo(name: str) -> bool:
    """Return whether a name is that of a zoo generator, FAMILY-NUMBER."""
    return name.rsplit("-", 1)[0] in FAMILIES
