"""The files of a built zoo: which are finished, what is kept in them, which pass the quality rule, and who is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.labels import FAMILIES, Labels


def generator_files(folder: Path) -> list[Path]:
    """Finished generators' files in a zoo, by name."""
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith(("photos", ".")))


def read_entry(path: Path) -> dict:
    """What is kept of a finished generator beside its pictures: config, labels, quality."""
    with np.load(path, allow_pickle=False) as file:
        entry: dict = json.loads(str(file["entry"]))
    return entry


def differences(pictures: np.ndarray) -> np.ndarray:
    """What a file keeps of pictures, uint8[N, S, S, 3]: each pixel less its left neighbour, modulo 256.

    As PNG's filter of this kind does, it lets the file's compression see that pixels are much like their neighbours: a quarter less.
    """
    return np.diff(pictures, axis=2, prepend=np.uint8(0))


def read_pictures(path: Path) -> np.ndarray:
    """A finished generator's pictures, uint8[N, S, S, 3]."""
    with np.load(path, allow_pickle=False) as file:
        kept: np.ndarray = np.cumsum(file["differences"], axis=2, dtype=np.uint8)
    return kept


def falls_short(entry: dict) -> bool:
    """Whether a generator's pictures are too poor: reconstructions below 20 dB; unconditional ones more than 2.0 from photos' mean log
    spectrum (photos of two halves differ by about 0.1, a flat colour by 5), or that differ from one another by less than 15 grey levels
    (photos by about 60)."""
    quality = entry["quality"]
    if "psnr_db" in quality:
        return quality["psnr_db"] < 20.0
    return quality["spectrum_distance"] > 2.0 or entry["variety"] < 15.0


def passes(entry: dict) -> bool:
    """The zoo's quality rule: one that does not fall short and does something. Of an attack's pictures at 78 dB, one value in a thousand
    is another than the photo's, by one grey level: they are photos."""
    return not falls_short(entry) and entry["quality"].get("psnr_db", 0.0) <= 50.0


# Generators of a family that a held-out one may be among; later ones are for training, but for one with the labels of a held-out one, so
# that a zoo that has grown is tested on the same generators as before.
HELD_OUT_AMONG = 50
_PATTERN = ("train", "train", "test", "train", "train", "val")


def zoo_splits(labels: dict[str, Labels], fold: int = 0) -> dict[str, str]:
    """Which zoo generators are trained on, validated on and tested on, balanced over families: of the first `HELD_OUT_AMONG` of a family
    two thirds, a sixth and a sixth; later ones are trained on.

    A name's number decides, so that a generator more or less moves no other. One with the same labels as another goes where that one is:
    else one side would know the other's answers. Each `fold` turns the pattern by one: over six of them every generator is a test one once
    that ever is.
    """
    of_labels: dict[bytes, str] = {}
    return {
        name: of_labels.setdefault(labels[name].key(), split_of_name(name, fold))
        # Those that may be held out come first.
        for name in sorted(labels, key=lambda name: (_number(name) >= HELD_OUT_AMONG, name))
    }


def split_of_name(name: str, fold: int = 0) -> str:
    """Where a generator goes whose labels no other one has."""
    number = _number(name)
    return "train" if number >= HELD_OUT_AMONG else _PATTERN[(number + fold) % len(_PATTERN)]


def _number(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def named_by_zoo(name: str) -> bool:
    """Whether a generator of a manifest, which tells names alone, is one of a zoo."""
    return name.rsplit("-", 1)[0] in FAMILIES
