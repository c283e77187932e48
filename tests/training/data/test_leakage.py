"""Nothing but a generator's trace may tell the classes apart; each check finds the fault that it is for."""

from __future__ import annotations

import numpy as np
import pytest
from training.data.sampler import Batches

from tests.conftest import noise
from training.data import leakage
from training.data.augment import encode
from training.data.dataset import CHAINS, Collection, Generator, Sample, add_variants
from training.labels import Labels


def copies(count: int = 12, *, lossless: bool) -> Collection:
    """Photos, and a generator that changes nothing; its pictures come lossless, photos as JPEG where not `lossless`."""
    labels = Labels("vae", {}, {}, ())
    collection = Collection([Generator("set", None, True, "train"), Generator("copy", labels, True, "train")], [])
    for i in range(count):
        pixels = noise(160, 160, i)
        photo = pixels if lossless else encode(pixels, "JPEG", 85)
        collection.samples.append(Sample(photo, 0, "train", f"set/{i}.png"))
        collection.samples.append(Sample(photo, 1, "train", f"set/{i}.png", made=False))
    return collection


def test_a_generator_that_changes_nothing_cannot_be_told_from_its_photos() -> None:
    collection = copies(lossless=True)
    add_variants(collection.samples[::2], CHAINS, 1)
    add_variants(collection.samples[1::2], 4, 1)
    # Photos without a twin fill up the camera class; here every one has its twin.
    windows, sources = Batches(collection, 1, generators=1, pictures=12)()
    made = sorted(window.tobytes() for window, source in zip(windows, sources, strict=True) if source == 1)
    taken = sorted(window.tobytes() for window, source in zip(windows, sources, strict=True) if source == 0)
    assert len(made) == 12
    assert made == taken


def test_generated_pictures_come_as_photos_do() -> None:
    """A lossless copy's JPEG traces after the chain are like those of a photo that came as JPEG."""
    collection = copies(40, lossless=False)
    for sample in collection.samples[1::2]:
        sample.made = True
    aucs = leakage.format_aucs(collection, pictures=40)
    assert aucs["height"] == pytest.approx(0.5, abs=0.05)
    assert aucs["blockiness"] == pytest.approx(0.5, abs=0.2)


def test_blockiness_finds_jpeg() -> None:
    assert leakage.blockiness(encode(noise(128, 128), "JPEG", 20)) > leakage.blockiness(noise(128, 128)) + 0.05


def test_contents_and_labels_on_two_sides_are_found() -> None:
    collection = copies(3, lossless=True)
    assert leakage.shared_contents(collection) == []
    collection.samples[1].split = "test"
    assert leakage.shared_contents(collection) == ["set/0.png"]
    assert leakage.shared_labels(collection) == []
    collection.sources.append(Generator("copy-2", collection.sources[1].labels, True, "test"))
    assert leakage.shared_labels(collection) == [("copy", "copy-2")]


def test_near_duplicates_are_found() -> None:
    collection = Collection([Generator("set", None, False, "train"), Generator("crops", None, True, "train")], [])
    for name, pixels in (("a", noise(96, 96, 1)), ("b", encode(noise(96, 96, 1), "JPEG", 60)), ("c", noise(96, 96, 9))):
        collection.samples.append(Sample(pixels, 0, "train" if name == "a" else "test", f"set/{name}.png"))
    # A crop of the zoo is near its own photo and says nothing new.
    collection.samples.append(Sample(noise(96, 96, 9), 1, "train", "set/c.png"))
    assert leakage.near_duplicates(collection) == [("set/a.png", "set/b.png")]
    for sample in collection.samples:
        sample.split = "train"
    assert leakage.near_duplicates(collection) == []


def test_windows_keep_their_type() -> None:
    collection = copies(lossless=True)
    add_variants(collection.samples, CHAINS, 1)
    windows, sources = Batches(collection, 2, generators=1, pictures=4)()
    assert windows.dtype == np.uint8
    assert windows.shape == (8, 128, 128, 3)
    assert sources.tolist().count(1) == 4
