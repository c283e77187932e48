"""Evaluate a bundle on generators and photos that training never saw: `python -m training.evaluate BUNDLE INDEX`.

The bundle is run as its users run it: by the runtime's own windows, backend and aggregation.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import click
import numpy as np

from edgeparse.backends.base import Backend
from edgeparse.backends.select import create
from edgeparse.bundle import Bundle, Calibration, Loss, Parameter, SameGenerator, open_bundle
from edgeparse.gallery import Gallery
from edgeparse.readout import calibrated, sigmoid, verdict
from training import metrics
from training import parsing as insides
from training.dataset import Collection
from training.enrolment import ENROLLED, centroids, enrolment
from training.index.load import load
from training.labels import Labels
from training.predictions import CONDITIONS, Predictions, few, native, predict, with_photos_content
from training.zoo.files import named_by_zoo

# Pictures of each of hundreds of training generators that are enough for its place in a gallery, and to try it.
FEW, TRIED = 50, 20
# Those in which it is looked for which known generator made a picture: seen ones are many, and the gallery's pictures are of "mixed".
NAMED = ("mixed", "clean")


class Fitted(Protocol):
    """What an evaluation takes of a bundle: all that was fitted on validation pictures."""

    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def same(self) -> SameGenerator | None: ...
    @property
    def continuous(self) -> tuple[Parameter, ...]: ...
    @property
    def losses(self) -> tuple[Loss, ...]: ...


def detection(
    camera: Predictions, generated: Predictions, collection: Collection, calibration: Calibration
) -> dict[str, object]:
    """Every figure of camera against generated."""
    chance = {
        name: np.array([calibrated(float(x), calibration) for x in p.logit])
        for name, p in (("camera", camera), ("generated", generated))
    }
    said = {name: np.array([verdict(float(p), calibration) for p in values]) for name, values in chance.items()}
    by_source = {
        collection.sources[i].name: float((said["camera"][camera.of([i])] == "generated").mean())
        for i in np.unique(camera.source)
    }
    by_generator = {
        collection.sources[i].name: {
            "auc": metrics.auc(camera.logit, generated.logit[generated.of([i])]),
            "called_generated": float((said["generated"][generated.of([i])] == "generated").mean()),
        }
        for i in np.unique(generated.source)
    }
    low, high = metrics.interval_over_groups(
        generated.source, lambda rows: metrics.auc(camera.logit, generated.logit[rows])
    )
    truth = np.r_[np.zeros(len(chance["camera"])), np.ones(len(chance["generated"]))]
    return {
        "auc": metrics.auc(camera.logit, generated.logit),
        "auc_interval": [low, high],
        "average_precision": metrics.average_precision(camera.logit, generated.logit),
        "balanced_accuracy_at_half": float(((chance["camera"] < 0.5).mean() + (chance["generated"] >= 0.5).mean()) / 2),
        "calibration_error": metrics.expected_calibration_error(np.r_[chance["camera"], chance["generated"]], truth),
        "camera": {word: float((said["camera"] == word).mean()) for word in ("camera", "inconclusive", "generated")},
        "generated": {
            word: float((said["generated"] == word).mean()) for word in ("camera", "inconclusive", "generated")
        },
        "camera_called_generated_by_source": by_source,
        "by_generator": by_generator,
        "pictures": {"camera": len(camera.source), "generated": len(generated.source)},
    }


def training_labels(collection: Collection) -> list[Labels]:
    """The labels of the zoo's training generators."""
    return [s.labels for s in collection.sources if s.labels is not None and s.split == "train" and s.zoo]


def labels_of(made: Predictions, collection: Collection) -> list[Labels]:
    """The labels of the generators of these pictures, one a picture."""
    return [label for i in made.source if (label := collection.sources[i].labels) is not None]


def _loss_thresholds(bundle: Fitted) -> dict[str, float]:
    return {loss.name: loss.threshold for loss in bundle.losses}


def true_and_said(made: Predictions, collection: Collection, bundle: Fitted) -> tuple[insides.Answers, insides.Answers]:
    """What is true of the generators of these pictures, and what the bundle says."""
    true = insides.Answers.true(labels_of(made, collection))
    return true, insides.Answers.said(made.values, _loss_thresholds(bundle))


def parsing(made: Predictions, collection: Collection, bundle: Fitted) -> dict[str, object]:
    """Architecture and losses of unseen zoo generators beside what is known of them without looking."""
    return {
        "generators": len(np.unique(made.source)),
        "pictures": len(made.source),
        **insides.figures(
            made.values,
            labels_of(made, collection),
            training_labels(collection),
            {parameter.name: parameter.half_width for parameter in bundle.continuous},
            _loss_thresholds(bundle),
        ),
    }


def attribution(
    gallery: Gallery, known: Predictions, unknown: Predictions, collection: Collection, threshold: float | None
) -> dict[str, object]:
    """Known generators on pictures that training never saw, and generators that are in no gallery.

    With the `threshold` that was fitted for this gallery, also how many of each are named.
    """

    def nearest(p: Predictions) -> tuple[np.ndarray, np.ndarray]:
        similarity = p.embeddings() @ gallery.vectors.T
        return similarity.argmax(1), similarity.max(1)

    chosen, score = nearest(known)
    names = np.array([collection.sources[i].name for i in known.source])
    correct = np.array(gallery.names)[chosen] == names
    _, strange = nearest(unknown)
    figures: dict[str, object] = {
        "known_generators": len(gallery.names),
        "accuracy": float(correct.mean()),
        "chance": 1 / len(gallery.names),
        "unknown_auroc": metrics.auc(strange, score),
        "oscr": metrics.oscr(score, correct, strange),
    }
    if threshold is not None:
        figures |= {
            "known_named": float((score >= threshold).mean()),
            "unknown_named": float((strange >= threshold).mean()),
        }
    return figures


def pairs_of(
    made: Predictions, seed: int = 0, count: int = 20_000, generators: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of pictures, as many of one generator as of two: cosine of the embeddings, and whether one generator made both.

    Generators weigh alike, however many pictures each has, or as often as `generators`, sources, names them; those with one picture are
    left out. No pairs where fewer than two are left.
    """
    rng = np.random.default_rng(seed)
    rows = {int(i): members for i in np.unique(made.source) if len(members := made.of([i])) > 1}
    drawn = np.array([i for i in (np.unique(made.source) if generators is None else generators) if i in rows])
    if len(np.unique(drawn)) < 2:
        return np.empty(0, np.float32), np.empty(0, bool)
    truth = np.arange(count) % 2 == 0
    one = rng.choice(drawn, count)
    # Drawn until the two differ, so that a generator that is named twice is no pair of two.
    other = one.copy()
    while (again := (other == one) & ~truth).any():
        other[again] = rng.choice(drawn, int(again.sum()))
    order = np.argsort(made.source, kind="stable")
    sources, starts, sizes = np.unique(made.source[order], return_index=True, return_counts=True)
    a, b = np.searchsorted(sources, one), np.searchsorted(sources, other)
    first = rng.integers(sizes[a])
    # Within one generator any but the first again.
    second = np.where(truth, (first + rng.integers(1, sizes[a])) % sizes[a], rng.integers(sizes[b]))
    vectors = made.embeddings()
    return (vectors[order[starts[a] + first]] * vectors[order[starts[b] + second]]).sum(1), truth


def same_generator(made: Predictions, same: SameGenerator | None = None, seed: int = 0) -> dict[str, object] | None:
    """One picture against one: AUC of the cosine for pairs of one generator against pairs of two, with its interval over generators;
    and where the bundle is calibrated for comparing, how well. None where there are not two generators with two pictures."""
    score, truth = pairs_of(made, seed)
    if not len(score):
        return None
    names = np.unique(made.source)
    rng = np.random.default_rng(seed)
    draws = []
    for draw in range(200):
        cosine, equal = pairs_of(made, draw, 2000, rng.choice(names, len(names)))
        if len(cosine):
            draws.append(metrics.auc(cosine[~equal], cosine[equal]))
    figures: dict[str, object] = {
        "auc": metrics.auc(score[~truth], score[truth]),
        "auc_interval": [float(value) for value in np.percentile(draws, [2.5, 97.5])] if draws else None,
        "generators": len(names),
        "pairs": len(score),
    }
    if same is not None:
        chance = np.array([sigmoid(same.scale * x + same.bias) for x in score.astype(float)])
        figures |= {
            "calibration_error": metrics.expected_calibration_error(chance, truth.astype(float)),
            "accuracy": float(((chance >= 0.5) == truth).mean()),
            "same_called_same": float((chance[truth] >= same.threshold).mean()),
            "different_called_same": float((chance[~truth] >= same.threshold).mean()),
        }
    return figures


def evaluate(
    bundle: Fitted,
    backend: Backend,
    gallery: Gallery,
    collection: Collection,
    split: str,
    conditions: Sequence[str] = CONDITIONS,
    frame: Callable[[np.ndarray], np.ndarray] = native,
    known_zoo: tuple[int, int] = (FEW, TRIED),
) -> dict[str, object]:
    """Every figure on one split, "val" or "test". Camera photos are those of the split; generators those it alone has.

    Every figure has its own of each of `conditions`; naming known generators only of `NAMED`, the zoo's by as many
    pictures each as `known_zoo` says first, of which as many are tried as it says then. `frame` makes windows of a picture.
    """
    look = partial(predict, backend, frame=frame)
    crops = collection.select(split=split, camera=True, zoo=True)
    photos = collection.select(split=split, camera=True, zoo=False)
    zoo = collection.select(split=split, camera=False, zoo=True, source_split=split)
    real = collection.select(split=split, camera=False, zoo=False, source_split=split)
    seen_real, seen_zoo = (
        collection.select(split=split, camera=False, zoo=z, source_split="train") for z in (False, True)
    )
    enrolled = few(collection.select(split="train", camera=False, zoo=True, source_split="train"), known_zoo[0])
    enrolled_zoo = centroids(with_photos_content(look(enrolled, "mixed"), collection), collection)
    found: dict[str, dict[str, object]] = defaultdict(dict)
    for condition in conditions:
        p = {
            name: look(samples, condition)
            for name, samples in (("crops", crops), ("photos", photos), ("zoo", zoo), ("real", real))
        }
        found["detection_zoo"][condition] = detection(p["crops"], p["zoo"], collection, bundle.calibration)
        found["detection_real"][condition] = detection(p["photos"], p["real"], collection, bundle.calibration)
        found["parsing"][condition] = parsing(p["zoo"], collection, bundle)
        showing = {"zoo": with_photos_content(p["zoo"], collection), "real": p["real"]}
        for key, made in showing.items():
            found[f"same_generator_{key}"][condition] = same_generator(made, bundle.same)
            found[f"enrolment_{key}"][condition] = [
                enrolment(made, gallery, bundle.calibration, pictures) for pictures in ENROLLED
            ]
        if condition in NAMED:
            seen = look(seen_real, condition)
            if len(seen.source):
                found["attribution_real"][condition] = attribution(
                    gallery, seen, p["real"], collection, bundle.calibration.known
                )
            tried = with_photos_content(look(few(seen_zoo, known_zoo[1]), condition), collection)
            found["attribution_zoo"][condition] = attribution(enrolled_zoo, tried, showing["zoo"], collection, None)
    return {"split": split, **found}


def check_splits(bundle: Bundle, collection: Collection) -> None:
    """That no generator has changed sides since the bundle was trained, and that none is new. Of the zoo's that it was trained on some may
    be missing: a zoo of fewer rounds has the same ones for validation and test.

    Raises:
        ValueError: one has, is new, or is missing; the zoo was built or filtered otherwise.
    """
    fields = json.loads((bundle.folder / "bundle.json").read_text())
    trained = fields["training"]["generators"]
    now = {source.name: source.split for source in collection.sources if source.labels is not None}
    moved = {name for name, split in now.items() if trained.get(name) != split}
    moved |= {n for n in trained.keys() - now.keys() if trained[n] != "train" or not named_by_zoo(n)}
    if moved:
        raise ValueError(
            f"these generators are not on the side where bundle {bundle.label} had them: {', '.join(sorted(moved)[:10])}"
        )


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--split", type=click.Choice(["val", "test"]), default="test", show_default=True)
@click.option("--variant", help="Precision to run; by default the bundle's choice for the CPU.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the JSON here instead of to standard output."
)
def main(folder: Path, index: Path, split: str, variant: str | None, output: Path | None) -> None:
    """Evaluate BUNDLE on the pictures of INDEX that its training never saw."""
    bundle = open_bundle(folder)
    assert bundle.gallery is not None
    backend = create("cpu", bundle, variant)
    collection = load(index)
    check_splits(bundle, collection)
    gallery = Gallery.load(bundle.read(bundle.gallery))
    result = evaluate(bundle, backend, gallery, collection, split)
    result |= {"bundle": bundle.label, "bundle_sha256": bundle.sha256, "variant": variant or bundle.default_variant}
    text = json.dumps(result, indent=1)
    if output:
        output.write_text(text + "\n")
    else:
        click.echo(text)


if __name__ == "__main__":
    main()
