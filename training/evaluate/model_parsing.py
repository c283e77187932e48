"""Metrics of model parsing: the architecture and training losses of generators that training never saw.

Every metric has baselines that need no picture: the constants of the training generators, random answers with their
frequencies, and the constants of the family that the network recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeparse.manifest import Loss, Parameter
from training import metrics
from training.data.dataset import Collection
from training.evaluate.predict import Predictions
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels


class ParsingLabels(Protocol):
    """The part of a bundle that turns outputs into attributes."""

    @property
    def continuous(self) -> tuple[Parameter, ...]:
        """The continuous attributes, with the half widths of their intervals."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The training losses, with their thresholds."""


@dataclass(frozen=True)
class Attributes:
    """True or predicted attributes of the generators of P pictures.

    Attributes:
        family: int64[P], class indices.
        continuous: float32[P, 9], scaled to [0, 1].
        discrete: int64[P, 7], class indices.
        losses: float32[P, 10], zeros and ones.
    """

    family: np.ndarray
    continuous: np.ndarray
    discrete: np.ndarray
    losses: np.ndarray

    @staticmethod
    def from_labels(labels: Sequence[Labels]) -> Attributes:
        """Return true attributes, one row for each of the labels."""
        return Attributes(
            np.array([label.family_index() for label in labels]),
            np.stack([label.continuous_vector() for label in labels]),
            np.stack([label.discrete_vector() for label in labels]),
            np.stack([label.loss_vector() for label in labels]),
        )

    @staticmethod
    def from_outputs(values: dict[str, np.ndarray], thresholds: dict[str, float]) -> Attributes:
        """Return predicted attributes from outputs, float32[P, K] each; `thresholds` are probabilities of losses."""
        limits = np.array([thresholds[name] for name in LOSSES])
        return Attributes(
            values["family"].argmax(1),
            np.clip(values["continuous"], 0, 1),
            np.stack([values[name].argmax(1) for name in DISCRETE], axis=1),
            (sigmoid(values["losses"]) >= limits).astype(float),
        )

    def take(self, rows: np.ndarray) -> Attributes:
        """Return some of the rows."""
        return Attributes(self.family[rows], self.continuous[rows], self.discrete[rows], self.losses[rows])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities of the same shape."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def training_labels(collection: Collection) -> list[Labels]:
    """Return the labels of the zoo's training generators."""
    return [s.labels for s in collection.sources if s.labels is not None and s.split == "train" and s.zoo]


def labels_of(predictions: Predictions, collection: Collection) -> list[Labels]:
    """Return the labels of each picture's generator."""
    return [label for i in predictions.source if (label := collection.sources[i].labels) is not None]


def true_and_predicted(
    predictions: Predictions, collection: Collection, bundle: ParsingLabels
) -> tuple[Attributes, Attributes]:
    """Return the true attributes of the pictures' generators, and those that the bundle predicts."""
    true = Attributes.from_labels(labels_of(predictions, collection))
    return true, Attributes.from_outputs(predictions.values, _loss_thresholds(bundle))


def _loss_thresholds(bundle: ParsingLabels) -> dict[str, float]:
    return {loss.name: loss.threshold for loss in bundle.losses}


def group_means(true: Attributes, predicted: Attributes) -> dict[str, float]:
    """Return one metric for each group of attributes. Higher is better, except for `continuous_l1`."""

    def mean_f1(truth: np.ndarray, answers: np.ndarray) -> float:
        return float(np.mean([metrics.macro_f1(a, b) for a, b in zip(truth.T, answers.T, strict=True)]))

    return {
        "family_macro_f1": metrics.macro_f1(true.family, predicted.family),
        "continuous_l1": float(np.abs(predicted.continuous - true.continuous).mean()),
        "discrete_macro_f1": mean_f1(true.discrete, predicted.discrete),
        "losses_macro_f1": mean_f1(true.losses, predicted.losses),
    }


def _f1_above_mode(true: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> float:
    columns = zip(true.T, predicted.T, known.T, strict=True)
    gains = [metrics.macro_f1(t, p) - metrics.macro_f1(t, np.full(len(t), _mode(k))) for t, p, k in columns]
    return float(np.mean(gains))


def _l1_below_median(true: Attributes, predicted: Attributes, known: Attributes) -> float:
    baseline = np.abs(np.median(known.continuous, axis=0) - true.continuous).mean()
    return float(100 * (1 - np.abs(predicted.continuous - true.continuous).mean() / baseline))


# Mean gains over the constants of the training generators, from true, predicted and training attributes: per cent of
# the L1 error, and macro-F1.
GAINS: dict[str, Callable[[Attributes, Attributes, Attributes], float]] = {
    "continuous": _l1_below_median,
    "discrete": lambda true, predicted, known: _f1_above_mode(true.discrete, predicted.discrete, known.discrete),
    "losses": lambda true, predicted, known: _f1_above_mode(true.losses, predicted.losses, known.losses),
}


def beats_baselines(metric: dict[str, float], margin: float = 0.0) -> bool:
    """Return whether an attribute's macro-F1 beats its mode and its random baseline by more than a margin."""
    baseline = max(metric["mode_macro_f1"], metric["random_macro_f1"])
    return metric["macro_f1"] > baseline + margin and metric["accuracy"] >= metric["mode_accuracy"]


def _mode(values: np.ndarray) -> float:
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()])


def _median(values: np.ndarray) -> float:
    return float(np.median(values))


def _family_constants(
    known: np.ndarray, known_family: np.ndarray, family: np.ndarray, constant: Callable[[np.ndarray], float]
) -> np.ndarray:
    """Return the constant of each picture's recognised family over the training generators.

    A family without training generators gets the constant of all of them.
    """
    constants = {f: constant(known[known_family == f]) for f in np.unique(known_family)}
    return np.array([constants.get(f, constant(known)) for f in family])


def _class_metrics(
    truth: np.ndarray, predicted: np.ndarray, known: np.ndarray, of_family: np.ndarray | None
) -> dict[str, float]:
    mode = np.full(len(truth), _mode(known))
    found = {
        "macro_f1": metrics.macro_f1(truth, predicted),
        "mode_macro_f1": metrics.macro_f1(truth, mode),
        "random_macro_f1": metrics.random_macro_f1(known, truth),
        "accuracy": float((predicted == truth).mean()),
        "mode_accuracy": float((mode == truth).mean()),
    }
    return found if of_family is None else found | {"family_macro_f1": metrics.macro_f1(truth, of_family)}


def _loss_auc(truth: np.ndarray, probability: np.ndarray) -> float | None:
    """Return the AUC of one loss, or None if all generators agree on it."""
    if len(np.unique(truth)) < 2:
        return None
    return metrics.auc(probability[truth == 0], probability[truth == 1])


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 and b.std() > 1e-6 else None


def attribute_metrics(
    values: dict[str, np.ndarray],
    labels: Sequence[Labels],
    known: Sequence[Labels],
    half_widths: dict[str, float],
    thresholds: dict[str, float],
) -> dict[str, object]:
    """Return the metrics of every attribute, with their baselines.

    Args:
        values: outputs averaged over each picture's windows, float32[P, K].
        labels: true labels, one for each picture.
        known: labels of the training generators.
        half_widths: half widths of the continuous attributes' intervals.
        thresholds: probabilities from which a loss counts as used.
    """
    true, trained = Attributes.from_labels(labels), Attributes.from_labels(known)
    predicted = Attributes.from_outputs(values, thresholds)

    def baseline(column: np.ndarray, constant: Callable[[np.ndarray], float]) -> np.ndarray:
        return _family_constants(column, trained.family, predicted.family, constant)

    truth, train, guess = true.continuous, trained.continuous, predicted.continuous
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
        name: _class_metrics(truth[:, i], predicted.discrete[:, i], train[:, i], baseline(train[:, i], _mode))
        for i, name in enumerate(DISCRETE)
    }
    truth, train, probability = true.losses, trained.losses, sigmoid(values["losses"])
    losses = {
        name: {
            **_class_metrics(truth[:, i], predicted.losses[:, i], train[:, i], baseline(train[:, i], _mode)),
            "auc": _loss_auc(truth[:, i], probability[:, i]),
        }
        for i, name in enumerate(LOSSES)
    }
    return {
        "families": len(FAMILIES),
        "family": _class_metrics(true.family, predicted.family, trained.family, None),
        "continuous": continuous,
        "discrete": discrete,
        "losses": losses,
    }


def parsing_metrics(predictions: Predictions, collection: Collection, bundle: ParsingLabels) -> dict[str, object]:
    """Return the metrics of every attribute, and the mean gains with their 95 % intervals over generators."""
    true, predicted = true_and_predicted(predictions, collection, bundle)
    known = Attributes.from_labels(training_labels(collection))
    return {
        "generators": len(np.unique(predictions.source)),
        "pictures": len(predictions.source),
        "gains": {name: gain(true, predicted, known) for name, gain in GAINS.items()},
        "gain_intervals": {
            name: metrics.interval_over_groups(
                lambda rows, gain=gain: gain(true.take(rows), predicted.take(rows), known), predictions.source
            )
            for name, gain in GAINS.items()
        },
        **attribute_metrics(
            predictions.values,
            labels_of(predictions, collection),
            training_labels(collection),
            {parameter.name: parameter.half_width for parameter in bundle.continuous},
            _loss_thresholds(bundle),
        ),
    }
