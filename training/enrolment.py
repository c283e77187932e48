"""Galleries of generators, and how well unseen ones are named that a few pictures were enrolled of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeparse.bundle import Calibration
from edgeparse.gallery import Gallery, centre, usual
from training import metrics
from training.data.dataset import Collection, Sample
from training.predictions import Predictions, few

# Pictures by which a generator is enrolled; a zoo's generator has fifty of unseen photos, and some are to be looked for.
ENROLLED = (10, 25)
# By more, a zoo's generator is enrolled by pictures that show training's photos, and all fifty are looked for.
MANY = 50
# How often a draw's generators are drawn again, for an interval.
REDRAWN = 10
# Pictures of each generator of a gallery's background (training/results/tried.json: five times as many).
BACKGROUND = 10


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
    """Unseen generators enrolled in one draw, and pictures looked for among them: who made each query, int64[Q], and how near it
    comes to the names; the same of pictures of strangers; and every name's source, int64[N], -1 of a generator of the bundle's."""

    made_by: np.ndarray
    queries: Near
    strangers_made_by: np.ndarray
    strangers: Near
    names: np.ndarray


def enrolled_draws(
    made: Predictions,
    gallery: Gallery,
    pictures: int,
    *,
    others: Predictions | None = None,
    known: int = 20,
    draws: int = 20,
    seed: int = 0,
) -> Iterator[Enrolled]:
    """Generators that training never saw, enrolled by a few pictures each and then looked for among `known` names.

    In each draw two thirds of the generators are enrolled and fill the gallery up to `known` names with the bundle's own; the rest stay
    strangers. Queries are pictures that were not enrolled: all, where `others` of the same generators are. Nothing where fewer than three
    generators have pictures to spare.
    """
    rng = np.random.default_rng(seed)
    vectors = made.embeddings()
    rows = {i: made.of([i]) for i in np.unique(made.source)}
    stock = rows if others is None else {i: others.of([i]) for i in rows}
    usable = [i for i in rows if len(stock[i]) >= pictures + (others is None)]
    if len(usable) < 3:
        return
    enrolled = min(known, 2 * len(usable) // 3)
    own = min(known - enrolled, len(gallery.names))
    shown = vectors if others is None else others.embeddings()
    for _ in range(draws):
        order = rng.permutation(usable)
        members = {i: rng.permutation(stock[i]) for i in order[:enrolled]}
        beside = gallery.vectors[rng.choice(len(gallery.names), own, replace=False)] if own else gallery.vectors[:0]
        mine = np.stack([centre(shown[drawn[:pictures]]) for drawn in members.values()])
        centres = np.concatenate([mine, beside.reshape(-1, mine.shape[1])])
        queries = np.concatenate([drawn[pictures:] if others is None else rows[i] for i, drawn in members.items()])
        strangers = np.concatenate([rows[i] for i in order[enrolled:]])
        yield Enrolled(
            made.source[queries],
            Near.of(vectors[queries], centres, gallery.background),
            made.source[strangers],
            Near.of(vectors[strangers], centres, gallery.background),
            np.array([*members, *np.full(own, -1)]),
        )


def enrolment(
    made: Predictions, gallery: Gallery, calibration: Calibration, pictures: int, others: Predictions | None = None
) -> dict[str, Any] | None:
    """How well unseen generators are named once enrolled, as `gallery.identify` does, means of `enrolled_draws`; None where these are none.

    `unknown_auroc` is of how much nearer the first candidate comes than it needs to; the rates are of what is named at the threshold.
    Intervals, 95 %, are of a single draw's generators drawn again, with the luck of the draw in them.
    """
    figures, redrawn, names = [], [], np.empty(0)
    rng = np.random.default_rng(0)
    for draw in enrolled_draws(made, gallery, pictures, others=others):
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
        for _ in range(REDRAWN):
            mine, theirs = (metrics.resample_groups(of, rng) for of in (draw.made_by, draw.strangers_made_by))
            redrawn.append((right[mine].mean(), metrics.auc(far[theirs], near[mine])))
    if not figures:
        return None
    accuracies, aurocs = zip(*redrawn, strict=True)
    mean = {key: float(np.mean([figure[key] for figure in figures])) for key in figures[0]}
    return mean | {
        "pictures": pictures,
        "enrolled": int((names >= 0).sum()),
        "names": len(names),
        "draws": len(figures),
        "accuracy_interval": metrics.interval(accuracies),
        "unknown_auroc_interval": metrics.interval(aurocs),
    }
