"""The test set of the repository: redistributable pictures, and no regression of the shipped bundle."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from tests.conftest import noise
from training.data.augment import Jpeg
from training.data.dataset import Generator, photo_encoded
from training.data.index.load import collect
from training.data.index.records import Entry, Index, Place, read
from training.evaluate import testset
from training.evaluate.model_parsing import Attributes
from training.evaluate.predict import Predictions
from training.evaluate.results import is_measured_on
from training.evaluate.summary_metrics import VariantOutputs, degradations
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels


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


def test_choose_takes_unseen_redistributable_pictures(index: Index) -> None:
    assert [int(entry.place.file.stem) for entry in testset.choose(index)] == FREE


def test_archive_round_trip_gives_the_evaluated_pixels(index: Index, tmp_path: Path) -> None:
    testset.write(index, tmp_path / "testset.zip")
    again = testset.load_testset(tmp_path / "testset.zip")
    assert [s.name for s in again.sources] == ["cq100", "vae-000", "vae-001", "sd3.5-large"]
    assert again.sources[1].labels == labels()
    assert again.sources[0].labels is None
    before = [sample for i, sample in enumerate(collect(index).samples) if i in FREE]
    for mine, theirs in zip(again.samples, before, strict=True):
        assert (mine.photo, mine.split, mine.made) == (theirs.photo, "test", False)
        # The same pixels as in an evaluation on all pictures, and no second JPEG.
        assert np.array_equal(photo_encoded(mine), photo_encoded(theirs))
    # The first one's photo is lossless, the second one's a JPEG.
    with zipfile.ZipFile(tmp_path / "testset.zip") as archive:
        assert {"002-vae-001.webp", "003-vae-001.jpg"} <= set(archive.namelist())
    with testset.unpacked(tmp_path / "testset.zip") as path:
        twins = [entry.twin and entry.twin.file.name for entry in read(path).entries]
    assert twins[2:4] == ["000-cq100.webp", "001-cq100.webp"]


def test_choose_fitting_uses_the_available_bytes(index: Index) -> None:
    sizes = {entry.place: 10 for entry in index.entries}
    assert len(testset.choose_fitting(index, sizes, 50)) == 5
    assert [entry.source for entry in testset.choose_fitting(index, sizes, 49)].count("zoo/vae-001") == 1
    assert set(testset.choose(index, 1)) < set(testset.choose(index, 2))
    with pytest.raises(ValueError, match="lower PHOTOS"):
        testset.choose_fitting(index, sizes, 39)


def test_regressions_exceed_a_point() -> None:
    before = {"auc": 0.9, "continuous_l1": 0.1}
    assert testset.regressions(before, {"auc": 0.895, "continuous_l1": 0.105}) == {}
    assert testset.regressions(before, {"auc": 0.95, "continuous_l1": 0.05}) == {}
    assert set(testset.regressions(before, {"auc": 0.88, "continuous_l1": 0.12})) == {"auc", "continuous_l1"}


def measured(error: float, seed: int, generators: int = 8, pictures: int = 10) -> VariantOutputs:
    """A network that knows everything, but for noise of that size in all that it says."""
    truth, errors = np.random.default_rng(0), np.random.default_rng(seed)
    source = np.repeat(np.arange(generators), pictures)
    names = ("family", "continuous", *DISCRETE, "losses")
    sizes = (len(FAMILIES), len(CONTINUOUS), *(len(values) for values in DISCRETE.values()), len(LOSSES))
    values = {name: truth.normal(size=(generators, size))[source] for name, size in zip(names, sizes, strict=True)}
    thresholds = dict.fromkeys(LOSSES, 0.5)
    true = Attributes.from_outputs(values, thresholds)
    values |= {
        "embedding": truth.normal(size=(generators, 16))[source] + truth.normal(size=(len(source), 16)),
        "generated": np.full((len(source), 1), 1.0),
    }
    predicted = {name: value + error * errors.normal(size=value.shape) for name, value in values.items()}
    generated = Predictions(predicted, source)
    camera = Predictions({"generated": error * errors.normal(size=(40, 1))}, np.full(40, 99))
    outputs = {c: {"camera": camera, "zoo": generated, "public": generated} for c in ("clean", "social media")}
    return VariantOutputs(outputs, true, Attributes.from_outputs(predicted, thresholds))


def test_degradations_have_intervals() -> None:
    table = degradations({"fp32": measured(0.5, 1), "same": measured(0.5, 1), "bad": measured(2.0, 2)}, draws=30)
    assert set(table) == {"same", "bad"}
    assert set(table["same"]) == set(measured(0.5, 1).figures())
    assert all(set(figure.values()) == {0.0} for figure in table["same"].values())
    for name, figure in table["bad"].items():
        assert figure["low"] <= figure["lost"] <= figure["high"], name
        assert figure["low"] > 0, name


def test_perfect_predictions_have_perfect_metrics() -> None:
    figures = measured(0.0, 1).figures()
    assert figures.pop("continuous_l1") == 0
    figures.pop("same_generator_auc")
    assert set(figures.values()) == {1.0}


def test_archive_is_redistributable_small_and_even() -> None:
    with testset.unpacked() as path:
        index = read(path)
    for entry in index.entries:
        source = index.sources[entry.source]
        assert testset.may_redistribute(entry, source)
        assert source.labels is None or source.split == "test"
    named = {entry.place.file.name for entry in index.entries}
    with zipfile.ZipFile(testset.FILE) as archive:
        assert set(archive.namelist()) == named | {testset.INDEX_NAME, testset.LICENCES_NAME}
    assert testset.FILE.stat().st_size <= 10e6
    counts = Counter(entry.source for entry in index.entries if index.sources[entry.source].zoo)
    generators = [count for source, count in counts.items() if index.sources[source].labels is not None]
    # Thinned evenly; a few generators have fewer pictures that may be redistributed.
    assert max(generators) == np.median(generators)


def test_shipped_bundle_has_no_regression() -> None:
    kept = json.loads(testset.RESULT.read_text())
    bundle = open_bundle()
    assert all(is_measured_on(identity, bundle) for identity in kept["measured"])
    variant = bundle.default_variant
    found = VariantOutputs.run(bundle, create("cpu", bundle, variant), testset.load_testset()).figures()
    assert testset.regressions(kept["figures"][variant], found) == {}
    assert found["detection_zoo_auc_clean"] > 0.5


@pytest.mark.parametrize("photo", ["bsds500/1.jpg", "urban100/2.png", "imagenet1k/3.jpg"])
def test_research_photos_are_never_redistributed(photo: str) -> None:
    entry = Entry(Place(Path("1.webp")), "zoo/vae-001", "test", photo, None, True)
    assert not testset.may_redistribute(entry, SOURCES["zoo/vae-001"])
