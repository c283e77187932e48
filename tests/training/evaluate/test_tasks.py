"""What an evaluation reads and checks, and the gains of model parsing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeparse.bundle import open_bundle
from tests.conftest import edit_manifest
from tests.synthetic_collection import synthetic_collection
from training.data.dataset import Collection, Generator
from training.data.index.records import Entry, Index, Place, source_key
from training.evaluate import model_parsing
from training.evaluate.attribution import (
    MANY,
)
from training.evaluate.model_parsing import GAINS, Attributes
from training.evaluate.predict import first_pictures
from training.evaluate.results import write_result
from training.evaluate.run import compact
from training.evaluate.tasks import check_splits, select_entries
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels


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


def test_select_entries_keeps_exactly_the_evaluated_pictures() -> None:
    """In the same order."""
    collection = synthetic_collection()
    sources = {source_key(source): source for source in collection.sources}
    keys = list(sources)
    entries = [
        Entry(Place(Path(f"{i}.png")), keys[sample.source], sample.split, sample.photo, None, made=sample.made)
        for i, sample in enumerate(collection.samples)
    ]
    kept = select_entries(Index(sources, entries), "test", (3, 2, 1)).entries
    numbers = [int(entry.place.file.stem) for entry in kept]
    narrowed = Collection(collection.sources, [collection.samples[i] for i in numbers])
    queries: list[tuple[dict[str, Any], int | None]] = [
        ({"split": "test", "camera": True, "zoo": True}, None),
        ({"split": "test", "camera": True, "zoo": False}, None),
        *(({"split": "test", "camera": False, "zoo": zoo, "source_split": "test"}, None) for zoo in (True, False)),
        ({"split": "test", "camera": False, "zoo": False, "source_split": "train"}, None),
        ({"split": "test", "camera": False, "zoo": True, "source_split": "train"}, 2),
        ({"split": "train", "camera": False, "zoo": True, "source_split": "train"}, 3),
        ({"split": "train", "camera": False, "zoo": True, "source_split": "test"}, MANY),
    ]
    needed = []
    for question, count in queries:
        before, after = (first_pictures(of.select(**question), count or 10**6) for of in (collection, narrowed))
        assert before
        assert list(map(id, before)) == list(map(id, after))
        needed += before
    assert sorted(map(id, needed)) == sorted(map(id, narrowed.samples))


def test_compact_keeps_details_of_main_conditions_only() -> None:
    found = {"auc": 0.5, "by_generator": {"sd1": 0.5}}
    evaluation = {
        "split": "test",
        "detection_zoo": {"mixed": found, "blur 0.7": found},
        "enrolment_zoo": {"edited": [None]},
    }
    assert compact(evaluation) == evaluation | {"detection_zoo": {"mixed": found, "blur 0.7": {"auc": 0.5}}}


def test_results_round_to_six_digits(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", {"a": [1 / 3, 12, None], "b": {"c": 1234567.8}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [0.333333, 12, None], "b": {"c": 1234570.0}}


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
