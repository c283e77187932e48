"""Metrics of attribution: known generators, pairs of pictures, and generators enrolled in a gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeparse.gallery import Gallery, centroid, cohort_similarity
from edgeparse.manifest import Calibration, SameGenerator
from edgeparse.postprocess import sigmoid
from training import metrics
from training.data.dataset import Collection, Sample
from training.evaluate.predict import Predictions, first_pictures

# Pictures that enrol a generator.
ENROLLED = 10
# Bootstrap resamples for each enrolment draw.
RESAMPLES = 10
# Pictures of each generator of the cohort; five times as many changed nothing (docs/research-notes.md).
COHORT_PICTURES = 10


def centroids(predictions: Predictions, collection: Collection) -> Gallery:
    """Return a gallery with the mean embedding of every generator."""
    vectors = predictions.embeddings()
    names, means = [], []
    for source in np.unique(predictions.source):
        names.append(collection.sources[source].name)
        means.append(centroid(vectors[predictions.rows_of([source])]))
    return Gallery(tuple(names), np.stack(means).astype(np.float32))


def build_cohort(predict: Callable[[list[Sample]], Predictions], collection: Collection) -> np.ndarray:
    """Return unit vectors, float32[B, D], of the training generators that show photo content."""
    known = collection.select(split="train", camera=False, source_split="train")
    photo_content = [sample for sample in known if collection.sources[sample.source].has_photo_content()]
    return centroids(predict(first_pictures(photo_content, COHORT_PICTURES)), collection).vectors


def attribution_metrics(
    gallery: Gallery,
    known: Predictions,
    unknown: Predictions,
    collection: Collection,
    threshold: float | None,
    label: Callable[[str], str] = str,
) -> dict[str, object]:
    """Return closed-set and open-set metrics of a gallery of known generators.

    Args:
        gallery: the known generators.
        known: pictures of these that training never saw.
        unknown: pictures of generators that are not in the gallery.
        collection: names the sources.
        threshold: similarity from which a generator is named, if one was fitted for this gallery.
        label: what to name of a generator, by default itself.
    """
    answers = np.array([label(name) for name in gallery.names])

    def nearest(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
        similarity = predictions.embeddings() @ gallery.vectors.T
        return similarity.argmax(1), similarity.max(1)

    chosen, score = nearest(known)
    names = np.array([label(collection.sources[i].name) for i in known.source])
    correct = answers[chosen] == names
    _, unknown_score = nearest(unknown)
    functions: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "accuracy": lambda k, _: float(correct[k].mean()),
        "unknown_auroc": lambda k, u: metrics.auc(unknown_score[u], score[k]),
        "oscr": lambda k, u: metrics.oscr(score[k], correct[k], unknown_score[u]),
    }
    rows = np.arange(len(score)), np.arange(len(unknown_score))
    found: dict[str, object] = {
        "known": len(np.unique(answers)),
        "known_pictures": len(score),
        "chance": 1 / len(np.unique(answers)),
        **{name: function(*rows) for name, function in functions.items()},
        **{
            f"{name}_interval": metrics.interval_over_groups(function, known.source, unknown.source)
            for name, function in functions.items()
        },
    }
    if threshold is not None:
        found |= {
            "known_named": float((score >= threshold).mean()),
            "unknown_named": float((unknown_score >= threshold).mean()),
        }
    return found


def sample_pairs(
    predictions: Predictions,
    seed: int = 0,
    count: int = 20_000,
    generators: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample pairs of pictures, half of them made by one generator.

    Generators have equal weight, however many pictures each has. A generator with one picture is left out.

    Args:
        predictions: the pictures.
        seed: of the random draw.
        count: number of pairs.
        generators: sources to sample from, with repetition; all of them by default.

    Returns:
        Cosine similarity float32[count], and whether one generator made both, bool[count]. Both are empty if fewer
        than two generators remain.
    """
    rng = np.random.default_rng(seed)
    sources = np.unique(predictions.source)
    rows = {int(i): members for i in sources if len(members := predictions.rows_of([i])) > 1}
    drawn = np.array([i for i in (sources if generators is None else generators) if i in rows])
    if len(np.unique(drawn)) < 2:
        return np.empty(0, np.float32), np.empty(0, bool)
    truth = np.arange(count) % 2 == 0
    left = rng.integers(len(drawn), size=count)
    # Redrawn until the two differ: `generators` may name a generator twice.
    right = left.copy()
    while (invalid := (drawn[right] == drawn[left]) & ~truth).any():
        right[invalid] = rng.integers(len(drawn), size=int(invalid.sum()))
    order = np.argsort(predictions.source, kind="stable")
    sources, starts, sizes = np.unique(predictions.source[order], return_index=True, return_counts=True)
    a, b = np.searchsorted(sources, drawn[left]), np.searchsorted(sources, drawn[right])
    first = rng.integers(sizes[a])
    # Within one generator the second picture is any but the first.
    second = np.where(truth, (first + rng.integers(1, sizes[a])) % sizes[a], rng.integers(sizes[b]))
    vectors = predictions.embeddings()
    return (vectors[order[starts[a] + first]] * vectors[order[starts[b] + second]]).sum(1), truth


def same_generator_metrics(
    predictions: Predictions, same: SameGenerator | None = None, seed: int = 0
) -> dict[str, object] | None:
    """Return how well pairs of one generator and pairs of two are told apart, by one picture each.

    Args:
        predictions: the pictures.
        same: the bundle's calibration for pairs; without it only the AUC is returned.
        seed: of the random draws.

    Returns:
        None if there are no two generators with two pictures each.
    """
    score, truth = sample_pairs(predictions, seed)
    if not len(score):
        return None

    def probability(cosine: np.ndarray) -> np.ndarray:
        assert same is not None
        return np.array([sigmoid(same.scale * x + same.bias) for x in cosine.astype(float)])

    names = np.unique(predictions.source)
    rng = np.random.default_rng(seed)
    resampled = [sample_pairs(predictions, draw, 2000, rng.choice(names, len(names))) for draw in range(200)]
    resampled = [pairs for pairs in resampled if len(pairs[0])]
    found: dict[str, object] = {
        "auc": metrics.auc(score[~truth], score[truth]),
        "auc_interval": metrics.interval([metrics.auc(x[~equal], x[equal]) for x, equal in resampled]),
        "generators": len(names),
        "pairs": len(score),
    }
    if same is not None:
        probabilities = probability(score)
        found |= {
            "calibration_error": metrics.expected_calibration_error(probabilities, truth.astype(float)),
            "accuracy": float(((probabilities >= 0.5) == truth).mean()),
            "accuracy_interval": metrics.interval(
                [float(((probability(x) >= 0.5) == equal).mean()) for x, equal in resampled]
            ),
            "same_called_same": float((probabilities[truth] >= same.threshold).mean()),
            "different_called_same": float((probabilities[~truth] >= same.threshold).mean()),
        }
    return found


@dataclass(frozen=True)
class GallerySimilarity:
    """Similarity of P pictures to a gallery.

    Attributes:
        similarity: float[P, N], cosine to each of N names.
        cohort_similarity: float[P], see `edgeparse.gallery`.
    """

    similarity: np.ndarray
    cohort_similarity: np.ndarray

    @staticmethod
    def between(embeddings: np.ndarray, centres: np.ndarray, cohort: np.ndarray) -> GallerySimilarity:
        """Compare unit vectors, float32[P, D], with those of the names, float32[N, D], and of the cohort."""
        return GallerySimilarity(embeddings @ centres.T, cohort_similarity(cohort, embeddings))

    def margin(self, enrolled: np.ndarray, calibration: Calibration) -> np.ndarray:
        """Return similarity minus the threshold of each name, float[P, N]; `enrolled` is bool[N]."""
        enrolled_threshold = np.array(
            [calibration.threshold(enrolled=True, cohort_similarity=float(value)) for value in self.cohort_similarity]
        )
        own_threshold = calibration.threshold(enrolled=False, cohort_similarity=0.0)
        return self.similarity - np.where(enrolled, enrolled_threshold[:, None], own_threshold)


@dataclass(frozen=True)
class EnrolmentDraw:
    """One random draw of enrolled generators and queries.

    Attributes:
        query_source: int64[Q], the generator that made each query.
        queries: similarity of pictures of enrolled generators.
        impostor_source: int64[R], the generator that made each impostor.
        impostors: similarity of pictures of generators that are not enrolled.
        names: int64[N], the source of each name, or -1 for a generator of the bundle's gallery.
    """

    query_source: np.ndarray
    queries: GallerySimilarity
    impostor_source: np.ndarray
    impostors: GallerySimilarity
    names: np.ndarray


def enrolment_draws(
    predictions: Predictions,
    gallery: Gallery,
    pictures: int,
    *,
    known: int = 20,
    draws: int = 20,
    seed: int = 0,
) -> Iterator[EnrolmentDraw]:
    """Enrol generators that training never saw, and compare other pictures with the gallery.

    Each draw enrols two thirds of the generators and fills the gallery up to `known` names with the bundle's own. The
    other generators are impostors. Yields nothing if fewer than three generators have enough pictures.

    Args:
        predictions: the pictures.
        gallery: the bundle's gallery.
        pictures: number of pictures that enrol a generator.
        known: number of names.
        draws: number of draws.
        seed: of the random draws.
    """
    rng = np.random.default_rng(seed)
    vectors = predictions.embeddings()
    rows = {i: predictions.rows_of([i]) for i in np.unique(predictions.source)}
    usable = [i for i in rows if len(rows[i]) > pictures]
    if len(usable) < 3:
        return
    enrolled = min(known, 2 * len(usable) // 3)
    own = min(known - enrolled, len(gallery.names))
    for _ in range(draws):
        order = rng.permutation(usable)
        members = {i: rng.permutation(rows[i]) for i in order[:enrolled]}
        own_vectors = (
            gallery.vectors[rng.choice(len(gallery.names), own, replace=False)] if own else gallery.vectors[:0]
        )
        new_vectors = np.stack([centroid(vectors[drawn[:pictures]]) for drawn in members.values()])
        centres = np.concatenate([new_vectors, own_vectors.reshape(-1, new_vectors.shape[1])])
        queries = np.concatenate([drawn[pictures:] for drawn in members.values()])
        impostors = np.concatenate([rows[i] for i in order[enrolled:]])
        yield EnrolmentDraw(
            predictions.source[queries],
            GallerySimilarity.between(vectors[queries], centres, gallery.cohort),
            predictions.source[impostors],
            GallerySimilarity.between(vectors[impostors], centres, gallery.cohort),
            np.array([*members, *np.full(own, -1)]),
        )


def enrolment_metrics(
    predictions: Predictions,
    gallery: Gallery,
    calibration: Calibration,
    pictures: int,
) -> dict[str, Any] | None:
    """Return how well enrolled generators are named, as means over `enrolment_draws`.

    `unknown_auroc` ranks pictures by their largest margin. The rates count what is named at the threshold. Intervals
    (95 %) resample the generators of single draws, so they include the luck of the draw.

    Returns:
        None if there are too few generators.
    """
    found, resampled, names = [], [], np.empty(0)
    rng = np.random.default_rng(0)
    for draw in enrolment_draws(predictions, gallery, pictures):
        names = draw.names
        query, impostor = (s.margin(names >= 0, calibration) for s in (draw.queries, draw.impostors))
        near, far = query.max(1), impostor.max(1)
        right = names[query.argmax(1)] == draw.query_source
        found.append(
            {
                # Generators have equal weight.
                "accuracy": np.mean([right[draw.query_source == i].mean() for i in names[names >= 0]]),
                "unknown_auroc": metrics.auc(far, near),
                "named_rightly": (right & (near >= 0)).mean(),
                "unknown_named": (far >= 0).mean(),
            }
        )
        for _ in range(RESAMPLES):
            q, r = (metrics.resample_groups(source, rng) for source in (draw.query_source, draw.impostor_source))
            resampled.append((right[q].mean(), metrics.auc(far[r], near[q])))
    if not found:
        return None
    accuracies, aurocs = zip(*resampled, strict=True)
    return _means(found) | {
        "pictures": pictures,
        "enrolled": int((names >= 0).sum()),
        "names": len(names),
        "draws": len(found),
        "accuracy_interval": metrics.interval(accuracies),
        "unknown_auroc_interval": metrics.interval(aurocs),
    }


def _means(draws: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {key: float(np.mean([draw[key] for draw in draws])) for key in draws[0]}
