"""The test set of the repository: redistributable pictures, and no regression of the shipped bundle."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeparse.backends.select import create
from edgeparse.bundle import open_bundle
from tests.training.public_data import write_data
from training.data.dataset import Collection
from training.data.index.records import read
from training.data.public_sets import Split
from training.data.sources import read_pixels
from training.evaluate import testset
from training.evaluate.model_parsing import Attributes
from training.evaluate.predict import Predictions
from training.evaluate.results import is_measured_on
from training.evaluate.summary_metrics import CONDITIONS, VariantOutputs, degradations, zoo_points_lost
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of which every set is for test."""
    folder = write_data(tmp_path / "data", count=3)
    monkeypatch.setattr(testset, "split", lambda pictures: Split([], [], list(pictures), []))
    monkeypatch.setattr(testset, "PUBLIC_PICTURES", 2)
    return folder


def set_licences(folder: Path, **licences: str) -> None:
    with (folder / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"licence": licences.get(row["set"], "none stated")} for row in rows)


def test_choose_takes_what_is_clearly_free(data: Path) -> None:
    free = {"muse__muse-model": "CC BY 4.0", "sd1": "MIT (repository); pictures' licence not stated"}
    # A picture that shows a photo needs that photo's licence too; photos and restored pictures are not taken.
    set_licences(data, **free, **{"taef2-reconstruction": "MIT", "fsrcnn-x2": "MIT", "urban100": "CC0"})
    assert [picture.set.name for picture in testset.choose(data)] == ["muse__muse-model"] * 2
    set_licences(data, **{"taef2-reconstruction": "MIT", "cq100": "CC BY-SA 4.0"})
    assert [picture.set.name for picture in testset.choose(data)] == ["taef2-reconstruction"] * 2


def test_public_pictures_are_replaced_and_the_zoo_is_kept(data: Path, tmp_path: Path) -> None:
    set_licences(data, **{"muse__muse-model": "CC BY 4.0"})
    testset.write(data, testset.FILE, tmp_path / "new.zip")
    before, after = testset.load_testset(), testset.load_testset(tmp_path / "new.zip")

    def zoo(collection: Collection) -> list[tuple[str, bytes]]:
        sources = collection.sources
        return [(sources[s.source].name, s.pixels.tobytes()) for s in collection.samples if sources[s.source].zoo]

    assert zoo(after) == zoo(before)
    public = [sample for sample in after.samples if not after.sources[sample.source].zoo]
    assert {after.sources[sample.source].name for sample in public} == {"muse__muse-model"}
    assert np.array_equal(public[0].pixels, read_pixels(data / "generated/muse__muse-model/0.webp"))
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        licences = archive.read(testset.LICENCES_NAME).decode()
    assert "`muse__muse-model`: muse__muse-model/repository, CC BY 4.0." in licences


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
    outputs = {c: {"camera": camera, "zoo": generated, "public": generated} for c in CONDITIONS}
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


def test_losses_of_the_zoo_ignore_public_metrics() -> None:
    before = {"detection_zoo_auc_as_is": 0.9, "detection_public_auc_as_is": 0.9, "continuous_l1": 0.1}
    now = {"detection_zoo_auc_as_is": 0.89, "detection_public_auc_as_is": 0.5, "continuous_l1": 0.115}
    assert zoo_points_lost(before, now) == pytest.approx(1.5)


def test_archive_is_redistributable_and_small() -> None:
    with testset.unpacked() as path, zipfile.ZipFile(testset.FILE) as archive:
        index, names = read(path), set(archive.namelist())
        licences = archive.read(testset.LICENCES_NAME).decode()
    for entry in index.entries:
        source = index.sources[entry.source]
        assert source.labels is None or source.split == "test"
        assert f"`{entry.source if entry.group is None else entry.group.split('/')[0]}`" in licences
    assert names == {entry.place.file.name for entry in index.entries} | {testset.INDEX_NAME, testset.LICENCES_NAME}
    assert testset.FILE.stat().st_size <= 10e6


def test_shipped_bundle_has_no_regression() -> None:
    kept = json.loads(testset.RESULT.read_text())
    bundle = open_bundle()
    assert all(is_measured_on(identity, bundle) for identity in kept["measured"])
    variant = bundle.default_variant
    found = VariantOutputs.run(bundle, create("cpu", bundle, variant), testset.load_testset()).figures()
    assert testset.regressions(kept["figures"][variant], found) == {}
    assert found["detection_zoo_auc_as_is"] > 0.5
