"""What an evaluation reads and checks, its figures, and the gains of model parsing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeparse.bundle import open_bundle
from edgeparse.gallery import Gallery
from edgeparse.manifest import Calibration
from tests.conftest import edit_manifest
from tests.synthetic_collection import synthetic_collection
from training.data.augment import CONDITIONS
from training.data.dataset import Collection, Generator
from training.data.index.records import Entry, Index, Place, source_key
from training.evaluate import model_parsing, tasks
from training.evaluate.model_parsing import GAINS, Attributes
from training.evaluate.predict import HEADS, Predictions
from training.evaluate.tasks import check_splits, detection_metrics, evaluate, select_entries
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels

# Probability is the sigmoid of the logit; camera below 0.3, generated from 0.7.
CALIBRATION = Calibration(1.0, 0.0, 0.3, 0.7, known=0.5, enrolled=0.5, cohort_weight=0.0)


def logits(values: list[float], source: list[int]) -> Predictions:
    return Predictions({"generated": np.array(values, np.float32)[:, None]}, np.array(source))


def test_detection_metrics_count_verdicts_by_source_and_category(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = Labels(None, {}, {}, None)
    names = ("iphone7-bark__alicevision", "camvid-dashcam", "nowhere")
    cameras = [Generator(name, None, False, "train") for name in names]
    collection = Collection([*cameras, *(Generator(n, unknown, False, "val") for n in ("easy", "hard"))], [])
    monkeypatch.setattr(tasks, "MIN_CATEGORY", 2)
    camera = logits([-2, -2, -2, 2, 0], [0, 0, 1, 1, 2])
    found = detection_metrics(camera, logits([3, 3, -3, -3], [3, 3, 4, 4]), collection, CALIBRATION)
    assert (found["accused"], found["inconclusive_camera"]) == (0.2, 0.2)
    assert (found["called_generated"], found["inconclusive_generated"]) == (0.5, 0.0)
    assert {name: one["auc"] for name, one in found["by_generator"].items()} == {"easy": 1.0, "hard": 0.0}
    assert (found["auc"], found["low_auc"]) == (0.5, 0.5)
    assert found["by_photo_source"]["camvid-dashcam"] == {"pictures": 2, "accused": 0.5}
    # One picture of category "other" is too few.
    assert (found["worst_category"]["name"], found["worst_category"]["accused"]) == ("video_or_surveillance", 0.5)
    low, high = found["auc_interval"]
    assert (low, high) == (0.0, 1.0)


class Knowing:
    """A network that reads the source's number off a picture's first pixel."""

    def run(self, windows: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        made = windows[:, 0, 0, 0].astype(int)
        sizes = {
            "embedding": 64,
            "generated": 1,
            "family": len(FAMILIES),
            "continuous": len(CONTINUOUS),
            "losses": len(LOSSES),
        }
        sizes |= {name: len(values) for name, values in DISCRETE.items()}
        values = {name: np.zeros((len(windows), size), np.float32) for name, size in sizes.items()}
        values["embedding"][:, :] = np.eye(64)[made]
        values["generated"][:, 0] = np.where(made > 9, 4.0, -4.0)
        return {name: values[name] for name in outputs}


def test_a_network_that_knows_every_source_is_right_everywhere(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.augment.CONDITIONS", dict.fromkeys(CONDITIONS, lambda pixels: pixels))
    monkeypatch.setattr("training.evaluate.predict.CHAINS", {})
    monkeypatch.setattr(tasks, "ZOO_CONDITION", "as is")
    collection = synthetic_collection(zoo=False)
    for sample in collection.samples:
        source = collection.sources[sample.source]
        sample.pixels = np.full((48, 48, 3), sample.source + (10 if source.labels else 0), np.uint8)
    known = [i for i, source in enumerate(collection.sources) if source.labels and source.split == "train"]
    vectors = np.eye(64, dtype=np.float32)[[i + 10 for i in known]]
    gallery = Gallery(tuple(collection.sources[i].name for i in known), vectors)
    bundle = replace(open_bundle(bundle_copy), calibration=CALIBRATION)
    found = evaluate(bundle, Knowing(), gallery, collection, "test", ("as is", "social chain"))  # type: ignore[arg-type]
    for condition in ("as is", "social chain"):
        assert found["detection"][condition]["auc"] == found["detection"][condition]["called_generated"] == 1
    assert found["attribution"]["accuracy"] == found["attribution"]["unknown_auroc"] == 1
    assert found["lineages"]["accuracy"] == 1
    assert found["lineages"]["known"] < found["attribution"]["known"]
    assert found["same_generator"]["auc"] == 1
    assert "zoo" not in found
    assert set(HEADS) >= {"embedding", "generated"}


def test_gains_are_means_over_attributes() -> None:
    rng = np.random.default_rng(3)
    collection = synthetic_collection()
    labels = [source.labels for source in collection.sources if source.labels is not None and source.zoo]
    assert len({label.family for label in labels}) > 1
    known, rows = labels[: len(labels) // 2], [labels[i] for i in rng.integers(len(labels), size=40)]
    values = {"family": rng.normal(size=(40, len(FAMILIES))), "losses": rng.normal(size=(40, len(LOSSES)))}
    values |= {"continuous": rng.random((40, len(CONTINUOUS)))}
    values |= {name: rng.normal(size=(40, len(choices))) for name, choices in DISCRETE.items()}
    limits = dict.fromkeys(LOSSES, 0.5)
    figures = model_parsing.attribute_metrics(values, rows, known, dict.fromkeys(CONTINUOUS, 0.1), limits)
    true, predicted, trained = (
        Attributes.from_labels(rows),
        Attributes.from_outputs(values, limits),
        Attributes.from_labels(known),
    )
    continuous: Any = figures["continuous"]
    l1, median_l1 = (np.mean([found[key] for found in continuous.values()]) for key in ("l1", "median_l1"))
    assert GAINS["continuous"](true, predicted, trained) == pytest.approx(100 * (1 - l1 / median_l1), abs=1e-4)
    for group in ("discrete", "losses"):
        attributes: Any = figures[group]
        gains = [found["macro_f1"] - found["mode_macro_f1"] for found in attributes.values()]
        assert GAINS[group](true, predicted, trained) == pytest.approx(np.mean(gains))


def test_select_entries_keeps_the_split_and_known_public_generators() -> None:
    collection = synthetic_collection()
    sources = {source_key(source): source for source in collection.sources}
    keys = list(sources)
    entries = [
        Entry(Place(Path(f"{i}.png")), keys[sample.source], sample.split, sample.photo, None, made=sample.made)
        for i, sample in enumerate(collection.samples)
    ]
    kept = select_entries(Index(sources, entries), "test").entries
    assert {entry.split for entry in kept} == {"test"}
    zoo = {sources[entry.source].split for entry in kept if sources[entry.source].zoo and sources[entry.source].labels}
    public = {
        sources[entry.source].split for entry in kept if not sources[entry.source].zoo and sources[entry.source].labels
    }
    assert (zoo, public) == ({"test"}, {"test", "train"})


def test_check_splits_rejects_a_moved_generator(bundle_copy: Path) -> None:
    edit_manifest(
        bundle_copy, lambda fields: fields["training"].update(generators={"vae-000": "train", "vae-001": "test"})
    )
    labels = Labels("vae", {}, {}, ())

    def collection(split: str) -> Collection:
        return Collection([Generator("vae-000", labels, True, "train"), Generator("vae-001", labels, True, split)], [])

    check_splits(open_bundle(bundle_copy), collection("test"))
    with pytest.raises(ValueError, match="vae-001"):
        check_splits(open_bundle(bundle_copy), collection("train"))
    # A zoo of fewer rounds lacks some that are for training alone; none that is held out, and no public one.
    sources = collection("test").sources
    check_splits(open_bundle(bundle_copy), Collection(sources[1:], []))
    with pytest.raises(ValueError, match="vae-001"):
        check_splits(open_bundle(bundle_copy), Collection(sources[:1], []))
    with pytest.raises(ValueError, match="vae-002"):
        check_splits(open_bundle(bundle_copy), Collection([*sources, Generator("vae-002", labels, True, "train")], []))
    edit_manifest(bundle_copy, lambda fields: fields["training"]["generators"].update(sd1="train"))
    with pytest.raises(ValueError, match="sd1"):
        check_splits(open_bundle(bundle_copy), Collection(sources, []))
