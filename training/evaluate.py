"""Evaluate a bundle on generators and photos that training never saw: `python -m training.evaluate BUNDLE INDEX`.

The bundle is run as its users run it: by the runtime's own windows, backend and aggregation.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import click
import numpy as np

from edgeparse import windows
from edgeparse.backends.base import Backend
from edgeparse.backends.select import create
from edgeparse.bundle import Bundle, Calibration, Loss, Parameter, SameGenerator, open_bundle
from edgeparse.gallery import Gallery, centre, usual
from edgeparse.readout import calibrated, sigmoid, unit, verdict
from training import codecs, metrics
from training import parsing as insides
from training.dataset import Collection, Sample, as_it_comes, chain_seed, through_chain
from training.index.load import load
from training.labels import DISCRETE, Labels

HEADS = ["embedding", "generated", "family", "continuous", *DISCRETE, "losses"]
WINDOWS = 8
# Pictures of each of hundreds of training generators that are enough for its place in a gallery, and to try it.
FEW, TRIED = 50, 20
# "mixed" is a random chain a picture; "as stored" leaves the classes the file formats that they came in.
CONDITIONS = ("mixed", "as stored", *codecs.CONDITIONS)
# Those in which it is looked for which known generator made a picture: seen ones are many, and the gallery's pictures are of "mixed".
NAMED = ("mixed", "clean")
# Pictures by which a generator is enrolled.
ENROLLED = (10, 25)
# Pictures of each generator of a gallery's background (training/results/tried.json: five times as many).
BACKGROUND = 10


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


@dataclass(frozen=True)
class Predictions:
    """Outputs averaged over each picture's windows, with each picture's source. `values[name]` is float32[P, K]."""

    values: dict[str, np.ndarray]
    source: np.ndarray

    def of(self, sources: Iterable[int]) -> np.ndarray:
        """Indices of the pictures of these sources."""
        return np.flatnonzero(np.isin(self.source, list(sources)))

    @property
    def logit(self) -> np.ndarray:
        return self.values["generated"][:, 0]

    def embeddings(self) -> np.ndarray:
        """Unit vectors, float32[P, D]."""
        return np.stack([unit(vector) for vector in self.values["embedding"]])


def evaluation_seed(sample: Sample, draw: int = 0) -> int:
    """Of a sample's chain in every evaluation: a photo and its twins meet the same. Training meets none of these, of whichever draw."""
    return chain_seed(sample.content(), 0, draw)


def native(pixels: np.ndarray, count: int = WINDOWS) -> np.ndarray:
    """A picture as the runtime shows it to a network: uint8[N, 128, 128, 3] at native resolution, N at most `count`."""
    return windows.cut(pixels, count).pixels


def predict(
    backend: Backend,
    samples: list[Sample],
    condition: str,
    frame: Callable[[np.ndarray], np.ndarray] = native,
    draw: int = 0,
    outputs: Sequence[str] = HEADS,
) -> Predictions:
    """Run pictures through a condition, or through a random chain each ("mixed", fixed by the content and `draw`).

    Generated pictures are first saved as photos come, except "as stored", where the classes' file formats differ.
    """

    def prepare(sample: Sample) -> np.ndarray:
        if condition == "mixed":
            pixels = through_chain(sample, evaluation_seed(sample, draw))
        elif condition == "as stored":
            pixels = sample.pixels
        else:
            pixels = codecs.CONDITIONS[condition](as_it_comes(sample))
        return frame(pixels)

    rows: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    with ThreadPoolExecutor(2) as pool:
        for cut in pool.map(prepare, samples):
            for name, value in backend.run(cut, outputs).items():
                rows[name].append(value.mean(axis=0))
    return Predictions({name: np.stack(row) for name, row in rows.items()}, np.array([s.source for s in samples]))


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


def with_photos_content(made: Predictions, collection: Collection) -> Predictions:
    """The predictions for pictures of generators that show photos."""
    rows = np.array([collection.sources[i].shows_photos() for i in made.source], bool)
    return Predictions({name: value[rows] for name, value in made.values.items()}, made.source[rows])


@dataclass(frozen=True)
class Near:
    """How near pictures come to names, float[P, N], and how near generators usually come to them (`gallery.usual`), float[P]."""

    similarity: np.ndarray
    usual: np.ndarray

    @staticmethod
    def of(embeddings: np.ndarray, centres: np.ndarray, background: np.ndarray) -> Near:
        return Near(embeddings @ centres.T, usual(background, embeddings))

    def beyond(self, enrolled: np.ndarray, calibration: Calibration) -> np.ndarray:
        """How much nearer every name comes than it needs to, float[P, N], by whether it is `enrolled`, bool[N]."""
        of_enrolled = np.array([calibration.needed(enrolled=True, usual=float(value)) for value in self.usual])
        of_own = calibration.needed(enrolled=False, usual=0.0)
        return self.similarity - np.where(enrolled, of_enrolled[:, None], of_own)


@dataclass(frozen=True)
class Enrolled:
    """Unseen generators enrolled in one draw, and pictures looked for among them: who made each query, int64[Q]; how near it comes to
    the names; the same of pictures of strangers; and every name's source, int64[N], -1 of a generator of the bundle's."""

    made_by: np.ndarray
    queries: Near
    strangers: Near
    names: np.ndarray


def enrolled_draws(
    made: Predictions, gallery: Gallery, pictures: int, *, known: int = 20, draws: int = 20, seed: int = 0
) -> Iterator[Enrolled]:
    """Generators that training never saw, enrolled by a few pictures each and then looked for among `known` names.

    In each draw two thirds of the generators are enrolled and fill the gallery up to `known` names with the bundle's own; the rest stay
    strangers. Queries are pictures that were not enrolled. Nothing where fewer than three generators have pictures to spare.
    """
    rng = np.random.default_rng(seed)
    vectors = made.embeddings()
    rows = {i: made.of([i]) for i in np.unique(made.source)}
    usable = [i for i in rows if len(rows[i]) > pictures]
    if len(usable) < 3:
        return
    enrolled = min(known, 2 * len(usable) // 3)
    own = min(known - enrolled, len(gallery.names))
    for _ in range(draws):
        order = rng.permutation(usable)
        members = {i: rng.permutation(rows[i]) for i in order[:enrolled]}
        beside = gallery.vectors[rng.choice(len(gallery.names), own, replace=False)] if own else gallery.vectors[:0]
        mine = np.stack([centre(vectors[drawn[:pictures]]) for drawn in members.values()])
        centres = np.concatenate([mine, beside.reshape(-1, mine.shape[1])])
        queries = np.concatenate([drawn[pictures:] for drawn in members.values()])
        strangers = np.concatenate([rows[i] for i in order[enrolled:]])
        yield Enrolled(
            made.source[queries],
            Near.of(vectors[queries], centres, gallery.background),
            Near.of(vectors[strangers], centres, gallery.background),
            np.array([*members, *np.full(own, -1)]),
        )


def enrolment(made: Predictions, gallery: Gallery, calibration: Calibration, pictures: int) -> dict[str, float] | None:
    """How well unseen generators are named once enrolled, as `gallery.identify` does, means of `enrolled_draws`; None where these are none.

    `unknown_auroc` is of how much nearer the first candidate comes than it needs to; the rates are of what is named at the threshold.
    """
    figures, names = [], np.empty(0)
    for draw in enrolled_draws(made, gallery, pictures):
        names = draw.names
        queries, strangers = (of.beyond(names >= 0, calibration) for of in (draw.queries, draw.strangers))
        near, far = queries.max(1), strangers.max(1)
        right = names[queries.argmax(1)] == draw.made_by
        figures.append(
            {
                # Generators weigh alike.
                "accuracy": np.mean([right[draw.made_by == i].mean() for i in names[names >= 0]]),
                "unknown_auroc": metrics.auc(far, near),
                "named_rightly": (right & (near >= 0)).mean(),
                "unknown_named": (far >= 0).mean(),
            }
        )
    if not figures:
        return None
    mean = {key: float(np.mean([figure[key] for figure in figures])) for key in figures[0]}
    return mean | {
        "pictures": pictures,
        "enrolled": int((names >= 0).sum()),
        "names": len(names),
        "draws": len(figures),
    }


def few(samples: list[Sample], count: int) -> list[Sample]:
    """The first `count` pictures of every source; which photos they show was drawn when they were made."""
    counts: dict[int, int] = {}
    chosen = []
    for sample in samples:
        counts[sample.source] = counts.get(sample.source, 0) + 1
        if counts[sample.source] <= count:
            chosen.append(sample)
    return chosen


def centroids(made: Predictions, collection: Collection) -> Gallery:
    """A gallery of mean embeddings, one a generator."""
    vectors = made.embeddings()
    names, means = [], []
    for source in np.unique(made.source):
        names.append(collection.sources[source].name)
        means.append(centre(vectors[made.of([source])]))
    return Gallery(tuple(names), np.stack(means).astype(np.float32))


def background(look: Callable[[list[Sample]], Predictions], collection: Collection) -> np.ndarray:
    """Unit vectors, float32[B, D], of the training generators that show photos, of no GAN therefore (`gallery.usual`)."""
    seen = collection.select(split="train", camera=False, source_split="train")
    shown = few([sample for sample in seen if collection.sources[sample.source].shows_photos()], BACKGROUND)
    return centroids(look(shown), collection).vectors


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
    """That no generator has changed sides since the bundle was trained.

    Raises:
        ValueError: one has; the zoo was built or filtered otherwise.
    """
    fields = json.loads((bundle.folder / "bundle.json").read_text())
    trained = fields["training"]["generators"]
    now = {source.name: source.split for source in collection.sources if source.labels is not None}
    moved = sorted(name for name in trained.keys() | now.keys() if trained.get(name) != now.get(name))
    if moved:
        raise ValueError(
            f"these generators are not on the side where bundle {bundle.label} had them: {', '.join(moved[:10])}"
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
