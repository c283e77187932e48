"""Calibration and thresholds, fitted on arrays with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats

from export.calibration import (
    alarm_bound,
    fit_labels,
    fit_thresholds,
    label_spaces,
)
from training.data.dataset import Collection, Generator
from training.evaluate.predict import Predictions
from training.evaluate.targets import CONFIDENCE, MAX_FALSE_ALARMS, MAX_MISSES
from training.labels import CONTINUOUS, Labels


def test_alarm_bound_holds_for_small_samples() -> None:
    rng = np.random.default_rng(0)
    tail = scipy.stats.norm.sf
    held = [tail(alarm_bound(np.repeat(rng.normal(size=60), 2))) <= MAX_FALSE_ALARMS for _ in range(400)]
    assert abs(np.mean(held) - CONFIDENCE) < 0.03
    # A quantile of so few photos lets more than one in a hundred pass in every second draw.
    quantiles = [tail(np.quantile(rng.normal(size=60), 1 - MAX_FALSE_ALARMS)) <= MAX_FALSE_ALARMS for _ in range(400)]
    assert np.mean(quantiles) < 0.6
    # A tail that is not normal is covered.
    assert alarm_bound(np.r_[np.zeros(90), np.full(10, 50.0)]) == 50


def test_camera_threshold_limits_misses_of_both_kinds() -> None:
    rng = np.random.default_rng(0)
    photos, zoo, public = rng.normal(-2, 1, 400), rng.normal(4, 1, 2000), rng.normal(0, 1, 60)
    fitted = fit_thresholds({"photos": photos}, (zoo, public))
    limit = (np.log(fitted["camera"] / (1 - fitted["camera"])) - fitted["bias"]) / fitted["scale"]
    assert (public < limit).mean() <= MAX_MISSES
    assert 0.2 < (photos < limit).mean() < 0.8
    # The number of easy pictures does not matter.
    again = fit_thresholds({"photos": photos}, (np.tile(zoo, 5), public))
    assert again == pytest.approx(fitted, rel=0.02)
    # One kind may be missing.
    assert fit_thresholds({"photos": photos}, (zoo, np.empty(0)))["camera"] > fitted["camera"]


def test_a_photo_set_with_higher_logits_raises_the_threshold() -> None:
    rng = np.random.default_rng(0)
    by_set, kinds = {"large": rng.normal(0, 1, 400)}, (rng.normal(2, 1, 2000), np.empty(0))

    def limit(views: int = 2, **more: np.ndarray) -> float:
        fitted = fit_thresholds({**by_set, **more}, kinds, views)
        return float((scipy.special.logit(fitted["generated"]) - fitted["bias"]) / fitted["scale"])

    alone = limit()
    assert 2.3 < alone < 3.0
    # Eight photos with two logits each: their mean counts, their spread does not.
    assert limit(small=np.full(16, 2.0)) == pytest.approx(alone + 2, abs=0.3)
    assert limit(small=np.zeros(16)) == pytest.approx(alone, abs=0.1)
    # Fewer photos are ignored, and more views of a photo are not more photos.
    assert limit(few=np.full(8, 2.0)) == pytest.approx(alone, abs=0.3)
    assert limit(views=8) > alone + 0.05


def test_a_loss_of_a_single_generator_gets_no_fitted_threshold() -> None:
    def generators(split: str) -> list[Generator]:
        used = [("L1",) if i < 4 else ("hinge",) if i == 4 else () for i in range(8)]
        return [
            Generator(f"vae-{i}-{split}", Labels("vae", {}, {}, losses), True, split) for i, losses in enumerate(used)
        ]

    collection = Collection([*generators("val"), *generators("train")], [])
    used = np.stack([s.labels.loss_vector() for s in collection.sources[:8] if s.labels is not None])
    values = {"continuous": np.zeros((8, len(CONTINUOUS)), np.float32), "losses": (4 * used - 1).astype(np.float32)}
    labels = label_spaces(collection)
    fit_labels(labels, Predictions(values, np.arange(8)), collection)
    fitted = {entry["name"]: entry for entry in labels["losses"]}
    assert (fitted["L1"]["reported"], fitted["hinge"]["reported"], fitted["WGAN"]["reported"]) == (True, False, False)
    # The threshold is the frequency in training; a loss that no generator uses is practically never predicted.
    assert (fitted["hinge"]["threshold"], fitted["WGAN"]["threshold"]) == (1 / 8, 0.5)
    assert fitted["L1"]["threshold"] not in (0.5, 4 / 8)
