"""Evaluate a bundle on generators and photos that training never saw: `python -m training.evaluate BUNDLE DATA ZOO`.

The bundle is run as its users run it: by the runtime's own windows, backend and aggregation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from edgeparse import windows
from edgeparse.backends.base import Backend
from edgeparse.backends.select import create
from edgeparse.bundle import Bundle, Calibration, open_bundle
from edgeparse.gallery import Gallery
from edgeparse.readout import calibrated, unit, verdict
from training import codecs, metrics
from training.dataset import Collection, Sample, chain_seed, join, load_public, load_zoo, through_chain
from training.labels import DISCRETE

HEADS = ["embedding", "generated", "family", "continuous", *DISCRETE, "losses"]
WINDOWS = 8


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


def predict(backend: Backend, samples: list[Sample], condition: str) -> Predictions:
    """Run pictures through a condition, or through a random chain each ("mixed", fixed by the content).

    Generated pictures are first saved as photos come, except "as stored", where the classes' file formats differ.
    """

    def prepare(sample: Sample) -> np.ndarray:
        # A photo and its twins meet the same chain.
        seed = chain_seed(sample.content(), 0, 0)
        if condition == "mixed":
            pixels = through_chain(sample.pixels, sample.made, seed)
        elif condition == "as stored" or not sample.made:
            pixels = codecs.CONDITIONS.get(condition, np.asarray)(sample.pixels)
        else:
            came = codecs.as_photos_come(sample.pixels, np.random.default_rng([seed, 1]))
            pixels = codecs.CONDITIONS[condition](came)
        return windows.cut(pixels, WINDOWS).pixels

    rows: dict[str, list[np.ndarray]] = {name: [] for name in HEADS}
    with ThreadPoolExecutor(2) as pool:
        for cut in pool.map(prepare, samples):
            for name, value in backend.run(cut, HEADS).items():
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


def _training_labels(collection: Collection) -> list:
    return [s.labels for s in collection.sources if s.labels is not None and s.split == "train" and s.zoo]


def parsing(made: Predictions, collection: Collection, bundle: Bundle) -> dict[str, object]:
    """Architecture and losses of unseen zoo generators beside the constants that know only the training generators."""
    known = _training_labels(collection)
    labels = [collection.sources[i].labels for i in made.source]
    continuous, discrete, losses = {}, {}, {}
    train = np.stack([label.continuous_vector() for label in known])
    truth = np.stack([label.continuous_vector() for label in labels])
    guess = np.clip(made.values["continuous"], 0, 1)
    for i, parameter in enumerate(bundle.continuous):
        error = np.abs(guess[:, i] - truth[:, i])
        continuous[parameter.name] = {
            "l1": float(error.mean()),
            "median_l1": float(np.abs(np.median(train[:, i]) - truth[:, i]).mean()),
            "mean_l1": float(np.abs(train[:, i].mean() - truth[:, i]).mean()),
            "correlation": _correlation(guess[:, i], truth[:, i]),
            "interval_coverage": metrics.coverage(truth[:, i], guess[:, i], parameter.half_width),
        }
    train_d = np.stack([label.discrete_vector() for label in known])
    truth_d = np.stack([label.discrete_vector() for label in labels])
    for i, name in enumerate(DISCRETE):
        mode = int(np.bincount(train_d[:, i]).argmax())
        chosen = made.values[name].argmax(1)
        discrete[name] = {
            "macro_f1": metrics.macro_f1(truth_d[:, i], chosen),
            "mode_macro_f1": metrics.macro_f1(truth_d[:, i], np.full(len(chosen), mode)),
            "accuracy": float((chosen == truth_d[:, i]).mean()),
            "mode_accuracy": float((truth_d[:, i] == mode).mean()),
        }
    train_l = np.stack([label.loss_vector() for label in known])
    truth_l = np.stack([label.loss_vector() for label in labels])
    for i, loss in enumerate(bundle.losses):
        chance = 1 / (1 + np.exp(-made.values["losses"][:, i]))
        used = chance >= loss.threshold
        majority = train_l[:, i].mean() >= 0.5
        both = len(np.unique(truth_l[:, i])) == 2
        losses[loss.name] = {
            "macro_f1": metrics.macro_f1(truth_l[:, i], used.astype(float)),
            "majority_macro_f1": metrics.macro_f1(truth_l[:, i], np.full(len(used), float(majority))),
            "auc": metrics.auc(chance[truth_l[:, i] == 0], chance[truth_l[:, i] == 1]) if both else None,
        }
    families = np.array([label.family_index() for label in labels])
    mode = int(np.bincount([label.family_index() for label in known]).argmax())
    return {
        "generators": len(np.unique(made.source)),
        "pictures": len(made.source),
        "family": {
            "macro_f1": metrics.macro_f1(families, made.values["family"].argmax(1)),
            "mode_macro_f1": metrics.macro_f1(families, np.full(len(families), mode)),
        },
        "continuous": continuous,
        "discrete": discrete,
        "losses": losses,
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 and b.std() > 1e-6 else None


def attribution(
    gallery: Gallery, known: Predictions, unknown: Predictions, collection: Collection, threshold: float
) -> dict[str, object]:
    """Known generators on pictures that training never saw, and generators that are in no gallery."""

    def nearest(p: Predictions) -> tuple[np.ndarray, np.ndarray]:
        similarity = p.embeddings() @ gallery.vectors.T
        return similarity.argmax(1), similarity.max(1)

    chosen, score = nearest(known)
    names = np.array([collection.sources[i].name for i in known.source])
    correct = np.array(gallery.names)[chosen] == names
    _, strange = nearest(unknown)
    return {
        "known_generators": len(gallery.names),
        "accuracy": float(correct.mean()),
        "chance": 1 / len(gallery.names),
        "unknown_auroc": metrics.auc(strange, score),
        "oscr": metrics.oscr(score, correct, strange),
        "known_named": float((score >= threshold).mean()),
        "unknown_named": float((strange >= threshold).mean()),
    }


def same_generator(made: Predictions, seed: int = 0, pairs: int = 20_000) -> dict[str, float]:
    """One picture against one: AUC of the similarity for pairs of one generator against pairs of two."""
    rng = np.random.default_rng(seed)
    vectors = made.embeddings()
    a, b = rng.integers(0, len(vectors), (2, pairs))
    keep = a != b
    score = (vectors[a] * vectors[b]).sum(1)[keep]
    same = (made.source[a] == made.source[b])[keep]
    return {"auc": metrics.auc(score[~same], score[same]), "pairs": int(keep.sum())}


def centroids(made: Predictions, collection: Collection) -> Gallery:
    """A gallery of mean embeddings, one a generator."""
    vectors = made.embeddings()
    names, means = [], []
    for source in np.unique(made.source):
        names.append(collection.sources[source].name)
        means.append(unit(vectors[made.of([source])].mean(axis=0)))
    return Gallery(tuple(names), np.stack(means).astype(np.float32))


def evaluate(
    bundle: Bundle, backend: Backend, gallery: Gallery, collection: Collection, split: str
) -> dict[str, object]:
    """Every figure on one split, "val" or "test". Camera photos are those of the split; generators those it alone has."""
    crops = collection.select(split=split, camera=True, zoo=True)
    photos = collection.select(split=split, camera=True, zoo=False)
    zoo = collection.select(split=split, camera=False, zoo=True, source_split=split)
    real = collection.select(split=split, camera=False, zoo=False, source_split=split)
    result: dict[str, object] = {"split": split, "detection_zoo": {}, "detection_real": {}}
    for condition in ("mixed", "as stored", *codecs.CONDITIONS):
        p = {
            name: predict(backend, samples, condition)
            for name, samples in (("crops", crops), ("photos", photos), ("zoo", zoo), ("real", real))
        }
        result["detection_zoo"][condition] = detection(p["crops"], p["zoo"], collection, bundle.calibration)
        result["detection_real"][condition] = detection(p["photos"], p["real"], collection, bundle.calibration)
        if condition == "mixed":
            result["parsing"] = parsing(p["zoo"], collection, bundle)
            result["same_generator_zoo"] = same_generator(p["zoo"])
            result["same_generator_real"] = same_generator(p["real"])
            seen = predict(
                backend, collection.select(split=split, camera=False, zoo=False, source_split="train"), "mixed"
            )
            if len(seen.source):
                result["attribution_real"] = attribution(gallery, seen, p["real"], collection, bundle.calibration.known)
            zoo_gallery = centroids(
                predict(
                    backend, collection.select(split="train", camera=False, zoo=True, source_split="train"), "mixed"
                ),
                collection,
            )
            zoo_seen = predict(
                backend, collection.select(split=split, camera=False, zoo=True, source_split="train"), "mixed"
            )
            result["attribution_zoo"] = attribution(
                zoo_gallery, zoo_seen, p["zoo"], collection, bundle.calibration.known
            )
    return result


def load_collection(data: Path, zoo: Path) -> Collection:
    """The public pictures and the zoo together."""
    return join(load_public(data), load_zoo(zoo))


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("zoo", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--split", type=click.Choice(["val", "test"]), default="test", show_default=True)
@click.option("--variant", help="Precision to run; by default the bundle's choice for the CPU.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the JSON here instead of to standard output."
)
def main(folder: Path, data: Path, zoo: Path, split: str, variant: str | None, output: Path | None) -> None:
    """Evaluate BUNDLE on the pictures in DATA and the generators in ZOO that its training never saw."""
    bundle = open_bundle(folder)
    assert bundle.gallery is not None
    backend = create("cpu", bundle, variant)
    result = evaluate(bundle, backend, Gallery.load(bundle.read(bundle.gallery)), load_collection(data, zoo), split)
    result |= {"bundle": bundle.label, "bundle_sha256": bundle.sha256, "variant": variant or bundle.default_variant}
    text = json.dumps(result, indent=1)
    if output:
        output.write_text(text + "\n")
    else:
        click.echo(text)


if __name__ == "__main__":
    main()
