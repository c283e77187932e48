"""Nothing but a generator's trace may tell the classes apart; each check finds the fault that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import noise
from tests.training.public_data import write_data
from training.data import leakage
from training.data.augment import encode
from training.data.dataset import Collection, Generator, Sample
from training.data.public_sets import Split, read_pictures
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


def test_formats_that_differ_between_the_classes_are_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_data(tmp_path, count=8)
    pictures = [picture for picture in read_pictures(folder) if picture.set.role in ("camera", "generated")]
    monkeypatch.setattr(leakage, "split", lambda _: Split(pictures, pictures, [], []))
    # The photos of this folder are JPEG, and its generators' pictures are not.
    assert leakage.format_floor(folder) > 0.99
    for picture in pictures:
        Image.fromarray(noise(64, 64)).save(folder / picture.file, "PNG")
    assert leakage.format_floor(folder) == 0.5
