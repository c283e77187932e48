"""Retrained generators: which ones, what changes, and how their pictures are saved."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tests.conftest import noise
from tests.synthetic_collection import labels
from training.data.augment import Jpeg
from training.data.dataset import Generator
from training.data.index.records import Entry, Index, Place
from training.experiments import retrained_generators
from training.zoo.files import differences
from training.zoo.space import Config, draw

JPEG = Jpeg(83, 2)


def generator_file(path: Path, config: Config, twins: list[int]) -> Path:
    pictures = np.stack([noise(16, 16, twin) for twin in twins])
    entry = np.array(json.dumps({"config": asdict(config)}))
    np.savez_compressed(path, differences=differences(pictures), twins=twins, splits=["test"] * len(twins), entry=entry)
    return path


def made_index(folder: Path) -> tuple[Index, Config]:
    """A test VAE with pictures of photos 0 and 1, one of training, and a GAN; photos 0 to 2 of a set."""
    config = draw(7, 0, ["vae"])[2]
    sources = {
        "zoo/set": Generator("set", None, True, "train"),
        "zoo/vae-002": Generator("vae-002", labels("vae", 2), True, "test"),
        "zoo/vae-003": Generator("vae-003", labels("vae", 3), True, "train"),
        "zoo/gan-002": Generator("gan-002", labels("gan", 4), True, "test"),
    }
    photos = folder / "photos-16.npz"
    entries = [Entry(Place(photos, i), "zoo/set", "test", f"set/{i}.jpg", None, made=False) for i in range(3)]
    file = generator_file(folder / "vae-002.npz", config, [0, 1])
    for key in list(sources)[1:]:
        for i in (1, 2) if key == "zoo/vae-003" else (0, 1):
            of = (f"set/{i}.jpg", Place(photos, i)) if "vae" in key else (None, None)
            entries.append(Entry(Place(file, i), key, "test", *of, made=True, jpeg=JPEG))
    return Index(sources, entries), config


def test_choose_takes_test_generators_that_show_photos(tmp_path: Path) -> None:
    index, _ = made_index(tmp_path)
    entries = retrained_generators.choose(index)
    assert {key: len(of_one) for key, of_one in entries.items()} == {"zoo/vae-002": 2}


def test_reseeded_changes_only_the_seed(tmp_path: Path) -> None:
    config = made_index(tmp_path)[1]
    other = retrained_generators.reseeded(config)
    assert {key for key, value in asdict(other).items() if value != asdict(config)[key]} == {"seed"}


def test_with_retrained_saves_both_generators_alike(tmp_path: Path) -> None:
    index, config = made_index(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    # The second one is shown other photos; of one of them the first made no picture.
    generator_file(other / "vae-002.npz", retrained_generators.reseeded(config), [1, 2])
    found = retrained_generators.with_retrained(index, retrained_generators.choose(index), other)
    assert [source.name for source in found.sources.values()] == ["vae-002", "vae-002 trained again"]
    shown = [(entry.source, entry.group, entry.jpeg) for entry in found.entries]
    again = "zoo/vae-002 trained again"
    assert shown == [
        ("zoo/vae-002", "set/0.jpg", JPEG),
        ("zoo/vae-002", "set/1.jpg", JPEG),
        (again, "set/1.jpg", JPEG),
        (again, "set/2.jpg", JPEG),
    ]
    assert {entry.place.file for entry in found.entries[2:]} == {other / "vae-002.npz"}
