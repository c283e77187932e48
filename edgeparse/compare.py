"""Were these pictures made by one generator? The calibrated probability of every pair, and the groups that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeparse.bundle import SameGenerator
from edgeparse.readout import logit, sigmoid
from edgeparse.report import Failure, Report, Verdict, plain

SCHEMA = 1


@dataclass(frozen=True)
class Compared:
    """One of the pictures. `group` indexes `Comparison.groups`; it is None for what has no part in the comparison."""

    source: str | None
    error: Failure | None
    verdict: Verdict | None
    probability_generated: float | None
    group: int | None


@dataclass(frozen=True)
class Pair:
    """Two pictures, by their places. Without a `reason` against comparing them: the cosine of their embeddings, the probability that
    one generator made both, and whether that reaches the bundle's threshold. With one, the three are None."""

    a: int
    b: int
    reason: str | None
    similarity: float | None
    probability_same: float | None
    same: bool | None


@dataclass(frozen=True)
class Comparison:
    """Every pair of the pictures, and the pictures in groups of one generator each, the largest group first.

    `groups` is None where more than two pictures can be compared and scipy is not installed.
    """

    pictures: tuple[Compared, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[int, ...], ...] | None
    threshold: float
    backend: str
    bundle: str

    def matrix(self) -> NDArray[np.float32]:
        """The probabilities as float32[P, P], symmetric; NaN where a pair cannot be compared, and for a picture with itself."""
        table = np.full((len(self.pictures),) * 2, np.nan, np.float32)
        for pair in self.pairs:
            if pair.probability_same is not None:
                table[pair.a, pair.b] = table[pair.b, pair.a] = pair.probability_same
        return table

    def to_json(self) -> dict[str, Any]:
        """What `edgeparse compare --json` prints (schema 1, `edgeparse/compare.schema.json`)."""
        return {"schema": SCHEMA} | {key: plain(value) for key, value in asdict(self).items()}


def compare(
    reports: Sequence[Report], embeddings: Sequence[NDArray[np.float32] | None], same: SameGenerator
) -> Comparison:
    """Compare pictures by their reports and unit embeddings, float32[D] (None for a picture that could not be read).

    Raises:
        ValueError: fewer than two pictures.
    """
    if len(reports) < 2:
        raise ValueError(f"{len(reports)} picture was given; comparing takes two or more")
    pairs = []
    for a in range(len(reports)):
        for b in range(a + 1, len(reports)):
            reason = _against(reports[a]) or _against(reports[b])
            one, other = embeddings[a], embeddings[b]
            if reason is not None or one is None or other is None:
                pairs.append(Pair(a, b, reason or "a picture has no embedding", None, None, None))
                continue
            similarity = float(one @ other)
            probability = sigmoid(same.scale * similarity + same.bias)
            pairs.append(Pair(a, b, None, similarity, probability, probability >= same.threshold))
    usable = [i for i, report in enumerate(reports) if _against(report) is None]
    vectors = [vector for i in usable if (vector := embeddings[i]) is not None]
    groups = _group(usable, np.stack(vectors), same) if vectors else ()
    place = {i: number for number, members in enumerate(groups or ()) for i in members}
    return Comparison(
        pictures=tuple(
            Compared(r.source, r.error, r.verdict, r.probability_generated, place.get(i)) for i, r in enumerate(reports)
        ),
        pairs=tuple(pairs),
        groups=groups,
        threshold=same.threshold,
        backend=reports[0].backend,
        bundle=reports[0].bundle,
    )


def _against(report: Report) -> str | None:
    """Why a picture cannot be compared: no generator made it, or nobody knows what is in it."""
    name = report.source or "a picture without a name"
    if report.error is not None:
        return f"{name} could not be read"
    return f"{name} looks like a camera photo" if report.verdict == "camera" else None


def _group(usable: list[int], vectors: NDArray[np.float32], same: SameGenerator) -> tuple[tuple[int, ...], ...] | None:
    """Average linkage: two groups join while the mean cosine between them reaches the threshold's.

    Chains of neighbours (connected components) would let a single wrong pair of a hundred join two generators. The cosine is the
    log-odds up to scale, so that its mean weighs every pair's evidence alike.
    """
    needed = (logit(same.threshold) - same.bias) / same.scale
    if len(usable) == 1:
        labels = [1]
    elif len(usable) == 2:
        labels = [1, 1 if float(vectors[0] @ vectors[1]) >= needed else 2]
    else:
        try:
            from scipy.cluster.hierarchy import fcluster, linkage
            from scipy.spatial.distance import squareform
        except ImportError:
            return None
        distance = np.clip(1 - vectors.astype(np.float64) @ vectors.T, 0, None)
        np.fill_diagonal(distance, 0)
        tree = linkage(squareform(distance, checks=False), method="average")
        labels = list(fcluster(tree, 1 - needed, criterion="distance"))
    members: dict[int, list[int]] = {}
    for i, label in zip(usable, labels, strict=True):
        members.setdefault(int(label), []).append(i)
    return tuple(tuple(group) for group in sorted(members.values(), key=lambda group: (-len(group), group[0])))
