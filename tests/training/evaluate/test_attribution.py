"""Comparing and enrolment, on embeddings with a known structure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeparse.gallery import Gallery
from edgeparse.manifest import SameGenerator
from edgeparse.postprocess import unit
from export.calibration import (
    FALSE_NAME,
    FALSE_SAME,
    fit_enrolled,
    fit_same_generator,
)
from tests.training.evaluate.synthetic_predictions import DIMENSION, gallery, naming_from, predictions
from training.data.dataset import Collection, Generator
from training.evaluate.attribution import (
    attribution_metrics,
    centroids,
    enrolment_metrics,
    same_generator_metrics,
    sample_pairs,
)
from training.evaluate.predict import Predictions


def test_pairs_are_balanced_over_generators() -> None:
    made = predictions(4, 10, 0.1)
    uneven = Predictions({"embedding": made.values["embedding"][:34]}, made.source[:34])
    score, truth = sample_pairs(uneven, count=4000)
    assert truth.mean() == 0.5
    assert np.abs(score).max() <= 1 + 1e-5
    assert score[truth].min() > score[~truth].max()


def test_metrics_lie_in_their_intervals() -> None:
    made = predictions(30, 20, 2.5)
    collection = Collection([Generator(f"g{i}", "generated", True, "train") for i in range(30)], [])
    known, unknown = made.rows_of(range(20)), made.rows_of(range(20, 30))
    parts = [Predictions({"embedding": made.values["embedding"][rows]}, made.source[rows]) for rows in (known, unknown)]
    figures = attribution_metrics(centroids(parts[0], collection), *parts, collection, None)
    for name in ("accuracy", "unknown_auroc", "oscr"):
        low, high = figures[f"{name}_interval"]  # type: ignore[misc]
        assert low < figures[name] < high
    found = enrolment_metrics(made, gallery(10), naming_from(0.7), pictures=10)
    assert found is not None
    for name in ("accuracy", "unknown_auroc"):
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high


def test_same_generator_metrics_detect_structure() -> None:
    clear = same_generator_metrics(predictions(8, 12, 0.2))
    noise = same_generator_metrics(predictions(8, 12, 100.0))
    assert clear is not None
    assert noise is not None
    assert clear["auc"] > 0.99  # type: ignore[operator]
    assert abs(noise["auc"] - 0.5) < 0.08  # type: ignore[operator]
    low, high = noise["auc_interval"]  # type: ignore[misc]
    assert low <= noise["auc"] <= high
    assert same_generator_metrics(predictions(1, 12, 0.2)) is None
    assert same_generator_metrics(predictions(8, 1, 0.2)) is None


def test_fitted_calibration_transfers_to_other_generators() -> None:
    fitted = fit_same_generator(predictions(60, 12, 1.2, seed=1))
    assert fitted is not None
    same = SameGenerator(**fitted)
    figures = same_generator_metrics(predictions(60, 12, 1.2, seed=3), same)
    assert figures is not None
    assert figures["calibration_error"] < 0.05  # type: ignore[operator]
    assert figures["different_called_same"] < 2 * FALSE_SAME  # type: ignore[operator]
    assert figures["same_called_same"] > 0.5  # type: ignore[operator]
    wrong = same_generator_metrics(predictions(60, 12, 1.2, seed=3), SameGenerator(1.0, 4.0, 0.5))
    assert wrong is not None
    assert wrong["calibration_error"] > 0.3  # type: ignore[operator]


def test_no_calibration_without_structure_or_generators() -> None:
    backwards = predictions(6, 6, 0.1)
    # Pictures of one generator point in all directions, and those of all generators in the same ones.
    ways = np.eye(6, DIMENSION, dtype=np.float32)
    backwards.values["embedding"] = np.tile(ways, (6, 1))
    assert fit_same_generator(backwards) is None
    assert fit_same_generator(predictions(1, 20, 0.1)) is None


def test_enrolment_names_new_generators_and_rejects_impostors() -> None:
    figures = enrolment_metrics(predictions(24, 30, 0.4), gallery(10), naming_from(0.7), pictures=10)
    assert figures is not None
    assert (figures["enrolled"], figures["names"], figures["pictures"]) == (16, 20, 10)
    assert figures["accuracy"] > 0.99
    assert figures["unknown_auroc"] > 0.99
    assert figures["named_rightly"] > 0.9
    assert figures["unknown_named"] < 0.1
    noise = enrolment_metrics(predictions(24, 30, 100.0), gallery(10), naming_from(0.7), pictures=10)
    assert noise is not None
    assert noise["accuracy"] < 0.2
    assert 0.35 < noise["unknown_auroc"] < 0.65


def test_enrolment_threshold_has_the_intended_false_name_rate() -> None:
    # Unseen generators lie closer together than those of the gallery.
    fitted = fit_enrolled(predictions(40, 30, 1.5, seed=5), gallery(10))
    figures = enrolment_metrics(
        predictions(40, 30, 1.5, seed=6), gallery(10), naming_from(fitted["enrolled"]), pictures=10
    )
    assert figures is not None
    assert figures["unknown_named"] == pytest.approx(FALSE_NAME, abs=0.05)
    assert fit_enrolled(predictions(2, 30, 0.4), gallery(10)) == {}
    # With few generators the gallery also has the bundle's own names, with their own threshold.
    few = [predictions(12, 60, 1.5, seed=seed) for seed in (7, 8)]
    figures = enrolment_metrics(
        few[1], gallery(40, seed=7), naming_from(**fit_enrolled(few[0], gallery(40, seed=7))), pictures=10
    )
    assert figures is not None
    assert (figures["enrolled"], figures["names"]) == (8, 20)
    assert figures["unknown_named"] == pytest.approx(FALSE_NAME, abs=0.05)


def test_cohort_similarity_raises_enrolled_thresholds() -> None:
    """Embeddings of pictures with faint traces are close to each other and to those of any generator."""
    made = predictions(40, 30, 1.5, seed=5)
    faint = np.random.default_rng(1).random(len(made.source)) < 0.5
    middle = unit(np.ones(DIMENSION, np.float32))
    made.values["embedding"][faint] = 0.2 * made.values["embedding"][faint] + 3 * middle
    plain = gallery(10)
    around = np.random.default_rng(2).normal(size=(30, DIMENSION)).astype(np.float32) * 0.2 + middle
    knowing = replace(plain, cohort=around / np.linalg.norm(around, axis=1, keepdims=True))
    figures = []
    for known in (plain, knowing):
        found = enrolment_metrics(made, known, naming_from(**fit_enrolled(made, known)), pictures=10)
        assert found is not None
        assert found["unknown_named"] == pytest.approx(FALSE_NAME, abs=0.03)
        figures.append(found)
    assert figures[1]["accuracy"] == figures[0]["accuracy"]
    assert figures[1]["unknown_auroc"] > figures[0]["unknown_auroc"] + 0.02
    assert figures[1]["named_rightly"] > figures[0]["named_rightly"] + 0.03


def test_more_enrolled_pictures_improve_accuracy() -> None:
    few, many = (
        enrolment_metrics(predictions(24, 80, 2.5), gallery(10), naming_from(0.5), pictures=n) for n in (3, 50)
    )
    assert few is not None
    assert many is not None
    assert many["accuracy"] > few["accuracy"] + 0.05


def test_enrolment_needs_three_generators_with_spare_pictures() -> None:
    assert enrolment_metrics(predictions(2, 30, 0.4), gallery(10), naming_from(0.7), pictures=10) is None
    assert enrolment_metrics(predictions(24, 10, 0.4), gallery(10), naming_from(0.7), pictures=10) is None
    small = enrolment_metrics(predictions(3, 30, 0.4), Gallery.empty(), naming_from(0.7), pictures=10)
    assert small is not None
    assert (small["enrolled"], small["names"]) == (2, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_are_deterministic(seed: int) -> None:
    made = predictions(5, 8, 0.5)
    assert np.array_equal(sample_pairs(made, seed)[0], sample_pairs(made, seed)[0])
