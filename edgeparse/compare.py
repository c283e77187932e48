"""Decide which images one generator made: the calibrated probability of every pair, and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse.manifest import SameGenerator
from edgeparse.postprocess import logit, sigmoid
from edgeparse.report import Failure, Report, Verdict, plain

SCHEMA = 1


@dataclass(frozen=True)
class Compared:
    """One of the images. `group` is an index into `Comparison.groups`, or None if the image is not comparable."""

    source: str | None
    error: Failure | None
    verdict: Verdict | None
    probability_generated: float | None
    group: int | None


@dataclass(frozen=True)
class Pair:
    """Two images.

    Attributes:
        a: index of the first image.
        b: index of the second image.
        reason: why the pair is not comparable; the fields below are then None.
        similarity: cosine of the embeddings.
        probability_same: probability that one generator made both.
        same: whether the probability reaches the bundle's threshold.
    """

    a: int
    b: int
    reason: str | None
    similarity: float | None
    probability_same: float | None
    same: bool | None


@dataclass(frozen=True)
class Comparison:
    """Every pair of images, and groups of images by generator, the largest group first.

    `groups` is None if more than two images are comparable and scipy is not installed.
    """

    pictures: tuple[Compared, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[int, ...], ...] | None
    threshold: float
    backend: str
    bundle: str

    def matrix(self) -> NDArray[np.float32]:
        """Return the probabilities, float32[P, P], symmetric; NaN on the diagonal and for pairs that are not comparable."""
        matrix = np.full((len(self.pictures),) * 2, np.nan, np.float32)
        for pair in self.pairs:
            if pair.probability_same is not None:
                matrix[pair.a, pair.b] = matrix[pair.b, pair.a] = pair.probability_same
        return matrix

    def to_json(self) -> dict[str, Any]:
        """Return the JSON contract of `edgeparse compare --json` (schema 1, `edgeparse/compare.schema.json`)."""
        return {"schema": SCHEMA} | {key: plain(value) for key, value in asdict(self).items()}


def compare(
    reports: Sequence[Report], embeddings: Sequence[NDArray[np.float32] | None], same: SameGenerator
) -> Comparison:
    """Compare images by their reports and embeddings.

    Args:
        reports: one report per image.
        embeddings: unit vectors, float32[D]; None for an image that could not be read.
        same: the bundle's calibration of pairs.

    Raises:
        ValueError: there are fewer than two images.
    """
    if len(reports) < 2:
        raise ValueError(f"compare needs at least two images, got {len(reports)}")
    pairs = []
    for a in range(len(reports)):
        for b in range(a + 1, len(reports)):
            pairs.append(_pair(a, b, reports, embeddings, same))
    usable = [i for i, report in enumerate(reports) if _not_comparable(report) is None]
    vectors = [vector for i in usable if (vector := embeddings[i]) is not None]
    groups = _group(usable, np.stack(vectors), same) if vectors else ()
    group_of = {i: number for number, members in enumerate(groups or ()) for i in members}
    return Comparison(
        pictures=tuple(
            Compared(r.source, r.error, r.verdict, r.probability_generated, group_of.get(i))
            for i, r in enumerate(reports)
        ),
        pairs=tuple(pairs),
        groups=groups,
        threshold=same.threshold,
        backend=reports[0].backend,
        bundle=reports[0].bundle,
    )


def _pair(
    a: int,
    b: int,
    reports: Sequence[Report],
    embeddings: Sequence[NDArray[np.float32] | None],
    same: SameGenerator,
) -> Pair:
    reason = _not_comparable(reports[a]) or _not_comparable(reports[b])
    first, second = embeddings[a], embeddings[b]
    if reason is not None or first is None or second is None:
        return Pair(a, b, reason or "an image has no embedding", None, None, None)
    similarity = float(first @ second)
    probability = sigmoid(same.scale * similarity + same.bias)
    return Pair(a, b, None, similarity, probability, probability >= same.threshold)


def _not_comparable(report: Report) -> str | None:
    """Return why an image cannot be compared, or None if it can."""
    name = report.source or "an image without a name"
    if report.error is not None:
        return f"{name} could not be read"
    return f"{name} looks like a camera photo" if report.verdict == "camera" else None


def _group(usable: list[int], vectors: NDArray[np.float32], same: SameGenerator) -> tuple[tuple[int, ...], ...] | None:
    """Cluster with average linkage: two groups merge while their mean cosine reaches the threshold.

    With connected components, one wrong pair in a hundred would merge two generators. The cosine is linear in the log-odds, so
    its mean weights the evidence of all pairs equally.
    """
    min_cosine = (logit(same.threshold) - same.bias) / same.scale
    if len(usable) == 1:
        labels = [1]
    elif len(usable) == 2:
        labels = [1, 1 if float(vectors[0] @ vectors[1]) >= min_cosine else 2]
    else:
        try:
            from scipy.cluster.hierarchy import fcluster, linkage
            from scipy.spatial.distance import squareform
        except ImportError:
            return None
        distance = np.clip(1 - vectors.astype(np.float64) @ vectors.T, 0, None)
        np.fill_diagonal(distance, 0)
        tree = linkage(squareform(distance, checks=False), method="average")
        labels = list(fcluster(tree, 1 - min_cosine, criterion="distance"))
    members: dict[int, list[int]] = {}
    for i, label in zip(usable, labels, strict=True):
        members.setdefault(int(label), []).append(i)
    return tuple(tuple(group) for group in sorted(members.values(), key=lambda group: (-len(group), group[0])))
