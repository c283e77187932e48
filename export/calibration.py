"""What a bundle's answers are fitted with: calibration, thresholds, intervals, what is worth reporting.

On validation pictures, of validation generators, from which training has learnt nothing; the test split is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import nct, norm
from sklearn.linear_model import LogisticRegression

from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import Bundle
from edgeparse.gallery import Gallery
from export.shrinkage import Shrinkage
from training.bars import CONFIDENCE, FALSE_ALARM, MISS
from training.data.dataset import Collection, Sample
from training.enrolment import ENROLLED, background, centroids, enrolled_draws
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES
from training.metrics import auc, macro_f1
from training.parsing import Answers, beats, headline
from training.predictions import Predictions, predict, with_photos_content
from training.questions import labels_of, pairs_of, training_labels, true_and_said

# Share of validation pictures whose true value lies in the interval.
COVERAGE = 0.8
# Photos that a set needs for its own share of false alarms to mean something, and for its own mean to.
LARGE_SET, SMALL_SET = 25, 5
# Chains through which every validation photo goes, as a crop and whole, before a threshold rests on it: what a codec does to one differs.
# One more has heavy edits, after which photos are as seldom to be called generated.
DRAWS = 4
# A parameter is reported where it beats its constants by this much on validation generators: a tenth of the error, or this much of F1.
# What beats them by less may owe it to the few generators that it was tried on.
ERROR_MARGIN, F1_MARGIN = 0.1, 0.05
# Fewer validation generators than this cannot tell a parameter that is predicted from one that is luckily guessed: of those that
# beat their constants on five, most did not hold on the test generators.
MIN_GENERATORS = 10
# The same of a loss: so many validation generators have to have it, and as many not, for a threshold to be fitted on them.
MIN_WITH = 3
# Of pairs of two generators of validation, at most this share may be said to be of one.
FALSE_SAME = 0.05
# Share of pictures of unseen generators that may be taken for a known one.
FALSE_NAME = 0.1
# How much nearer an enrolled generator has to come, by how near generators usually do (training/results/tried.json).
ENROLLED_SHARE = 0.6


def label_spaces(collection: Collection) -> dict[str, object]:
    """The manifest's label spaces, before anything is known of how well they are predicted.

    A loss counts as used where it is likelier than it is frequent among training generators.
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
    """The logits of camera photos by the set that they come from, whole photos and the zoo's crops together."""
    sets: dict[str, list[np.ndarray]] = {}
    for p in cameras:
        for i in np.unique(p.source):
            sets.setdefault(collection.sources[i].name, []).append(p.logit[p.of([i])])
    return {name: np.concatenate(parts) for name, parts in sets.items()}


def fit_thresholds(by_set: dict[str, np.ndarray], by_kind: Sequence[np.ndarray], views: int = 2) -> dict[str, float]:
    """Platt scaling with the classes weighted equally, and the kinds of generators; and the two thresholds of the verdict. From logits of
    photos by set, as many of a photo as `views`, and of either kind of generators.

    Few pictures of either kind may be called camera: public generators are fewer than the zoo's, and harder to tell. And few photos may
    be called generated, of all of them and of each set: cameras differ, and the next one is rather like the worst of these than like their
    mean. Photos of a small set are taken to spread about its mean as those of all sets do about theirs. See `alarm_bound`.
    """
    camera = np.concatenate(list(by_set.values()))
    kinds = [logits for logits in by_kind if len(logits)]
    logits = np.concatenate([camera, *kinds])
    truth = np.r_[np.zeros(len(camera)), np.ones(len(logits) - len(camera))]
    weights = [1 / len(camera), *(1 / len(kinds) / len(kind) for kind in kinds)]
    weight = np.repeat(weights, [len(camera), *map(len, kinds)]) * len(logits) / 2
    fit = LogisticRegression(C=1e3).fit(logits[:, None], truth, weight)
    # A network that ranks the classes the wrong way round on unseen generators knows nothing of them: it gets to say nothing.
    scale, bias = (float(fit.coef_[0, 0]), float(fit.intercept_[0])) if fit.coef_[0, 0] > 0 else (1e-6, 0.0)
    lowest = min(float(np.quantile(kind, MISS)) for kind in kinds)
    about = np.concatenate([values - values.mean() for values in by_set.values()])
    highest = alarm_bound(camera, views)
    for values in by_set.values():
        if len(values) >= LARGE_SET * views:
            highest = max(highest, alarm_bound(values, views))
        elif len(values) >= SMALL_SET * views:
            highest = max(highest, float(values.mean()) + alarm_bound(about, views))
    upper = max(0.5, 1 / (1 + np.exp(-(scale * highest + bias))) + 1e-4)
    lower = min(0.5, 1 / (1 + np.exp(-(scale * lowest + bias))))
    return {"scale": scale, "bias": bias, "camera": lower, "generated": min(upper, 0.9999)}


def alarm_bound(logits: np.ndarray, views: int = 2) -> float:
    """The logit above which at most `FALSE_ALARM` of photos like these lie, with `CONFIDENCE`: the one-sided tolerance bound of a normal
    distribution, or their own quantile where that is higher. Every photo has as many logits as `views`, which count as one.
    """
    photos = max(2, len(logits) // views)
    # Exact, by the noncentral t distribution: Owen, "A survey of properties and applications of the noncentral t-distribution", 1968.
    factor = nct.ppf(CONFIDENCE, photos - 1, norm.ppf(1 - FALSE_ALARM) * photos**0.5) / photos**0.5
    return max(float(logits.mean() + factor * logits.std(ddof=1)), float(np.quantile(logits, 1 - FALSE_ALARM)))


def fit_same_generator(strangers: Predictions) -> dict[str, float] | None:
    """Platt scaling of the cosine of two pictures of validation generators, and the probability from which a pair is of one.

    None where there are too few generators for pairs, or where the network's embeddings are no closer for one generator than for two.
    """
    score, truth = pairs_of(strangers)
    if not len(score):
        return None
    # Next to no regularisation, which would shrink a scale that is large beside one.
    fit = LogisticRegression(class_weight="balanced", C=1e6, max_iter=1000).fit(score[:, None], truth)
    scale, bias = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if scale <= 0:
        return None
    chance = 1 / (1 + np.exp(-(scale * score[~truth] + bias)))
    threshold = max(0.5, float(np.quantile(chance, 1 - FALSE_SAME)))
    return {"scale": scale, "bias": bias, "threshold": min(threshold, 0.999)}


def validation_pictures(collection: Collection) -> dict[str, list[Sample]]:
    """What is fitted on: pictures of validation photos, as the zoo's crops and whole, and of validation generators."""
    return {
        "crops": collection.select(split="val", camera=True, zoo=True),
        "photos": collection.select(split="val", camera=True, zoo=False),
        "zoo": collection.select(split="val", camera=False, zoo=True, source_split="val"),
        "real": collection.select(split="val", camera=False, zoo=False, source_split="val"),
    }


def redrawn(
    look: Callable[..., Predictions], val: dict[str, list[Sample]], p: dict[str, Predictions]
) -> list[Predictions]:
    """Predictions for the photos among `validation_pictures`, as crops and whole, through `DRAWS` chains each and one of heavy edits: `p`
    has those of the first, `look` makes the others."""
    kinds = ("crops", "photos")
    return [
        *(look(val[key], draw=draw) if draw else p[key] for draw in range(DRAWS) for key in kinds),
        *(look(val[key], condition="edited") for key in kinds),
    ]


def fit_calibration(
    p: dict[str, Predictions], photos: Sequence[Predictions], gallery: Gallery, collection: Collection
) -> dict[str, object]:
    """The manifest's calibration, from predictions for `validation_pictures`, of whose photos there are several; `same` only where
    pictures can be compared."""
    nearest = [(p[key].embeddings() @ gallery.vectors.T).max(1) for key in ("real", "zoo") if len(p[key].source)]
    # Public generators differ in what they show, so that on them content would pass for a trace.
    same = fit_same_generator(with_photos_content(p["zoo"], collection))
    return {
        **fit_thresholds(_by_set(photos, collection), (p["zoo"].logit, p["real"].logit), len(photos)),
        # Of either kind of strangers: there are many more pictures of the zoo, and they lie farther from the public generators known.
        "known": max(float(np.quantile(similarity, 1 - FALSE_NAME)) for similarity in nearest),
        **fit_enrolled(with_photos_content(p["zoo"], collection), gallery),
        **({"same": same} if same else {}),
    }


def fit_gallery(look: Callable[..., Predictions], collection: Collection) -> Gallery:
    """The public generators of training, by all their pictures there, before a background of all generators of training."""
    known = look(collection.select(split="train", camera=False, zoo=False, source_split="train"))
    return replace(centroids(known, collection), background=background(look, collection))


def fit_enrolled(made: Predictions, gallery: Gallery) -> dict[str, float]:
    """What an enrolled generator needs to be named, by enrolling validation generators and looking for others of them; nothing where there
    are too few."""
    near = [
        draw.strangers.similarity[:, draw.names >= 0].max(1) - ENROLLED_SHARE * draw.strangers.usual
        for draw in enrolled_draws(made, gallery, ENROLLED[0])
    ]
    if not near:
        return {}
    return {"enrolled": float(np.quantile(np.concatenate(near), 1 - FALSE_NAME)), "enrolled_share": ENROLLED_SHARE}


def fit_shrinkage(made: Predictions, collection: Collection) -> Shrinkage:
    """How far to draw estimates to the medians of the zoo's training generators, by predictions for pictures of validation ones."""
    medians = np.median(Answers.true(training_labels(collection)).continuous, axis=0)
    return Shrinkage.fit(made.values["continuous"], Answers.true(labels_of(made, collection)).continuous, medians)


def fit_labels(labels: dict, made: Predictions, collection: Collection) -> None:
    """Half widths that cover the wanted share of validation pictures, and the loss thresholds of the best macro-F1 there.

    A loss that too few generators have, or have not, keeps the threshold that `label_spaces` gave it, and is not reported.
    """
    truth = np.stack([collection.sources[i].labels.continuous_vector() for i in made.source])
    error = np.abs(np.clip(made.values["continuous"], 0, 1) - truth)
    for i, entry in enumerate(labels["continuous"]):
        entry["half_width"] = float(np.quantile(error[:, i], COVERAGE))
    used = np.stack([collection.sources[i].labels.loss_vector() for i in made.source])
    chance = 1 / (1 + np.exp(-made.values["losses"]))
    _, first = np.unique(made.source, return_index=True)
    having = used[first].sum(0)
    for i, entry in enumerate(labels["losses"]):
        if min(having[i], len(first) - having[i]) < MIN_WITH:
            entry["reported"] = False
        else:
            grid = np.linspace(0.1, 0.9, 33)
            scores = [macro_f1(used[:, i], (chance[:, i] >= t).astype(float)) for t in grid]
            entry["threshold"] = float(grid[int(np.argmax(scores))])


def choose_reported(labels: dict, figures: dict) -> None:
    """A report shows only what beats a constant on validation generators, and nothing where these are too few to tell."""
    if figures["generators"] < MIN_GENERATORS:
        labels["family_reported"] = False
        for entry in (*labels["continuous"], *labels["discrete"], *labels["losses"]):
            entry["reported"] = False
        return
    labels["family_reported"] = beats(figures["family"], F1_MARGIN)
    for entry in labels["continuous"]:
        figure = figures["continuous"][entry["name"]]
        entry["reported"] = figure["l1"] < (1 - ERROR_MARGIN) * min(figure["median_l1"], figure["mean_l1"])
    for entry in labels["discrete"]:
        figure = figures["discrete"][entry["name"]]
        entry["reported"] = beats(figure, F1_MARGIN)
    for entry in labels["losses"]:
        figure = figures["losses"][entry["name"]]
        ranked = figure["auc"] is not None and figure["auc"] > 0.5 + F1_MARGIN
        entry["reported"] = entry["reported"] and ranked and beats(figure, F1_MARGIN)


def compare_variants(
    folder: Path,
    val: dict[str, list[Sample]],
    known: dict[str, Predictions],
    collection: Collection,
    bundle: Bundle,
) -> dict[str, dict[str, float]]:
    """Each head's accuracy on validation pictures, by precision; `known` are the predictions of the bundle's default."""
    table: dict[str, dict[str, float]] = {}
    for name, file in bundle.variants.items():
        p = known
        if name != bundle.default_variant:
            backend = OnnxRuntimeBackend((folder / file).read_bytes())
            p = {key: predict(backend, samples, "mixed") for key, samples in val.items()}
        table[name] = {
            "detection_zoo_auc": auc(p["crops"].logit, p["zoo"].logit),
            "detection_real_auc": auc(p["photos"].logit, p["real"].logit),
            **headline(*true_and_said(p["zoo"], collection, bundle)),
        }
        cosine, same = pairs_of(with_photos_content(p["zoo"], collection))
        if len(cosine):
            table[name]["same_generator_auc"] = auc(cosine[~same], cosine[same])
    return table
