"""Parsing of public generators against the best constant."""

from __future__ import annotations

import numpy as np
import pytest

from edgeparse.gallery import Gallery
from training.data.dataset import Collection, Generator
from training.evaluate.predict import Predictions
from training.evaluate.public_parsing import ATTRIBUTES, public_parsing_metrics, size_class
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, Labels


def predictions(family: list[int], parameters: list[float]) -> Predictions:
    """Four pictures of two generators, with these answers."""
    values = {name: np.zeros((4, len(DISCRETE[name])), np.float32) for name in ATTRIBUTES}
    values["family"] = np.eye(len(FAMILIES), dtype=np.float32)[family]
    values["continuous"] = np.zeros((4, len(CONTINUOUS)), np.float32)
    scale = CONTINUOUS["parameters"]
    values["continuous"][:, list(CONTINUOUS).index("parameters")] = [scale.scale(value) for value in parameters]
    values["embedding"] = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    return Predictions(values, np.array([0, 0, 1, 1]))


COLLECTION = Collection(
    [
        # Their lineages are those of the two generators in the gallery.
        Generator("sd1-384px", Labels("gan", {"parameters": 5e5}, {"up_sampling": "nearest"}, None), False, "val"),
        Generator("taef2-reconstruction", Labels("vae", {"parameters": 5e7}, {}, None), False, "val"),
    ],
    [],
)
GALLERY = Gallery(("sd1", "taef2-reconstruction"), np.eye(4, dtype=np.float32)[:2])
GAN, VAE = (list(FAMILIES).index(name) for name in ("gan", "vae"))


def test_gains_are_above_the_best_constant() -> None:
    found = public_parsing_metrics(predictions([GAN, GAN, VAE, VAE], [1e5, 2e5, 2e7, 9e7]), GALLERY, COLLECTION)
    # A constant answer is right for half of the pictures: F1 of 2/3 and 0.
    for name in ("family", "size_class", "lineage"):
        assert found[name]["macro_f1"] == 1
        assert found[name]["constant_macro_f1"] == pytest.approx(1 / 3)
        assert found[name]["gain"] == pytest.approx(2 / 3)
        assert (found[name]["generators"], found[name]["pictures"], found[name]["values"]) == (2, 4, 2)
    # Only one generator's up-sampling is known, so there is nothing to tell.
    assert "up_sampling" not in found


def test_a_constant_answer_gains_nothing() -> None:
    found = public_parsing_metrics(predictions([GAN] * 4, [1e5] * 4), GALLERY, COLLECTION)
    assert found["family"]["gain"] == found["size_class"]["gain"] == 0


def test_size_classes() -> None:
    assert [size_class(parameters) for parameters in (9e5, 1e6, 9e6, 1e7)] == [0, 1, 1, 2]
