"""Metrics of an evaluation, computed from arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score


def auc(camera: np.ndarray, generated: np.ndarray) -> float:
    """Return the area under the ROC curve of scores float[N] and float[M]; higher scores mean generated."""
    return float(roc_auc_score(np.r_[np.zeros(len(camera)), np.ones(len(generated))], np.r_[camera, generated]))


def average_precision(camera: np.ndarray, generated: np.ndarray) -> float:
    """Return the average precision of the class `generated`, with both classes weighted equally."""
    truth = np.r_[np.zeros(len(camera)), np.ones(len(generated))]
    weights = np.r_[np.full(len(camera), 1 / len(camera)), np.full(len(generated), 1 / len(generated))]
    return float(average_precision_score(truth, np.r_[camera, generated], sample_weight=weights))


def resample_groups(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw groups (generators) with replacement, as many as there are, and return the indices of their samples.

    Args:
        groups: group of each sample, [N].
        rng: random generator.
    """
    names = np.unique(groups)
    order = np.argsort(groups, kind="stable")
    members = dict(zip(names, np.split(order, np.searchsorted(groups[order], names[1:])), strict=True))
    return np.concatenate([members[name] for name in rng.choice(names, len(names))])


def interval(values: Sequence[float]) -> list[float]:
    """Return the 2.5% and 97.5% quantiles of bootstrap values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def interval_over_groups(
    figure: Callable[..., float], *groups: np.ndarray, draws: int = 200, seed: int = 0
) -> list[float]:
    """Return the 95% bootstrap interval of a metric over groups (generators).

    Args:
        figure: metric; takes the indices of the drawn samples, one array for each population.
        *groups: group of each sample, one array for each population.
        draws: bootstrap draws.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    return interval([figure(*(resample_groups(group, rng) for group in groups)) for _ in range(draws)])


def interval_of_fraction(count: int, total: int) -> list[float]:
    """Return the exact 95% interval (Clopper and Pearson) of the fraction `count / total`."""
    bounds = binomtest(count, total).proportion_ci()
    return [float(bounds.low), float(bounds.high)]


def expected_calibration_error(probability: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Return the mean absolute difference of confidence and frequency over equally wide bins.

    Bins are weighted by their size, and both classes have the same total weight.

    Args:
        probability: probability of the positive class, float[N].
        truth: 0 or 1, float[N].
        bins: number of bins.
    """
    bin_index = np.minimum((probability * bins).astype(int), bins - 1)
    positive = truth.mean()
    weight = np.where(truth > 0.5, 0.5 / max(positive, 1e-12), 0.5 / max(1 - positive, 1e-12)) / len(truth)
    error = 0.0
    for i in range(bins):
        inside = bin_index == i
        if inside.any():
            error += abs((weight[inside] * (probability[inside] - truth[inside])).sum())
    return float(error / weight.sum())


def random_macro_f1(known: np.ndarray, truth: np.ndarray, draws: int = 20, seed: int = 0) -> float:
    """Return the macro-F1 of random predictions with the class frequencies of `known`: a baseline that knows only these."""
    rng = np.random.default_rng(seed)
    return float(np.mean([macro_f1(truth, rng.choice(known, len(truth))) for _ in range(draws)]))


def oscr(known_scores: np.ndarray, correct: np.ndarray, unknown_scores: np.ndarray) -> float:
    """Return the open-set classification rate (arXiv 1811.04110).

    This is the area under the curve of correctly classified known samples against accepted unknown samples, over all thresholds.

    Args:
        known_scores: scores of samples of known generators, float[N].
        correct: whether each of them is attributed correctly, bool[N].
        unknown_scores: scores of samples of unknown generators, float[M].
    """
    thresholds = np.unique(np.r_[known_scores, unknown_scores, np.inf])[::-1]

    def accepted(scores: np.ndarray) -> np.ndarray:
        return len(scores) - np.searchsorted(np.sort(scores), thresholds)

    false_rate = accepted(unknown_scores) / len(unknown_scores)
    true_rate = accepted(known_scores[correct]) / len(known_scores)
    return float(np.trapezoid(true_rate, false_rate))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the unweighted mean F1 over the classes that occur in `truth`."""
    right = truth == predicted
    counts = [(float(right[truth == c].sum()), (truth == c).sum() + (predicted == c).sum()) for c in np.unique(truth)]
    return float(np.mean([2 * hits / total for hits, total in counts]))


def coverage(truth: np.ndarray, predicted: np.ndarray, half_width: float) -> float:
    """Return the fraction of true values within `half_width` of the prediction."""
    return float((np.abs(truth - predicted) <= half_width).mean())
