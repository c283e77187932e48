"""All tasks, evaluated on pictures of generators and photos that training never saw.

The tasks are detection, attribution, comparing two pictures, enrolment, and model parsing.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from edgeparse.gallery import Gallery
from edgeparse.manifest import Calibration, SameGenerator
from edgeparse.postprocess import calibrated, verdict
from training import metrics
from training.data.dataset import Collection, Sample
from training.data.index.records import Entry, Index
from training.evaluate.attribution import (
    ENROLLED,
    MANY,
    attribution_metrics,
    centroids,
    enrolment_metrics,
    same_generator_metrics,
)
from training.evaluate.model_parsing import ParsingLabels, parsing_metrics
from training.evaluate.predict import (
    CONDITIONS,
    Predictions,
    first_pictures,
    native_windows,
    predict,
    with_photo_content,
)
from training.zoo.files import named_by_zoo

# Pictures of each of the zoo's training generators: to put it into a gallery, to query it in the conditions of
# `MAIN_CONDITIONS`, and to query it in the others.
KNOWN_ZOO = (50, 20, 4)
MAIN_CONDITIONS = ("mixed", "clean")


class FittedBundle(ParsingLabels, Protocol):
    """The part of a bundle that was fitted on validation pictures."""

    @property
    def calibration(self) -> Calibration | None:
        """Calibration and thresholds of detection and attribution."""

    @property
    def same(self) -> SameGenerator | None:
        """Calibration of pairs of pictures."""


def detection_metrics(
    camera: Predictions, generated: Predictions, collection: Collection, calibration: Calibration
) -> dict[str, object]:
    """Return the metrics of detection, in total, by generator and by photo source."""
    probability = {
        name: np.array([calibrated(float(x), calibration) for x in p.logit])
        for name, p in (("camera", camera), ("generated", generated))
    }
    verdicts = {
        name: np.array([verdict(float(p), calibration) for p in values]) for name, values in probability.items()
    }
    photos = {collection.sources[i].name: camera.rows_of([i]) for i in np.unique(camera.source)}
    pictures = {collection.sources[i].name: generated.rows_of([i]) for i in np.unique(generated.source)}
    truth = np.r_[np.zeros(len(probability["camera"])), np.ones(len(probability["generated"]))]
    at_half = ((probability["camera"] < 0.5).mean() + (probability["generated"] >= 0.5).mean()) / 2
    # A photo counts as right unless it is called generated.
    at_threshold = ((verdicts["camera"] != "generated").mean() + (verdicts["generated"] == "generated").mean()) / 2
    return {
        "auc": metrics.auc(camera.logit, generated.logit),
        "auc_interval": metrics.interval_over_groups(
            lambda rows: metrics.auc(camera.logit, generated.logit[rows]), generated.source
        ),
        "average_precision": metrics.average_precision(camera.logit, generated.logit),
        "balanced_accuracy_at_half": float(at_half),
        "balanced_accuracy": float(at_threshold),
        "calibration_error": metrics.expected_calibration_error(
            np.r_[probability["camera"], probability["generated"]], truth
        ),
        **{kind: _verdict_shares(of_kind) for kind, of_kind in verdicts.items()},
        "camera_called_generated_by_source": {
            name: float((verdicts["camera"][rows] == "generated").mean()) for name, rows in photos.items()
        },
        "camera_pictures_by_source": {name: len(rows) for name, rows in photos.items()},
        "by_generator": {
            name: {
                "auc": metrics.auc(camera.logit, generated.logit[rows]),
                "called_generated": float((verdicts["generated"][rows] == "generated").mean()),
            }
            for name, rows in pictures.items()
        },
        "pictures": {"camera": len(camera.source), "generated": len(generated.source)},
    }


def _verdict_shares(verdicts: np.ndarray) -> dict[str, float]:
    return {word: float((verdicts == word).mean()) for word in ("camera", "inconclusive", "generated")}


class _Evaluator:
    """Runs all tasks in one condition after the other, and collects the results by task."""

    def __init__(
        self,
        bundle: FittedBundle,
        run: Callable[[list[Sample], str], Predictions],
        gallery: Gallery,
        collection: Collection,
        split: str,
        known_zoo: tuple[int, int, int],
        many: int,
    ) -> None:
        assert bundle.calibration is not None
        self.bundle, self.calibration, self.run = bundle, bundle.calibration, run
        self.gallery, self.collection, self.many = gallery, collection, many
        select = partial(collection.select, split=split)
        self.samples = {
            "crops": select(camera=True, zoo=True),
            "photos": select(camera=True, zoo=False),
            "zoo": select(camera=False, zoo=True, source_split=split),
            "public": select(camera=False, zoo=False, source_split=split),
        }
        self.known_public = select(camera=False, zoo=False, source_split="train")
        self.known_zoo = select(camera=False, zoo=True, source_split="train")
        self.zoo_queries = known_zoo[1:]
        known = collection.select(split="train", camera=False, zoo=True, source_split="train")
        self.zoo_gallery: Gallery | None = None
        if known:
            enrolled = run(first_pictures(known, known_zoo[0]), "mixed")
            self.zoo_gallery = centroids(with_photo_content(enrolled, collection), collection)
        unseen = collection.select(split="train", camera=False, zoo=True, source_split=split)
        photo_content = [sample for sample in unseen if collection.sources[sample.source].has_photo_content()]
        self.other_photos = first_pictures(photo_content, many)
        self.families = {
            i: source.labels.family or ""
            for i, source in enumerate(collection.sources)
            if source.zoo and source.labels is not None
        }
        self.found: dict[str, dict[str, object]] = defaultdict(dict)

    def evaluate(self, condition: str) -> None:
        """Run all tasks in one condition."""
        collection, found = self.collection, self.found
        p = {name: self.run(samples, condition) for name, samples in self.samples.items()}
        for kind, camera in (("zoo", p["crops"]), ("public", p["photos"])):
            found[f"detection_{kind}"][condition] = detection_metrics(camera, p[kind], collection, self.calibration)
        found["parsing"][condition] = parsing_metrics(p["zoo"], collection, self.bundle)
        compared = {"zoo": with_photo_content(p["zoo"], collection), "public": p["public"]}
        for kind, predictions in compared.items():
            found[f"same_generator_{kind}"][condition] = same_generator_metrics(predictions, self.bundle.same)
            found[f"enrolment_{kind}"][condition] = self._enrolment(kind, predictions, condition)
        found["same_generator_of_family"][condition] = same_generator_metrics(
            compared["zoo"], self.bundle.same, kinds=self.families
        )
        self._attribution(compared, condition)

    def _enrolment(self, kind: str, predictions: Predictions, condition: str) -> list[dict[str, object] | None]:
        enrol = partial(enrolment_metrics, predictions, self.gallery, self.calibration)
        found = [enrol(pictures) for pictures in ENROLLED]
        if condition in MAIN_CONDITIONS and self.other_photos:
            others = self.run(self.other_photos, condition) if kind == "zoo" else None
            found.append(enrol(self.many, others))
        return found

    def _attribution(self, unknown: dict[str, Predictions], condition: str) -> None:
        collection, found = self.collection, self.found
        if self.known_public:
            known = self.run(self.known_public, condition)
            found["attribution_public"][condition] = attribution_metrics(
                self.gallery, known, unknown["public"], collection, self.calibration.known
            )
        if self.zoo_gallery is not None:
            count = self.zoo_queries[0 if condition in MAIN_CONDITIONS else 1]
            known = with_photo_content(self.run(first_pictures(self.known_zoo, count), condition), collection)
            found["attribution_zoo"][condition] = attribution_metrics(
                self.zoo_gallery, known, unknown["zoo"], collection, None
            )


def evaluate(
    bundle: FittedBundle,
    backend: Backend,
    gallery: Gallery,
    collection: Collection,
    split: str,
    conditions: Sequence[str] = CONDITIONS,
    frame: Callable[[np.ndarray], np.ndarray] = native_windows,
    known_zoo: tuple[int, int, int] = KNOWN_ZOO,
    many: int = MANY,
) -> dict[str, object]:
    """Evaluate all tasks in several conditions.

    Args:
        bundle: what was fitted on validation pictures.
        backend: the network to run.
        gallery: the known public generators.
        collection: all pictures.
        split: "val" or "test". Photos and unknown generators are those of the split.
        conditions: see `training.evaluate.predict.CONDITIONS`.
        frame: cuts a picture into windows.
        known_zoo: see `KNOWN_ZOO`.
        many: enrol unseen generators also with this many pictures, in `MAIN_CONDITIONS`; 0 to skip.

    Returns:
        The metrics by task and condition.
    """

    def run(samples: list[Sample], condition: str) -> Predictions:
        return predict(backend, samples, condition, frame)

    evaluator = _Evaluator(bundle, run, gallery, collection, split, known_zoo, many)
    for condition in conditions:
        evaluator.evaluate(condition)
    return {"split": split, **evaluator.found}


def select_entries(index: Index, split: str, known_zoo: tuple[int, int, int] = KNOWN_ZOO) -> Index:
    """Return the index without pictures that `evaluate` does not read. They would fill memory: two thirds of the zoo."""
    counts: Counter[tuple[str, str]] = Counter()
    in_gallery, *queries = known_zoo

    def is_needed(entry: Entry) -> bool:
        source = index.sources[entry.source]
        if source.labels is None:
            return entry.split == split
        if source.split not in (split, "train") or entry.split not in (split, "train"):
            return False
        unseen = source.split == split
        if not source.zoo or (unseen and (entry.split == split or not source.has_photo_content())):
            return entry.split == split
        counts[entry.source, entry.split] += 1
        limit = MANY if unseen else max(queries) if entry.split == split else in_gallery
        return counts[entry.source, entry.split] <= limit

    return replace(index, entries=[entry for entry in index.entries if is_needed(entry)])


def check_splits(bundle: Bundle, collection: Collection) -> None:
    """Check that every generator is in the split that it had when the bundle was trained.

    Training generators of the zoo may be missing: a zoo of fewer rounds has the same ones for validation and test.

    Raises:
        ValueError: a generator changed its split, is new, or is missing.
    """
    fields = json.loads((bundle.folder / "bundle.json").read_text())
    trained = fields["training"]["generators"]
    now = {source.name: source.split for source in collection.sources if source.labels is not None}
    moved = {name for name, split in now.items() if trained.get(name) != split}
    moved |= {n for n in trained.keys() - now.keys() if trained[n] != "train" or not named_by_zoo(n)}
    if moved:
        raise ValueError(
            f"generators must be in the splits of bundle {bundle.label}, but these are not: "
            f"{', '.join(sorted(moved)[:10])}; use the index that the bundle was trained with"
        )
