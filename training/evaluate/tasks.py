"""All tasks, evaluated on pictures of sources that training never saw.

The tasks are detection, attribution, comparing two pictures, enrolment, and model parsing. Figures are shares or areas
from 0 to 1; every `NAME_interval` is the 95 % interval of `NAME` over sources, since pictures of one source are alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle
from edgeparse.gallery import Gallery
from edgeparse.manifest import Calibration
from edgeparse.postprocess import calibrated, verdict
from training import metrics
from training.data.augment import CONDITIONS
from training.data.dataset import Collection, Sample
from training.data.index.records import Entry, Index
from training.data.public_sets import read_sets
from training.evaluate.attribution import (
    ENROLLED,
    attribution_metrics,
    enrolment_metrics,
    same_generator_metrics,
)
from training.evaluate.model_parsing import parsing_metrics
from training.evaluate.predict import Predictions, predict, with_photo_content
from training.evaluate.public_parsing import public_parsing_metrics
from training.zoo.files import named_by_zoo

# Condition of attribution, comparing, enrolment and parsing of public generators: it takes away the file format, which
# says much about a set.
PUBLIC_CONDITION = "JPEG q90"
ZOO_CONDITION = "mixed"
# A category of photos needs this many pictures to be judged.
MIN_CATEGORY = 30
# A generator below this AUC counts as unseen by the detector.
LOW_AUC = 0.6


def detection_metrics(
    camera: Predictions, generated: Predictions, collection: Collection, calibration: Calibration
) -> dict[str, Any]:
    """Return the metrics of detection, in total, by generator, by photo source and by category of photos."""
    verdicts = {
        name: np.array([verdict(calibrated(float(x), calibration), calibration) for x in p.logit])
        for name, p in (("camera", camera), ("generated", generated))
    }
    by_generator = {
        collection.sources[i].name: {
            "pictures": len(rows := generated.rows_of([i])),
            "auc": metrics.auc(camera.logit, generated.logit[rows]),
            "called_generated": float((verdicts["generated"][rows] == "generated").mean()),
        }
        for i in np.unique(generated.source)
    }
    low = sum(found["auc"] < LOW_AUC for found in by_generator.values())
    accused = verdicts["camera"] == "generated"
    categories = _by_category(accused, camera, collection)
    judged = {name: found for name, found in categories.items() if found["pictures"] >= MIN_CATEGORY}
    worst = max(judged, key=lambda name: judged[name]["accused"], default=None)
    return {
        "auc": metrics.auc(camera.logit, generated.logit),
        "auc_interval": metrics.interval_over_groups(
            lambda c, g: metrics.auc(camera.logit[c], generated.logit[g]), camera.source, generated.source
        ),
        **_share("called_generated", verdicts["generated"] == "generated", generated),
        **_share("accused", accused, camera),
        **_share("inconclusive_camera", verdicts["camera"] == "inconclusive", camera),
        **_share("inconclusive_generated", verdicts["generated"] == "inconclusive", generated),
        "low_auc": low / len(by_generator),
        "low_auc_interval": metrics.interval_of_fraction(low, len(by_generator)),
        "worst_category": None if worst is None else {"name": worst, **judged[worst]},
        "by_category": categories,
        "by_generator": by_generator,
        "by_photo_source": {
            collection.sources[i].name: {"pictures": len(rows), "accused": float(accused[rows].mean())}
            for i in np.unique(camera.source)
            for rows in [camera.rows_of([i])]
        },
        "pictures": {"camera": len(camera.source), "generated": len(generated.source)},
        "sources": {"camera": len(np.unique(camera.source)), "generated": len(by_generator)},
    }


def _share(name: str, holds: np.ndarray, predictions: Predictions) -> dict[str, Any]:
    """Return the share of pictures, bool[P], for which something holds, with its interval over sources."""
    return {
        name: float(holds.mean()),
        f"{name}_interval": metrics.interval_over_groups(lambda rows: float(holds[rows].mean()), predictions.source),
    }


def _by_category(accused: np.ndarray, camera: Predictions, collection: Collection) -> dict[str, dict[str, Any]]:
    sets = read_sets()
    names = [collection.sources[i].name for i in camera.source]
    category = np.array([sets[name].category if name in sets else "other" for name in names])
    return {
        str(name): {
            "pictures": int(rows.sum()),
            "accused": float(accused[rows].mean()),
            "accused_interval": metrics.interval_of_fraction(int(accused[rows].sum()), int(rows.sum())),
        }
        for name in np.unique(category)
        for rows in [category == name]
    }


def evaluate(
    bundle: Bundle,
    backend: Backend,
    gallery: Gallery,
    collection: Collection,
    split: str,
    conditions: Sequence[str] = tuple(CONDITIONS),
) -> dict[str, Any]:
    """Evaluate all tasks.

    Args:
        bundle: holds what was fitted on validation pictures.
        backend: the network to run.
        gallery: the known public generators.
        collection: all pictures.
        split: "val" or "test". Photos and unknown generators are those of the split.
        conditions: of detection, see `training.data.augment.CONDITIONS`.

    Returns:
        `detection` by condition; `attribution`, `lineages`, `same_generator`, `enrolment` and `parsing` of public
        generators in `PUBLIC_CONDITION`; and all of these of the zoo in `zoo`, if the collection has one.
    """
    assert bundle.calibration is not None
    select = partial(collection.select, split=split)
    photos = select(camera=True, zoo=False)
    public = select(camera=False, zoo=False, source_split=split)
    known = select(camera=False, zoo=False, source_split="train")
    run = partial(predict, backend)
    found: dict[str, Any] = {"split": split, "detection": {}}
    for condition in conditions:
        camera, generated = (run(samples, condition, outputs=["generated"]) for samples in (photos, public))
        found["detection"][condition] = detection_metrics(camera, generated, collection, bundle.calibration)
    single = _of_single_generators(run(public, PUBLIC_CONDITION), collection)
    if known:
        queries = _of_single_generators(run(known, PUBLIC_CONDITION), collection)
        found |= _attribution(gallery, queries, single, collection, bundle.calibration)
    found |= {
        "same_generator": same_generator_metrics(single, bundle.same),
        "enrolment": enrolment_metrics(single, gallery, bundle.calibration, ENROLLED),
        "parsing": public_parsing_metrics(single, gallery, collection),
    }
    if collection.select(split=split, camera=False, zoo=True, source_split=split):
        found["zoo"] = _zoo(bundle, run, gallery, select, collection, split)
    return found


def _of_single_generators(predictions: Predictions, collection: Collection) -> Predictions:
    """Leave out the pictures of sets that several generators made."""
    sets = read_sets()
    names = (collection.sources[i].name for i in predictions.source)
    return predictions.take(np.array([name not in sets or not sets[name].mixed for name in names], bool))


def _attribution(
    gallery: Gallery, known: Predictions, unknown: Predictions, collection: Collection, calibration: Calibration
) -> dict[str, Any]:
    """Return how well known generators are named, and their lineages."""
    lineage = {name: one.lineage for name, one in read_sets().items()}

    def among(names: Sequence[str], label: Callable[[str], str], threshold: float | None) -> dict[str, Any] | None:
        places = [i for i, name in enumerate(gallery.names) if name in names]
        if not places:
            return None
        part = Gallery(tuple(gallery.names[i] for i in places), gallery.vectors[places])
        queries = known.take(np.array([collection.sources[i].name in part.names for i in known.source], bool))
        if not len(queries.source):
            return None
        return attribution_metrics(part, queries, unknown, collection, threshold, label)

    with_lineage = [name for name in gallery.names if lineage.get(name)]
    return {
        "attribution": among(gallery.names, str, calibration.known),
        "lineages": among(with_lineage, lambda name: lineage[name], None),
    }


def _zoo(
    bundle: Bundle,
    run: Callable[..., Predictions],
    gallery: Gallery,
    select: Callable[..., list[Sample]],
    collection: Collection,
    split: str,
) -> dict[str, Any]:
    assert bundle.calibration is not None
    crops = run(select(camera=True, zoo=True), ZOO_CONDITION, outputs=["generated"])
    generated = run(select(camera=False, zoo=True, source_split=split), ZOO_CONDITION)
    compared = with_photo_content(generated, collection)
    return {
        "detection": detection_metrics(crops, generated, collection, bundle.calibration),
        "same_generator": same_generator_metrics(compared, bundle.same),
        "enrolment": enrolment_metrics(compared, gallery, bundle.calibration, ENROLLED),
        "parsing": parsing_metrics(generated, collection, bundle),
    }


def select_entries(index: Index, split: str) -> Index:
    """Return the index without pictures that `evaluate` does not read; they would fill memory."""

    def is_needed(entry: Entry) -> bool:
        source = index.sources[entry.source]
        known = source.split == "train" and not source.zoo
        return entry.split == split and (source.labels is None or source.split == split or known)

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
