"""Fit everything that a bundle needs besides its network: calibration, thresholds, intervals, and what to report.

All of it is fitted on validation pictures of validation generators, which training has not learnt from. The test split is
never used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import nct, norm
from sklearn.linear_model import LogisticRegression

from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import Bundle
from edgeparse.gallery import Gallery
from export.shrinkage import Shrinkage
from training.data.dataset import Collection, Sample
from training.evaluate.attribution import ENROLLED, build_cohort, centroids, enrolment_draws, sample_pairs
from training.evaluate.model_parsing import (
    Attributes,
    beats_baselines,
    group_means,
    labels_of,
    training_labels,
    true_and_predicted,
)
from training.evaluate.predict import Predictions, predict, with_photo_content
from training.evaluate.targets import CONFIDENCE, MAX_FALSE_ALARMS, MAX_MISSES
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES
from training.metrics import auc, macro_f1

# Fraction of validation pictures whose true value lies in the reported interval.
COVERAGE = 0.8
# Photos that a set needs before its own false alarm rate counts, and before its own mean does.
LARGE_SET, SMALL_SET = 25, 5
# Random codec chains applied to each validation photo, cropped and whole, because a photo's score depends on its codec.
# One more chain has heavy edits, after which photos must be called generated as rarely.
DRAWS = 4
# A parameter is reported only if it beats its constant baselines by this margin on validation generators: relative error
# of continuous parameters, F1 of the others. A smaller lead may be luck with few generators.
ERROR_MARGIN, F1_MARGIN = 0.1, 0.05
# With fewer validation generators, a lucky guess looks like a prediction. Most parameters that beat their baselines on
# five generators did not on the test generators.
MIN_GENERATORS = 10
# Validation generators that must have a loss, and that must lack it, before its threshold is fitted.
MIN_WITH = 3
# Largest fraction of pairs of two validation generators that may be called one generator.
FALSE_SAME = 0.05
# Largest fraction of pictures of unseen generators that may be given a known generator's name.
FALSE_NAME = 0.1
# Weight of the cohort similarity in the threshold of an enrolled generator (docs/research-notes.md).
COHORT_WEIGHT = 0.6


def label_spaces(collection: Collection) -> dict[str, Any]:
    """Return the manifest's label spaces with default thresholds.

    A loss counts as used if its probability exceeds its frequency among training generators.
    """
    frequency = np.stack([labels.loss_vector() for labels in training_labels(collection)]).mean(axis=0)
    return {
        "family": list(FAMILIES),
        "family_reported": True,
        "continuous": [
            {
                "name": name,
                "low": p.low,
                "high": p.high,
                "log": p.log,
                "unit": p.unit,
                "half_width": 1.0,
                "reported": True,
            }
            for name, p in CONTINUOUS.items()
        ],
        "discrete": [{"name": name, "values": list(values), "reported": True} for name, values in DISCRETE.items()],
        "losses": [
            {"name": name, "threshold": share if 0 < share < 1 else 0.5, "reported": share > 0}
            for name, share in zip(LOSSES, frequency.astype(float).tolist(), strict=True)
        ],
    }


def _by_set(cameras: Sequence[Predictions], collection: Collection) -> dict[str, np.ndarray]:
    """Group the logits of camera photos, cropped and whole, by the name of their data set."""
    sets: dict[str, list[np.ndarray]] = {}
    for p in cameras:
        for i in np.unique(p.source):
            sets.setdefault(collection.sources[i].name, []).append(p.logit[p.source == i])
    return {name: np.concatenate(parts) for name, parts in sets.items()}


def fit_thresholds(by_set: dict[str, np.ndarray], by_kind: Sequence[np.ndarray], views: int = 2) -> dict[str, float]:
    """Fit Platt scaling and the two thresholds of the verdict.

    Both classes, and both kinds of generators, have equal weight. The lower threshold calls few generated pictures
    `camera`, for the harder kind too: public generators are fewer than the zoo's and harder. The upper one calls few
    photos `generated`, overall and in each set, since the next camera may be as hard as the worst set. A small set is
    assumed to spread about its mean as all sets do about theirs.

    Args:
        by_set: Logits of camera photos by data set.
        by_kind: Logits of zoo and of public generators.
        views: Logits per photo.

    Returns:
        `scale`, `bias`, and the thresholds `camera` and `generated`, which are probabilities.
    """
    camera = np.concatenate(list(by_set.values()))
    kinds = [logits for logits in by_kind if len(logits)]
    logits = np.concatenate([camera, *kinds])
    truth = np.r_[np.zeros(len(camera)), np.ones(len(logits) - len(camera))]
    weights = [1 / len(camera), *(1 / len(kinds) / len(kind) for kind in kinds)]
    weight = np.repeat(weights, [len(camera), *map(len, kinds)]) * len(logits) / 2
    fit = LogisticRegression(C=1e3).fit(logits[:, None], truth, weight)
    # A network that ranks unseen generators below photos knows nothing about them: make every verdict inconclusive.
    scale, bias = (float(fit.coef_[0, 0]), float(fit.intercept_[0])) if fit.coef_[0, 0] > 0 else (1e-6, 0.0)
    lowest_generated = min(float(np.quantile(kind, MAX_MISSES)) for kind in kinds)
    spread = np.concatenate([values - values.mean() for values in by_set.values()])
    highest_camera = alarm_bound(camera, views)
    for values in by_set.values():
        if len(values) >= LARGE_SET * views:
            highest_camera = max(highest_camera, alarm_bound(values, views))
        elif len(values) >= SMALL_SET * views:
            highest_camera = max(highest_camera, float(values.mean()) + alarm_bound(spread, views))
    upper = max(0.5, 1 / (1 + np.exp(-(scale * highest_camera + bias))) + 1e-4)
    lower = min(0.5, 1 / (1 + np.exp(-(scale * lowest_generated + bias))))
    return {"scale": scale, "bias": bias, "camera": lower, "generated": min(upper, 0.9999)}


def alarm_bound(logits: np.ndarray, views: int = 2) -> float:
    """Return a logit that at most `MAX_FALSE_ALARMS` of such photos exceed, with confidence `CONFIDENCE`.

    This is the one-sided tolerance bound of a normal distribution, or the sample's own quantile if that is higher. The
    bound is exact (Owen, "A survey of properties and applications of the noncentral t-distribution", 1968).

    Args:
        logits: float[photos * views].
        views: Logits per photo, which count as one observation.
    """
    photos = max(2, len(logits) // views)
    factor = nct.ppf(CONFIDENCE, photos - 1, norm.ppf(1 - MAX_FALSE_ALARMS) * photos**0.5) / photos**0.5
    return max(float(logits.mean() + factor * logits.std(ddof=1)), float(np.quantile(logits, 1 - MAX_FALSE_ALARMS)))


def fit_same_generator(predictions: Predictions) -> dict[str, float] | None:
    """Fit the probability that one generator made both pictures of a pair, from the cosine of their embeddings.

    Returns:
        `scale`, `bias` and `threshold`, or None if there are too few generators, or if embeddings of one generator are
        no closer than those of two.
    """
    score, truth = sample_pairs(predictions)
    if not len(score):
        return None
    # Almost no regularisation, which would shrink the large scale.
    fit = LogisticRegression(class_weight="balanced", C=1e6, max_iter=1000).fit(score[:, None], truth)
    scale, bias = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if scale <= 0:
        return None
    chance = 1 / (1 + np.exp(-(scale * score[~truth] + bias)))
    threshold = max(0.5, float(np.quantile(chance, 1 - FALSE_SAME)))
    return {"scale": scale, "bias": bias, "threshold": min(threshold, 0.999)}


def validation_pictures(collection: Collection) -> dict[str, list[Sample]]:
    """Return the validation pictures: photos as crops and whole, and zoo and public generators."""
    return {
        "crops": collection.select(split="val", camera=True, zoo=True),
        "photos": collection.select(split="val", camera=True, zoo=False),
        "zoo": collection.select(split="val", camera=False, zoo=True, source_split="val"),
        "public": collection.select(split="val", camera=False, zoo=False, source_split="val"),
    }


def predict_photo_draws(
    predict_samples: Callable[..., Predictions], val: dict[str, list[Sample]], p: dict[str, Predictions]
) -> list[Predictions]:
    """Predict the validation photos through `DRAWS` codec chains each, and through one chain of heavy edits.

    Args:
        predict_samples: Predicts samples; takes `draw` and `condition`.
        val: `validation_pictures`.
        p: Predictions for `val`, which serve as the first draw.
    """
    kinds = ("crops", "photos")
    return [
        *(predict_samples(val[key], draw=draw) if draw else p[key] for draw in range(DRAWS) for key in kinds),
        *(predict_samples(val[key], condition="edited") for key in kinds),
    ]


def fit_calibration(
    p: dict[str, Predictions], photos: Sequence[Predictions], gallery: Gallery, collection: Collection
) -> dict[str, object]:
    """Return the manifest's calibration; `same` is missing if pictures cannot be compared.

    Args:
        p: Predictions for `validation_pictures`.
        photos: Predictions for the photos, several draws each.
        gallery: The known generators.
        collection: The pictures' collection.
    """
    nearest = [(p[key].embeddings() @ gallery.vectors.T).max(1) for key in ("public", "zoo") if len(p[key].source)]
    # Public generators show different content, which would pass for a trace.
    same = fit_same_generator(with_photo_content(p["zoo"], collection))
    return {
        **fit_thresholds(_by_set(photos, collection), (p["zoo"].logit, p["public"].logit), len(photos)),
        # Take the stricter kind: zoo pictures outnumber public ones and lie farther from the known generators.
        "known": max(float(np.quantile(similarity, 1 - FALSE_NAME)) for similarity in nearest),
        **fit_enrolled(with_photo_content(p["zoo"], collection), gallery),
        **({"same": same} if same else {}),
    }


def fit_gallery(predict_samples: Callable[..., Predictions], collection: Collection) -> Gallery:
    """Return the gallery of public training generators, with a cohort of all training generators."""
    known = predict_samples(collection.select(split="train", camera=False, zoo=False, source_split="train"))
    return replace(centroids(known, collection), cohort=build_cohort(predict_samples, collection))


def fit_enrolled(predictions: Predictions, gallery: Gallery) -> dict[str, float]:
    """Fit the threshold of an enrolled generator by enrolling validation generators and querying with others.

    Returns:
        `enrolled` and `cohort_weight`, or nothing if there are too few generators.
    """
    near = [
        draw.impostors.similarity[:, draw.names >= 0].max(1) - COHORT_WEIGHT * draw.impostors.cohort_similarity
        for draw in enrolment_draws(predictions, gallery, ENROLLED)
    ]
    if not near:
        return {}
    return {"enrolled": float(np.quantile(np.concatenate(near), 1 - FALSE_NAME)), "cohort_weight": COHORT_WEIGHT}


def fit_shrinkage(predictions: Predictions, collection: Collection) -> Shrinkage:
    """Fit how far to shrink continuous estimates to the medians of the zoo's training generators."""
    medians = np.median(Attributes.from_labels(training_labels(collection)).continuous, axis=0)
    truth = Attributes.from_labels(labels_of(predictions, collection)).continuous
    return Shrinkage.fit(predictions.values["continuous"], truth, medians)


def fit_labels(labels: dict[str, Any], predictions: Predictions, collection: Collection) -> None:
    """Set, in place, the half widths of intervals and the loss thresholds with the best macro-F1.

    A loss that too few generators have, or lack, keeps its default threshold and is not reported.
    """
    truth = np.stack([collection.sources[i].labels.continuous_vector() for i in predictions.source])
    error = np.abs(np.clip(predictions.values["continuous"], 0, 1) - truth)
    for i, entry in enumerate(labels["continuous"]):
        entry["half_width"] = float(np.quantile(error[:, i], COVERAGE))
    used = np.stack([collection.sources[i].labels.loss_vector() for i in predictions.source])
    chance = 1 / (1 + np.exp(-predictions.values["losses"]))
    _, first = np.unique(predictions.source, return_index=True)
    with_loss = used[first].sum(0)
    for i, entry in enumerate(labels["losses"]):
        if min(with_loss[i], len(first) - with_loss[i]) < MIN_WITH:
            entry["reported"] = False
        else:
            grid = np.linspace(0.1, 0.9, 33)
            scores = [macro_f1(used[:, i], (chance[:, i] >= t).astype(float)) for t in grid]
            entry["threshold"] = float(grid[int(np.argmax(scores))])


def choose_reported(labels: dict[str, Any], figures: dict[str, Any]) -> None:
    """Mark, in place, what a report shows: only what beats a constant baseline on validation generators."""
    if figures["generators"] < MIN_GENERATORS:
        labels["family_reported"] = False
        for entry in (*labels["continuous"], *labels["discrete"], *labels["losses"]):
            entry["reported"] = False
        return
    labels["family_reported"] = beats_baselines(figures["family"], F1_MARGIN)
    for entry in labels["continuous"]:
        figure = figures["continuous"][entry["name"]]
        entry["reported"] = figure["l1"] < (1 - ERROR_MARGIN) * min(figure["median_l1"], figure["mean_l1"])
    for entry in labels["discrete"]:
        figure = figures["discrete"][entry["name"]]
        entry["reported"] = beats_baselines(figure, F1_MARGIN)
    for entry in labels["losses"]:
        figure = figures["losses"][entry["name"]]
        ranked = figure["auc"] is not None and figure["auc"] > 0.5 + F1_MARGIN
        entry["reported"] = entry["reported"] and ranked and beats_baselines(figure, F1_MARGIN)


def compare_variants(
    folder: Path,
    val: dict[str, list[Sample]],
    known: dict[str, Predictions],
    collection: Collection,
    bundle: Bundle,
) -> dict[str, dict[str, float]]:
    """Measure each precision's accuracy on validation pictures.

    Args:
        folder: The bundle's folder.
        val: `validation_pictures`.
        known: Predictions of the bundle's default precision.
        collection: The pictures' collection.
        bundle: The opened bundle.
    """
    table: dict[str, dict[str, float]] = {}
    for name, file in bundle.variants.items():
        p = known
        if name != bundle.default_variant:
            backend = OnnxRuntimeBackend((folder / file).read_bytes())
            p = {key: predict(backend, samples, "mixed") for key, samples in val.items()}
        table[name] = {
            "detection_zoo_auc": auc(p["crops"].logit, p["zoo"].logit),
            "detection_public_auc": auc(p["photos"].logit, p["public"].logit),
            **group_means(*true_and_predicted(p["zoo"], collection, bundle)),
        }
        cosine, same = sample_pairs(with_photo_content(p["zoo"], collection))
        if len(cosine):
            table[name]["same_generator_auc"] = auc(cosine[~same], cosine[same])
    return table
