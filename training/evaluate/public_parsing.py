"""Model parsing of public generators whose labels are known, against the best constant answer.

The constant is the most frequent value among the evaluated pictures themselves. No other constant reaches a higher
macro-F1, so a gain above it comes from the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from edgeparse.gallery import Gallery
from training import metrics
from training.data.dataset import Collection
from training.data.public_sets import read_sets
from training.evaluate.predict import Predictions
from training.labels import CONTINUOUS, DISCRETE, Labels

ATTRIBUTES = ("normalization", "block_nonlinearity", "last_nonlinearity", "up_sampling")
# Upper limits of the size classes in parameters.
SIZES = (1e6, 1e7)
UNKNOWN = -1


def size_class(parameters: float) -> int:
    """Return 0 for a small, 1 for a middle and 2 for a large generator."""
    return int(np.searchsorted(SIZES, parameters, side="right"))


def public_parsing_metrics(predictions: Predictions, gallery: Gallery, collection: Collection) -> dict[str, Any]:
    """Return macro-F1, that of the best constant, and the gain with its interval over generators, by attribute.

    An attribute is missing if fewer than two values are known among the generators.
    """
    labels = [collection.sources[i].labels for i in predictions.source]
    truth: dict[str, Callable[[Labels], int]] = {"family": lambda label: label.family_index()}
    truth |= {name: partial(_value, name) for name in ATTRIBUTES}
    truth["size_class"] = lambda label: (
        size_class(label.continuous["parameters"]) if "parameters" in label.continuous else UNKNOWN
    )
    answers = {name: predictions.values[name].argmax(1) for name in ("family", *ATTRIBUTES)}
    answers["size_class"] = _sizes(predictions.values["continuous"])
    found = {
        name: _metrics(
            np.array([UNKNOWN if label is None else of(label) for label in labels]), answers[name], predictions
        )
        for name, of in truth.items()
    }
    found["lineage"] = _lineage(predictions, gallery, collection)
    return {name: figures for name, figures in found.items() if figures is not None}


def _value(name: str, label: Labels) -> int:
    """Return the number of a discrete parameter's value."""
    return DISCRETE[name].index(label.discrete[name]) if name in label.discrete else UNKNOWN


def _sizes(continuous: np.ndarray) -> np.ndarray:
    """Return the size classes, int[P], of scaled continuous parameters, float32[P, 9]."""
    scale = CONTINUOUS["parameters"]
    limits = [scale.scale(limit) for limit in SIZES]
    return np.searchsorted(limits, continuous[:, list(CONTINUOUS).index("parameters")], side="right")


def _lineage(predictions: Predictions, gallery: Gallery, collection: Collection) -> dict[str, Any] | None:
    """Judge the lineage of the nearest known generator, on generators whose lineage the gallery has."""
    lineage = {name: one.lineage for name, one in read_sets().items()}
    places = [i for i, name in enumerate(gallery.names) if lineage.get(name)]
    if not places:
        return None
    known = [lineage[gallery.names[i]] for i in places]
    numbers = {name: i for i, name in enumerate(sorted(set(known)))}
    nearest = (predictions.embeddings() @ gallery.vectors[places].T).argmax(1)
    truth = [numbers.get(lineage.get(collection.sources[i].name, ""), UNKNOWN) for i in predictions.source]
    return _metrics(np.array(truth), np.array([numbers[known[i]] for i in nearest]), predictions)


def _metrics(truth: np.ndarray, answers: np.ndarray, predictions: Predictions) -> dict[str, Any] | None:
    rows = np.flatnonzero(truth != UNKNOWN)
    truth, answers, source = truth[rows], answers[rows], predictions.source[rows]
    if len(np.unique(truth)) < 2:
        return None

    def best_constant(true: np.ndarray) -> float:
        values, counts = np.unique(true, return_counts=True)
        return metrics.macro_f1(true, np.full(len(true), values[counts.argmax()]))

    def gain(drawn: np.ndarray) -> float:
        return metrics.macro_f1(truth[drawn], answers[drawn]) - best_constant(truth[drawn])

    return {
        "macro_f1": metrics.macro_f1(truth, answers),
        "constant_macro_f1": best_constant(truth),
        "gain": gain(np.arange(len(truth))),
        "gain_interval": metrics.interval_over_groups(gain, source),
        "accuracy": float((truth == answers).mean()),
        "values": len(np.unique(truth)),
        "generators": len(np.unique(source)),
        "pictures": len(truth),
    }
