"""The evaluation pack: only what may be shipped, as photos come, and the shipped bundle keeps its figures on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from tests.conftest import noise
from training import pack
from training.data.augment import Jpeg
from training.data.dataset import Generator, as_it_comes
from training.data.index.load import collect, load
from training.data.index.records import Entry, Index, Place, read
from training.headline import Measured, losses
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels
from training.parsing import Answers
from training.predictions import Predictions


def labels(family: str = "vae") -> Labels:
    return Labels(family, {"layers": 9}, {"up_sampling": "nearest"}, ("L1",))


SOURCES = {
    "zoo/cq100": Generator("cq100", None, True, "train"),
    "zoo/vae-000": Generator("vae-000", labels(), True, "train"),
    "zoo/vae-001": Generator("vae-001", labels(), True, "test"),
    "sd3.5-large": Generator("sd3.5-large", Labels("diffusion", {}, {}, None), False, "test"),
    "dalle-mini": Generator("dalle-mini", Labels("autoregressive", {}, {}, None), False, "test"),
    "zoo/gan-001": Generator("gan-001", Labels("gan", {}, {}, None), True, "test"),
}
# source, split, group, the place of the twin in this list.
PICTURES = [
    ("zoo/cq100", "test", "cq100/a.png", None),
    ("zoo/cq100", "test", "imagenet1k/b.jpg", None),
    ("zoo/cq100", "train", "cq100/c.png", None),
    ("zoo/cq100", "test", "dreambooth_unsplash/d.jpg", None),
    ("zoo/vae-000", "test", "cq100/a.png", 0),
    ("zoo/vae-001", "test", "cq100/a.png", 0),
    ("zoo/vae-001", "test", "imagenet1k/b.jpg", 1),
    ("zoo/vae-001", "test", "dreambooth_unsplash/d.jpg", 3),
    ("sd3.5-large", "test", None, None),
    ("dalle-mini", "test", None, None),
    ("zoo/gan-001", "test", None, None),
]
FREE = [0, 3, 5, 7, 8]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    places = [Place(tmp_path / f"{i}.png") for i in range(len(PICTURES))]
    for i, place in enumerate(places):
        Image.fromarray(noise(96, 96, i)).save(place.file)
    return Index(SOURCES, [entry(place, places, *picture) for place, picture in zip(places, PICTURES, strict=True)])


def entry(place: Place, places: list[Place], source: str, split: str, group: str | None, twin: int | None) -> Entry:
    made = SOURCES[source].labels is not None
    jpeg = Jpeg(90, 2) if made and group and group.endswith(".jpg") else None
    return Entry(place, source, split, group, None if twin is None else places[twin], made, jpeg)


def test_only_unseen_and_free_pictures_are_chosen(index: Index) -> None:
    assert [int(entry.place.file.stem) for entry in pack.choose(index)] == FREE


def test_a_pack_comes_back_as_an_evaluation_reads_the_pictures(index: Index, tmp_path: Path) -> None:
    pack.write(index, tmp_path / "pack")
    again = load(tmp_path / "pack" / "index.jsonl")
    assert [s.name for s in again.sources] == ["cq100", "vae-000", "vae-001", "sd3.5-large"]
    assert again.sources[1].labels == labels()
    assert again.sources[0].labels is None
    before = [sample for i, sample in enumerate(collect(index).samples) if i in FREE]
    for mine, theirs in zip(again.samples, before, strict=True):
        assert (mine.photo, mine.split, mine.made) == (theirs.photo, "test", False)
        # Neither saved as JPEG a second time, nor otherwise than in an evaluation on all pictures.
        assert np.array_equal(as_it_comes(mine), as_it_comes(theirs))
    # The first one's photo is lossless, the second one's a JPEG.
    assert {"002-vae-001.webp", "003-vae-001.jpg"} <= {path.name for path in (tmp_path / "pack").iterdir()}
    twins = [entry.twin and entry.twin.file.name for entry in read(tmp_path / "pack" / "index.jsonl").entries]
    assert twins[2:4] == ["000-cq100.webp", "001-cq100.webp"]


def test_zoo_generators_get_as_many_pictures_as_there_is_room_for(index: Index) -> None:
    sizes = {entry.place: 10 for entry in index.entries}
    assert len(pack.fitting(index, sizes, 50)) == 5
    assert [entry.source for entry in pack.fitting(index, sizes, 49)].count("zoo/vae-001") == 1
    assert set(pack.choose(index, 1)) < set(pack.choose(index, 2))
    with pytest.raises(ValueError, match="lower PHOTOS"):
        pack.fitting(index, sizes, 39)


def test_a_fall_of_more_than_a_point_is_a_fault() -> None:
    before = {"auc": 0.9, "continuous_l1": 0.1}
    assert pack.fallen(before, {"auc": 0.895, "continuous_l1": 0.105}) == {}
    assert pack.fallen(before, {"auc": 0.95, "continuous_l1": 0.05}) == {}
    assert set(pack.fallen(before, {"auc": 0.88, "continuous_l1": 0.12})) == {"auc", "continuous_l1"}


def measured(error: float, seed: int, generators: int = 8, pictures: int = 10) -> Measured:
    """A network that knows everything, but for noise of that size in all that it says."""
    truth, errors = np.random.default_rng(0), np.random.default_rng(seed)
    source = np.repeat(np.arange(generators), pictures)
    names = ("family", "continuous", *DISCRETE, "losses")
    sizes = (len(FAMILIES), len(CONTINUOUS), *(len(values) for values in DISCRETE.values()), len(LOSSES))
    values = {name: truth.normal(size=(generators, size))[source] for name, size in zip(names, sizes, strict=True)}
    thresholds = dict.fromkeys(LOSSES, 0.5)
    true = Answers.said(values, thresholds)
    values |= {
        "embedding": truth.normal(size=(generators, 16))[source] + truth.normal(size=(len(source), 16)),
        "generated": np.full((len(source), 1), 1.0),
    }
    said = {name: value + error * errors.normal(size=value.shape) for name, value in values.items()}
    made = Predictions(said, source)
    camera = Predictions({"generated": error * errors.normal(size=(40, 1))}, np.full(40, 99))
    outputs = {c: {"camera": camera, "zoo": made, "real": made} for c in ("clean", "social media")}
    return Measured(outputs, true, Answers.said(said, thresholds))


def test_what_a_precision_loses_is_judged_against_chance() -> None:
    table = losses({"fp32": measured(0.5, 1), "same": measured(0.5, 1), "bad": measured(2.0, 2)}, draws=30)
    assert set(table) == {"same", "bad"}
    assert set(table["same"]) == set(measured(0.5, 1).figures())
    assert all(set(figure.values()) == {0.0} for figure in table["same"].values())
    for name, figure in table["bad"].items():
        assert figure["low"] <= figure["lost"] <= figure["high"], name
        assert figure["low"] > 0, name


def test_perfect_answers_have_perfect_figures() -> None:
    figures = measured(0.0, 1).figures()
    assert figures.pop("continuous_l1") == 0
    figures.pop("same_generator_auc")
    assert set(figures.values()) == {1.0}


def test_the_pack_may_be_shipped_and_is_small() -> None:
    index = read(pack.INDEX)
    for entry in index.entries:
        source = index.sources[entry.source]
        assert pack.may_ship(entry, source)
        assert source.labels is None or source.split == "test"
        assert entry.place.file.parent == pack.FOLDER
    named = {entry.place.file.name for entry in index.entries}
    assert {path.name for path in pack.FOLDER.iterdir()} == named | {"index.jsonl", "LICENCES.md"}
    assert sum(path.stat().st_size for path in pack.FOLDER.iterdir()) <= 19e6


def test_the_shipped_bundle_keeps_its_figures() -> None:
    kept = json.loads(pack.RESULT.read_text())
    bundle = open_bundle()
    assert kept["bundle_sha256"] == bundle.sha256
    variant = bundle.default_variant
    found = Measured.of(bundle, create("cpu", bundle, variant), load(pack.INDEX)).figures()
    assert pack.fallen(kept["figures"][variant], found) == {}
    assert found["detection_zoo_auc_clean"] > 0.5


@pytest.mark.parametrize("photo", ["bsds500/1.jpg", "urban100/2.png", "imagenet1k/3.jpg"])
def test_research_photos_are_never_shipped(photo: str) -> None:
    entry = Entry(Place(Path("1.webp")), "zoo/vae-001", "test", photo, None, True)
    assert not pack.may_ship(entry, SOURCES["zoo/vae-001"])
