"""The figures of an evaluation, from arrays alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score


def auc(camera: np.ndarray, generated: np.ndarray) -> float:
    """Area under the ROC curve of scores, generated above camera."""
    return float(roc_auc_score(np.r_[np.zeros(len(camera)), np.ones(len(generated))], np.r_[camera, generated]))


def average_precision(camera: np.ndarray, generated: np.ndarray) -> float:
    """Average precision of `generated` with the classes weighted equally."""
    truth = np.r_[np.zeros(len(camera)), np.ones(len(generated))]
    weights = np.r_[np.full(len(camera), 1 / len(camera)), np.full(len(generated), 1 / len(generated))]
    return float(average_precision_score(truth, np.r_[camera, generated], sample_weight=weights))


def redrawn(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of the samples of as many groups (generators) as there are, drawn with replacement."""
    names = np.unique(groups)
    order = np.argsort(groups, kind="stable")
    members = dict(zip(names, np.split(order, np.searchsorted(groups[order], names[1:])), strict=True))
    return np.concatenate([members[name] for name in rng.choice(names, len(names))])


def interval(values: Sequence[float]) -> list[float]:
    """95% of redrawn figures lie between these two."""
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def interval_over_groups(
    figure: Callable[..., float], *groups: np.ndarray, draws: int = 200, seed: int = 0
) -> list[float]:
    """95% bootstrap interval of a figure over groups (generators): `figure` gets, of each population, whose samples' groups are given,
    the indices of the drawn groups' samples."""
    rng = np.random.default_rng(seed)
    return interval([figure(*(redrawn(of, rng) for of in groups)) for _ in range(draws)])


def interval_of_share(count: int, of: int) -> list[float]:
    """95 % interval of a share that was counted, exact (Clopper and Pearson)."""
    found = binomtest(count, of).proportion_ci()
    return [float(found.low), float(found.high)]


def expected_calibration_error(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Mean absolute difference of confidence and frequency over equally wide bins, weighted by their size; the classes weigh alike."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    share = truth.mean()
    weight = np.where(truth > 0.5, 0.5 / max(share, 1e-12), 0.5 / max(1 - share, 1e-12)) / len(truth)
    error = 0.0
    for i in range(bins):
        inside = place == i
        if inside.any():
            error += abs((weight[inside] * (probability[inside] - truth[inside])).sum())
    return float(error / weight.sum())


def random_macro_f1(known: np.ndarray, truth: np.ndarray, draws: int = 20, seed: int = 0) -> float:
    """Macro-F1 of answers drawn at random as often as they occur in `known`: what knowing only the frequencies reaches."""
    rng = np.random.default_rng(seed)
    return float(np.mean([macro_f1(truth, rng.choice(known, len(truth))) for _ in range(draws)]))


def oscr(known_scores: np.ndarray, correct: np.ndarray, unknown_scores: np.ndarray) -> float:
    """Open-set classification rate (arXiv 1811.04110): area under correct classification of known against false acceptance
    of unknown samples, over all thresholds."""
    thresholds = np.unique(np.r_[known_scores, unknown_scores, np.inf])[::-1]

    def reach(scores: np.ndarray) -> np.ndarray:
        return len(scores) - np.searchsorted(np.sort(scores), thresholds)

    accepted, right = reach(unknown_scores) / len(unknown_scores), reach(known_scores[correct]) / len(known_scores)
    return float(np.trapezoid(right, accepted))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Unweighted mean F1 over the classes that occur in `truth`."""
    right = truth == predicted
    counts = [(float(right[truth == c].sum()), (truth == c).sum() + (predicted == c).sum()) for c in np.unique(truth)]
    return float(np.mean([2 * hits / named for hits, named in counts]))


def coverage(truth: np.ndarray, predicted: np.ndarray, half_width: float) -> float:
    """Share of truths within the interval."""
    return float((np.abs(truth - predicted) <= half_width).mean())
