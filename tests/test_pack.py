"""The evaluation pack: only what may be shipped, and the shipped bundle keeps its figures on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeparse.bundle import open_bundle
from tests.conftest import noise
from training import pack
from training.dataset import Collection, Generator, Sample
from training.labels import Labels


def collection() -> Collection:
    labels = Labels("vae", {"layers": 9}, {"up_sampling": "nearest"}, ("L1",))
    sources = [
        Generator("cq100", None, True, "train"),
        Generator("vae-000", labels, True, "train"),
        Generator("vae-001", labels, True, "test"),
        Generator("sd3.5-large", Labels("diffusion", {}, {}, None), False, "test"),
        Generator("dalle-mini", Labels("autoregressive", {}, {}, None), False, "test"),
        Generator("gan-001", Labels("gan", {}, {}, None), True, "test"),
    ]
    samples = [
        Sample(noise(96, 96, 1), 0, "test", "cq100/a.png"),
        Sample(noise(96, 96, 2), 0, "test", "imagenet1k/b.jpg"),
        Sample(noise(96, 96, 3), 0, "train", "cq100/c.png"),
        Sample(noise(96, 96, 4), 1, "test", "cq100/a.png", made=True),
        Sample(noise(96, 96, 5), 2, "test", "cq100/a.png", made=True),
        Sample(noise(96, 96, 6), 2, "test", "imagenet1k/b.jpg", made=True),
        Sample(noise(96, 96, 7), 3, "test", made=True),
        Sample(noise(96, 96, 8), 4, "test", made=True),
        Sample(noise(96, 96, 9), 5, "test", made=True),
    ]
    return Collection(sources, samples)


def test_only_unseen_and_free_pictures_are_chosen() -> None:
    full = collection()
    picked = pack.choose(full)
    chosen = [i for i, sample in enumerate(full.samples) if any(sample is one for one in picked)]
    assert chosen == [0, 4, 6]


def test_a_pack_comes_back_as_it_was_written(tmp_path: Path) -> None:
    full = collection()
    pack.write(full, tmp_path / "pack")
    again = pack.load(tmp_path / "pack")
    assert [s.name for s in again.sources] == ["cq100", "vae-000", "vae-001", "sd3.5-large"]
    assert again.sources[1].labels == full.sources[1].labels
    assert again.sources[0].labels is None
    assert [(s.photo, s.made) for s in again.samples] == [
        ("cq100/a.png", False),
        ("cq100/a.png", True),
        (None, True),
    ]
    assert np.array_equal(again.samples[1].pixels, full.samples[4].pixels)


def test_a_fall_of_more_than_a_point_is_a_fault() -> None:
    before = {"auc": 0.9, "continuous_l1": 0.1}
    assert pack.fallen(before, {"auc": 0.895, "continuous_l1": 0.105}) == {}
    assert pack.fallen(before, {"auc": 0.95, "continuous_l1": 0.05}) == {}
    assert set(pack.fallen(before, {"auc": 0.88, "continuous_l1": 0.12})) == {"auc", "continuous_l1"}


def test_the_pack_may_be_shipped_and_is_small() -> None:
    index = json.loads((pack.FOLDER / "index.json").read_text())
    for entry in index["samples"]:
        source = index["sources"][entry["source"]]
        assert entry["photo"] is None or entry["photo"].split("/")[0] in pack.PHOTO_SETS
        assert entry["photo"] or source["name"] in pack.GENERATORS
        assert source["labels"] is None or source["split"] == "test"
    assert sum(path.stat().st_size for path in pack.FOLDER.iterdir()) <= 20e6


def test_the_shipped_bundle_keeps_its_figures() -> None:
    kept = json.loads(pack.RESULT.read_text())
    bundle, pictures = open_bundle(), pack.load()
    assert kept["bundle_sha256"] == bundle.sha256
    variant = bundle.default_variant
    found = pack.figures(bundle, variant, pictures)
    assert pack.fallen(kept["figures"][variant], found) == {}
    assert found["detection_zoo_auc_clean"] > 0.5


@pytest.mark.parametrize("photo", ["bsds500/1.jpg", "urban100/2.png", "imagenet1k/3.jpg"])
def test_research_photos_are_never_shipped(photo: str) -> None:
    assert not pack.may_ship(Sample(noise(8, 8), 0, "test", photo), Generator("vae-001", None, True, "test"))
