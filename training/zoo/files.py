"""The files of a built zoo: which are finished, what is kept in them, which pass the quality rule, and who is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.labels import Labels


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
