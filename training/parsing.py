"""What a network says of unseen generators' insides, beside what is known without looking: the training generators' constants, answers
drawn at random as often as they occur there, and the constants of the family that the network recognised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training import metrics
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels


def _mode(values: np.ndarray) -> float:
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()])


def _median(values: np.ndarray) -> float:
    return float(np.median(values))


def _of_family(
    known: np.ndarray, known_family: np.ndarray, family: np.ndarray, constant: Callable[[np.ndarray], float]
) -> np.ndarray:
    """For each picture, of the recognised `family`, that family's constant over the training generators (all of them where it has none)."""
    constants = {f: constant(known[known_family == f]) for f in np.unique(known_family)}
    return np.array([constants.get(f, constant(known)) for f in family])


def _chosen(truth: np.ndarray, chosen: np.ndarray, known: np.ndarray, of_family: np.ndarray | None) -> dict[str, float]:
    """Figures of an answer out of several."""
    mode = np.full(len(truth), _mode(known))
    found = {
        "macro_f1": metrics.macro_f1(truth, chosen),
        "mode_macro_f1": metrics.macro_f1(truth, mode),
        "random_macro_f1": metrics.random_macro_f1(known, truth),
        "accuracy": float((chosen == truth).mean()),
        "mode_accuracy": float((mode == truth).mean()),
    }
    return found if of_family is None else found | {"family_macro_f1": metrics.macro_f1(truth, of_family)}


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 and b.std() > 1e-6 else None


def figures(
    values: dict[str, np.ndarray],
    labels: list[Labels],
    known: list[Labels],
    half_widths: dict[str, float],
    thresholds: dict[str, float],
) -> dict[str, object]:
    """Every figure, by parameter.

    Args:
        values: the outputs averaged over each picture's windows, float32[P, K].
        labels: the truth, one a picture.
        known: those of the training generators.
        half_widths: of the continuous parameters' intervals.
        thresholds: probability from which a loss counts as used.
    """
    families, of_known = (np.array([label.family_index() for label in some]) for some in (labels, known))
    family = values["family"].argmax(1)

    def baseline(column: np.ndarray, constant: Callable[[np.ndarray], float]) -> np.ndarray:
        return _of_family(column, of_known, family, constant)

    truth, train = (np.stack([label.continuous_vector() for label in some]) for some in (labels, known))
    guess = np.clip(values["continuous"], 0, 1)
    continuous = {
        name: {
            "l1": float(np.abs(guess[:, i] - truth[:, i]).mean()),
            "median_l1": float(np.abs(np.median(train[:, i]) - truth[:, i]).mean()),
            "mean_l1": float(np.abs(train[:, i].mean() - truth[:, i]).mean()),
            "family_l1": float(np.abs(baseline(train[:, i], _median) - truth[:, i]).mean()),
            "correlation": _correlation(guess[:, i], truth[:, i]),
            "interval_coverage": metrics.coverage(truth[:, i], guess[:, i], half_widths[name]),
        }
        for i, name in enumerate(CONTINUOUS)
    }
    truth, train = (np.stack([label.discrete_vector() for label in some]) for some in (labels, known))
    discrete = {
        name: _chosen(truth[:, i], values[name].argmax(1), train[:, i], baseline(train[:, i], _mode))
        for i, name in enumerate(DISCRETE)
    }
    truth, train = (np.stack([label.loss_vector() for label in some]) for some in (labels, known))
    losses = {}
    for i, name in enumerate(LOSSES):
        chance = 1 / (1 + np.exp(-values["losses"][:, i]))
        used = (chance >= thresholds[name]).astype(float)
        both = len(np.unique(truth[:, i])) == 2
        losses[name] = _chosen(truth[:, i], used, train[:, i], baseline(train[:, i], _mode)) | {
            "auc": metrics.auc(chance[truth[:, i] == 0], chance[truth[:, i] == 1]) if both else None
        }
    return {
        "families": len(FAMILIES),
        "family": _chosen(families, family, of_known, None),
        "continuous": continuous,
        "discrete": discrete,
        "losses": losses,
    }
