"""What a network says of unseen generators' insides, beside what is known without looking: the training generators' constants, answers
drawn at random as often as they occur there, and the constants of the family that the network recognised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training import metrics
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels


@dataclass(frozen=True)
class Answers:
    """What is true of the generators of P pictures, or what is said of them: family int64[P], continuous float32[P, 9] scaled to [0, 1],
    discrete int64[P, 7] class indices, losses float32[P, 10] of zeros and ones."""

    family: np.ndarray
    continuous: np.ndarray
    discrete: np.ndarray
    losses: np.ndarray

    @staticmethod
    def true(labels: list[Labels]) -> Answers:
        """The labels, one a picture or a generator."""
        return Answers(
            np.array([label.family_index() for label in labels]),
            np.stack([label.continuous_vector() for label in labels]),
            np.stack([label.discrete_vector() for label in labels]),
            np.stack([label.loss_vector() for label in labels]),
        )

    @staticmethod
    def said(values: dict[str, np.ndarray], thresholds: dict[str, float]) -> Answers:
        """What a network's outputs, float32[P, K] each, come to; a loss counts as used from its threshold's probability on."""
        limits = np.array([thresholds[name] for name in LOSSES])
        return Answers(
            values["family"].argmax(1),
            np.clip(values["continuous"], 0, 1),
            np.stack([values[name].argmax(1) for name in DISCRETE], axis=1),
            (sigmoid(values["losses"]) >= limits).astype(float),
        )

    def of(self, rows: np.ndarray) -> Answers:
        """Of some of the pictures."""
        return Answers(self.family[rows], self.continuous[rows], self.discrete[rows], self.losses[rows])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities, of the same shape."""
    return 1 / (1 + np.exp(-logits))


def headline(truth: Answers, said: Answers) -> dict[str, float]:
    """The mean figure of each group of parameters; higher is better, but for the error `continuous_l1`."""

    def mean_f1(true: np.ndarray, answered: np.ndarray) -> float:
        return float(np.mean([metrics.macro_f1(a, b) for a, b in zip(true.T, answered.T, strict=True)]))

    return {
        "family_macro_f1": metrics.macro_f1(truth.family, said.family),
        "continuous_l1": float(np.abs(said.continuous - truth.continuous).mean()),
        "discrete_macro_f1": mean_f1(truth.discrete, said.discrete),
        "losses_macro_f1": mean_f1(truth.losses, said.losses),
    }


def _macro_f1_above_mode(true: np.ndarray, said: np.ndarray, known: np.ndarray) -> float:
    columns = zip(true.T, said.T, known.T, strict=True)
    return float(
        np.mean([metrics.macro_f1(t, s) - metrics.macro_f1(t, np.full(len(t), _mode(k))) for t, s, k in columns])
    )


def _l1_below_median(true: Answers, said: Answers, known: Answers) -> float:
    without = np.abs(np.median(known.continuous, axis=0) - true.continuous).mean()
    return float(100 * (1 - np.abs(said.continuous - true.continuous).mean() / without))


# How far answers lie above what knowing the training generators reaches, on average over parameters: the figures of `training.bars`,
# from what is true, what is said, and what is true of the training generators.
GAINS: dict[str, Callable[[Answers, Answers, Answers], float]] = {
    "continuous": _l1_below_median,
    "discrete": lambda true, said, known: _macro_f1_above_mode(true.discrete, said.discrete, known.discrete),
    "losses": lambda true, said, known: _macro_f1_above_mode(true.losses, said.losses, known.losses),
}


def beats(figure: dict[str, float], margin: float = 0.0) -> bool:
    """Whether an answer is better, by more than a margin, than the most frequent one and than random ones as frequent as in training."""
    constant = max(figure["mode_macro_f1"], figure["random_macro_f1"])
    return figure["macro_f1"] > constant + margin and figure["accuracy"] >= figure["mode_accuracy"]


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
    true, trained, said = Answers.true(labels), Answers.true(known), Answers.said(values, thresholds)

    def baseline(column: np.ndarray, constant: Callable[[np.ndarray], float]) -> np.ndarray:
        return _of_family(column, trained.family, said.family, constant)

    truth, train, guess = true.continuous, trained.continuous, said.continuous
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
    truth, train = true.discrete, trained.discrete
    discrete = {
        name: _chosen(truth[:, i], said.discrete[:, i], train[:, i], baseline(train[:, i], _mode))
        for i, name in enumerate(DISCRETE)
    }
    truth, train, chance = true.losses, trained.losses, sigmoid(values["losses"])
    losses = {}
    for i, name in enumerate(LOSSES):
        both = len(np.unique(truth[:, i])) == 2
        losses[name] = _chosen(truth[:, i], said.losses[:, i], train[:, i], baseline(train[:, i], _mode)) | {
            "auc": metrics.auc(chance[truth[:, i] == 0, i], chance[truth[:, i] == 1, i]) if both else None
        }
    return {
        "families": len(FAMILIES),
        "family": _chosen(true.family, said.family, trained.family, None),
        "continuous": continuous,
        "discrete": discrete,
        "losses": losses,
    }
