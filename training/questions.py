"""How well each question is answered of pictures of generators and photos that training never saw: camera or generated, which generator,
one or two, and what it is like inside.

The bundle is run as its users run it: by the runtime's own windows, backend and aggregation.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from edgeparse.backends.base import Backend
from edgeparse.bundle import Bundle, Calibration, Loss, Parameter, SameGenerator
from edgeparse.gallery import Gallery
from edgeparse.readout import calibrated, sigmoid, verdict
from training import metrics
from training import parsing as insides
from training.data.dataset import Collection
from training.data.index.records import Entry, Index
from training.enrolment import ENROLLED, MANY, centroids, enrolment
from training.labels import Labels
from training.predictions import CONDITIONS, Predictions, few, native, predict, with_photos_content
from training.zoo.files import named_by_zoo

# Pictures of each of hundreds of training generators that are enough for its place in a gallery; to try it, as they come and after a
# random chain; and to try it after anything else.
FEW, TRIED, TRIED_ELSEWHERE = 50, 20, 4
MOST_TRIED = ("mixed", "clean")


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
    photos = {collection.sources[i].name: camera.of([i]) for i in np.unique(camera.source)}
    by_generator = {
        collection.sources[i].name: {
            "auc": metrics.auc(camera.logit, generated.logit[generated.of([i])]),
            "called_generated": float((said["generated"][generated.of([i])] == "generated").mean()),
        }
        for i in np.unique(generated.source)
    }
    truth = np.r_[np.zeros(len(chance["camera"])), np.ones(len(chance["generated"]))]
    return {
        "auc": metrics.auc(camera.logit, generated.logit),
        "auc_interval": metrics.interval_over_groups(
            lambda rows: metrics.auc(camera.logit, generated.logit[rows]), generated.source
        ),
        "average_precision": metrics.average_precision(camera.logit, generated.logit),
        "balanced_accuracy_at_half": float(((chance["camera"] < 0.5).mean() + (chance["generated"] >= 0.5).mean()) / 2),
        # At the shipped threshold: of a photo any other word is right.
        "balanced_accuracy": float(
            ((said["camera"] != "generated").mean() + (said["generated"] == "generated").mean()) / 2
        ),
        "calibration_error": metrics.expected_calibration_error(np.r_[chance["camera"], chance["generated"]], truth),
        "camera": {word: float((said["camera"] == word).mean()) for word in ("camera", "inconclusive", "generated")},
        "generated": {
            word: float((said["generated"] == word).mean()) for word in ("camera", "inconclusive", "generated")
        },
        "camera_called_generated_by_source": {
            name: float((said["camera"][rows] == "generated").mean()) for name, rows in photos.items()
        },
        "camera_pictures_by_source": {name: len(rows) for name, rows in photos.items()},
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
    true, said = true_and_said(made, collection, bundle)
    known = insides.Answers.true(training_labels(collection))
    return {
        "generators": len(np.unique(made.source)),
        "pictures": len(made.source),
        "gain_intervals": {
            name: metrics.interval_over_groups(
                lambda rows, gain=gain: gain(true.of(rows), said.of(rows), known), made.source
            )
            for name, gain in insides.GAINS.items()
        },
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
    of_each: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "accuracy": lambda k, _: float(correct[k].mean()),
        "unknown_auroc": lambda k, u: metrics.auc(strange[u], score[k]),
        "oscr": lambda k, u: metrics.oscr(score[k], correct[k], strange[u]),
    }
    everyone = np.arange(len(score)), np.arange(len(strange))
    figures: dict[str, object] = {
        "known_generators": len(gallery.names),
        "known_pictures": len(score),
        "chance": 1 / len(gallery.names),
        **{name: figure(*everyone) for name, figure in of_each.items()},
        **{
            f"{name}_interval": metrics.interval_over_groups(figure, known.source, unknown.source)
            for name, figure in of_each.items()
        },
    }
    if threshold is not None:
        figures |= {
            "known_named": float((score >= threshold).mean()),
            "unknown_named": float((strange >= threshold).mean()),
        }
    return figures


def pairs_of(
    made: Predictions,
    seed: int = 0,
    count: int = 20_000,
    generators: np.ndarray | None = None,
    kinds: Mapping[int, str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of pictures, as many of one generator as of two: cosine of the embeddings, and whether one generator made both.

    Generators weigh alike, however many pictures each has, or as often as `generators`, sources, names them; those with one picture are
    left out. With `kinds`, each source's, two are of one kind, and a generator that is alone of its kind is left out. No pairs where
    fewer than two are left.
    """
    rng = np.random.default_rng(seed)
    rows = {int(i): members for i in np.unique(made.source) if len(members := made.of([i])) > 1}
    drawn = np.array([i for i in (np.unique(made.source) if generators is None else generators) if i in rows])
    kind = {i: kinds[i] if kinds else "" for i in rows}
    of_a_kind = Counter(kind[i] for i in np.unique(drawn))
    drawn = np.array([i for i in drawn if of_a_kind[kind[i]] > 1])
    if not len(drawn):
        return np.empty(0, np.float32), np.empty(0, bool)
    truth = np.arange(count) % 2 == 0
    drawn_kinds = np.array([kind[i] for i in drawn])
    place = rng.integers(len(drawn), size=count)
    # Drawn until the two differ, so that a generator that is named twice is no pair of two.
    beside = place.copy()
    while (again := ((drawn[beside] == drawn[place]) | (drawn_kinds[beside] != drawn_kinds[place])) & ~truth).any():
        beside[again] = rng.integers(len(drawn), size=int(again.sum()))
    one, other = drawn[place], drawn[beside]
    order = np.argsort(made.source, kind="stable")
    sources, starts, sizes = np.unique(made.source[order], return_index=True, return_counts=True)
    a, b = np.searchsorted(sources, one), np.searchsorted(sources, other)
    first = rng.integers(sizes[a])
    # Within one generator any but the first again.
    second = np.where(truth, (first + rng.integers(1, sizes[a])) % sizes[a], rng.integers(sizes[b]))
    vectors = made.embeddings()
    return (vectors[order[starts[a] + first]] * vectors[order[starts[b] + second]]).sum(1), truth


def same_generator(
    made: Predictions, same: SameGenerator | None = None, seed: int = 0, kinds: Mapping[int, str] | None = None
) -> dict[str, object] | None:
    """One picture against one: AUC of the cosine for pairs of one generator against pairs of two, of one kind each where there are
    `kinds`, with its interval over generators; and where the bundle is calibrated for comparing, how well. None where there are not two
    generators with two pictures."""
    score, truth = pairs_of(made, seed, kinds=kinds)
    if not len(score):
        return None

    def chance(cosine: np.ndarray) -> np.ndarray:
        assert same is not None
        return np.array([sigmoid(same.scale * x + same.bias) for x in cosine.astype(float)])

    names = np.unique(made.source)
    rng = np.random.default_rng(seed)
    redrawn = [pairs_of(made, draw, 2000, rng.choice(names, len(names)), kinds) for draw in range(200)]
    redrawn = [pairs for pairs in redrawn if len(pairs[0])]
    figures: dict[str, object] = {
        "auc": metrics.auc(score[~truth], score[truth]),
        "auc_interval": metrics.interval([metrics.auc(x[~equal], x[equal]) for x, equal in redrawn]),
        "generators": len(names),
        "pairs": len(score),
    }
    if same is not None:
        chances = chance(score)
        figures |= {
            "calibration_error": metrics.expected_calibration_error(chances, truth.astype(float)),
            "accuracy": float(((chances >= 0.5) == truth).mean()),
            "accuracy_interval": metrics.interval(
                [float(((chance(x) >= 0.5) == equal).mean()) for x, equal in redrawn]
            ),
            "same_called_same": float((chances[truth] >= same.threshold).mean()),
            "different_called_same": float((chances[~truth] >= same.threshold).mean()),
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
    known_zoo: tuple[int, int, int] = (FEW, TRIED, TRIED_ELSEWHERE),
    many: int = MANY,
) -> dict[str, object]:
    """Every figure on one split, "val" or "test". Camera photos are those of the split; generators those it alone has.

    Every figure has its own of each of `conditions`. The zoo's known generators are known by as many pictures each as `known_zoo` says
    first, and as many are tried as it says then: in the conditions `MOST_TRIED`, and in others. In `MOST_TRIED` unseen ones are also
    enrolled by as `many` pictures, the zoo's by some that show other photos; by 0 not at all. `frame` makes windows of a picture.
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
    enrolled_zoo = centroids(with_photos_content(look(enrolled, "mixed"), collection), collection) if enrolled else None
    unseen = collection.select(split="train", camera=False, zoo=True, source_split=split)
    other_photos = few([sample for sample in unseen if collection.sources[sample.source].shows_photos()], many)
    families = {i: s.labels.family for i, s in enumerate(collection.sources) if s.zoo and s.labels is not None}
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
        if condition in MOST_TRIED and other_photos:
            others = look(other_photos, condition)
            found["enrolment_zoo"][condition].append(
                enrolment(showing["zoo"], gallery, bundle.calibration, many, others)
            )
            found["enrolment_real"][condition].append(enrolment(showing["real"], gallery, bundle.calibration, many))
        found["same_generator_of_family"][condition] = same_generator(showing["zoo"], bundle.same, kinds=families)
        if seen_real:
            found["attribution_real"][condition] = attribution(
                gallery, look(seen_real, condition), p["real"], collection, bundle.calibration.known
            )
        if enrolled_zoo is not None:
            tried = few(seen_zoo, known_zoo[1] if condition in MOST_TRIED else known_zoo[2])
            made = with_photos_content(look(tried, condition), collection)
            found["attribution_zoo"][condition] = attribution(enrolled_zoo, made, showing["zoo"], collection, None)
    return {"split": split, **found}


def looked_at(index: Index, split: str, known_zoo: tuple[int, int, int] = (FEW, TRIED, TRIED_ELSEWHERE)) -> Index:
    """The index with no picture that `evaluate` leaves alone: two thirds of the zoo, which fill memory for nothing."""
    counts: Counter[tuple[str, str]] = Counter()
    of_a_gallery, *tried = known_zoo

    def is_seen(entry: Entry) -> bool:
        source = index.sources[entry.source]
        if source.labels is None:
            return entry.split == split
        if source.split not in (split, "train") or entry.split not in (split, "train"):
            return False
        unseen = source.split == split
        if not source.zoo or (unseen and (entry.split == split or not source.shows_photos())):
            return entry.split == split
        counts[entry.source, entry.split] += 1
        most = MANY if unseen else max(tried) if entry.split == split else of_a_gallery
        return counts[entry.source, entry.split] <= most

    return replace(index, entries=[entry for entry in index.entries if is_seen(entry)])


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
