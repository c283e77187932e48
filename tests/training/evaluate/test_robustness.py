"""Detection on edited and on small pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeparse.backends.select import create
from edgeparse.bundle import default_folder, open_bundle
from tests.synthetic_collection import synthetic_collection
from training.data.dataset import Generator
from training.data.index.records import Entry, Index, Place
from training.evaluate import robustness
from training.evaluate.robustness import EDITS, ZOO_PICTURES, measure_edits, select_entries
from training.evaluate.run import SIZE_SPLITS


def test_edits_are_measured_on_zoo_and_public_pictures() -> None:
    bundle, collection = open_bundle(default_folder()), synthetic_collection()
    assert bundle.calibration is not None
    backend, seen = create("cpu", bundle, None), []

    class Counted:
        def run(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
            seen.append(len(windows))
            return backend.run(windows, outputs)

    edits = {name: EDITS[name] for name in ("none", "enlarged three times")}
    found = measure_edits(Counted(), collection, bundle.calibration, edits)  # type: ignore[arg-type]
    assert list(found) == list(edits)
    for of in found.values():
        for kind, zoo in (("zoo", True), ("public", False)):
            photos = len(collection.select(split="test", camera=True, zoo=zoo))
            made = len(collection.select(split="test", camera=False, zoo=zoo, source_split="test"))
            assert of[kind]["pictures"] == {"camera": photos, "generated": made}  # type: ignore[index]
            assert sum(of[kind]["camera"].values()) == pytest.approx(1)  # type: ignore[index]
    # A picture of 48 pixels has one window, and three times enlarged more.
    half = len(seen) // 2
    assert set(seen[:half]) == {1}
    assert min(seen[half:]) > 1


def test_sizes_are_measured_in_both_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, collection = open_bundle(default_folder()), synthetic_collection()
    assert bundle.calibration is not None
    backend = create("cpu", bundle, None)
    monkeypatch.setattr(robustness, "SIDES", (16, 40))
    for split in SIZE_SPLITS:
        found = robustness.measure_sizes(backend, collection, bundle.calibration, split)
        assert {how: list(sides) for how, sides in found.items()} == {"cropped": [16, 40], "shrunk": [16, 40]}
        photos = len(collection.select(split=split, camera=True, zoo=False))
        made = len(collection.select(split=split, camera=False, zoo=False, source_split=split))
        assert found["shrunk"][40]["public"]["pictures"] == {"camera": photos, "generated": made}


def test_small_pictures_are_cropped_or_shrunk() -> None:
    pixels = np.arange(60 * 90 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 90, 3)
    assert np.array_equal(robustness.crop_centre(pixels, 20), pixels[20:40, 35:55])
    assert robustness.shrink(pixels, 20).shape == (20, 30, 3)
    assert robustness.shrink(pixels.swapaxes(0, 1), 20).shape == (30, 20, 3)


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_changes_the_pixels(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8)
    edited = EDITS[name].apply(pixels)
    assert edited.dtype == np.uint8
    assert edited.ndim == 3
    assert edited.shape[2] == 3
    assert np.array_equal(edited, EDITS[name].apply(pixels))
    assert np.array_equal(edited, pixels) == (name == "none")


def test_select_entries_keeps_few_pictures_of_unseen_generators() -> None:
    labels = synthetic_collection().sources[-1].labels
    sources = {
        "zoo/photos": Generator("photos", None, True, "train"),
        "photos": Generator("photos", None, False, "train"),
        "zoo/seen": Generator("seen", labels, True, "train"),
        "zoo/unseen": Generator("unseen", labels, True, "test"),
        "unseen": Generator("unseen", labels, False, "test"),
        "seen": Generator("seen", labels, False, "train"),
    }
    entries = [
        Entry(Place(Path("a.npz"), i), key, split, None, None, True)
        for i in range(ZOO_PICTURES + 2)
        for key in sources
        for split in ("train", "test")
    ]
    kept = Counter(entry.source for entry in select_entries(Index(sources, entries)).entries)
    assert kept == {
        "zoo/photos": ZOO_PICTURES + 2,
        "photos": ZOO_PICTURES + 2,
        "zoo/unseen": ZOO_PICTURES,
        "unseen": ZOO_PICTURES + 2,
    }
