"""docs/accuracy.md: targets, misses and limits."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from edgeparse.windows import min_picture_side
from training.evaluate.results import read_result
from training.evaluate.targets import TARGETS, Target, judge, published_is_better, worst_photo_source
from training.report import video
from training.report.markdown import interval, percent, table
from training.report.sources import ROOT, Sources
from training.report.tables import half_width

PAGE = ROOT / "docs" / "accuracy.md"
# Metrics of the study that the page shows.
STUDY_KEYS = (
    "detection_zoo_clean",
    "detection_public_clean",
    "detection_public_social_media",
    "unseen_cameras_called_generated",
    "same_generator_zoo_auc",
    "same_generator_public_auc",
    "discrete_f1_above_mode",
    "losses_f1_above_majority",
)
# The runs with and without the largest photo source.
LARGEST_SOURCE = ("with-largest", "without-largest")
CSV_FILES = """\
| file in [training/results](../training/results) | one row per |
|---|---|
| `targets.csv` | target, with the test generators trained again on another kind of CPU |
| `conditions.csv` | task, condition and metric |
| `generators.csv`, `photos.csv` | unseen generator, photo source |
| `parsing.csv` | attribute, with its baselines |
| `small_pictures.csv` | size of a picture |
| `precisions.csv` | metric, with a column for each precision |
| `study.csv`, `study_left_out.csv` | metric with a column for each network; generator or photo source left out |
| `spectral_lines.csv` | public generator, judged by spectral lines only |"""


def _outcome(target: Target, value: float, bounds: Sequence[float] | None) -> str:
    if not target.met(value):
        return "**missed**"
    return "met" if bounds is None or all(map(target.met, bounds)) else "met, interval spans it"


def _targets(sources: Sources) -> Iterator[str]:
    judged = list(judge(sources.evidence()))
    met = sum(value is not None and target.met(value) for target, value, _ in judged)
    yield "## Targets"
    yield (
        f"{met} of {len(judged)} targets are met. Values refer to test generators and photos of fold 0. Intervals (95 %) are "
        "bootstraps over generators, or exact binomial intervals for shares of photos. In the condition *mixed* every "
        "picture passes a random chain of resizing, blur, noise, JPEG and WebP. *Social media* is JPEG q75 for pictures "
        "of this size."
    )
    yield table(
        ("metric", "target", "value", "95%", ""),
        [
            (target.what, target.limit_text, "not measured", "", "")
            if value is None
            else (
                target.what,
                target.limit_text,
                target.format(value),
                target.format_interval(bounds),
                _outcome(target, value, bounds),
            )
            for target, value, bounds in judged
        ],
    )


def _misses(sources: Sources) -> Iterator[str]:
    evaluation = sources.evaluation
    public = evaluation["detection_public"]["clean"]["by_generator"]
    hardest, easiest = (f(public, key=lambda name: public[name]["auc"]) for f in (min, max))
    known = evaluation["attribution_zoo"]["mixed"]
    same = evaluation["same_generator_public"]["mixed"]
    photos = evaluation["detection_public"]["mixed"]
    worst = worst_photo_source(sources.evidence())
    largest = photos["camera_pictures_by_source"][worst]
    first, *_, most = evaluation["enrolment_zoo"]["mixed"]
    gains = {c: evaluation["parsing"][c]["gains"] for c in ("mixed", "clean")}
    yield "## Misses"
    lines = [
        f"**Public generators.** Detection depends on the generator: clean AUC is {public[hardest]['auc']:.3f} for {hardest} "
        f"and {public[easiest]['auc']:.3f} for {easiest}. There are {len(public)} of them, so the intervals are wide.",
        f"**False alarms.** The worst source is {worst}, with {largest} photos; one photo is {100 / largest:.1f} %.",
        f"**Attribution.** The zoo has {known['known_generators']} known generators; "
        f"accuracy is {percent(known['accuracy'])} against a chance of {percent(known['chance'])}. "
        "The embedding recognises how a generator is built, so an unknown generator resembles a known one.",
        f"**Comparing public generators.** The calibration was fitted on the zoo. It calls {percent(same['same_called_same'])} of "
        f"pairs of one generator the same, and {percent(same['different_called_same'])} of pairs of two.",
        f"**Enrolment.** With {most['pictures']} pictures in place of {first['pictures']}, accuracy on mixed pictures rises from "
        f"{percent(first['accuracy'])} to {percent(most['accuracy'])}.",
        f"**Model parsing.** Continuous attributes gain {gains['mixed']['continuous']:.1f} % over the training median "
        f"({gains['clean']['continuous']:.1f} % clean). Losses gain "
        f"{gains['mixed']['losses']:.3f} macro-F1 over the training majority.",
    ]
    yield "\n".join(f"- {line}" for line in lines)


def _study(sources: Sources) -> Iterator[str]:
    if sources.study is None:
        return
    runs = {run["run"]["name"]: run for run in sources.study["runs"]}
    folds = [run for name, run in runs.items() if name.startswith("fold-")]
    yield "## How far the figures depend on the split"
    if len(folds) > 1:
        yield (
            "Each fold leaves other generators and photo sources out (`python -m training experiments ablations`). Its networks "
            "are trained for minutes, far shorter than the bundle's, so compare them with each other only. "
            "Intervals use Student's t and treat the folds as independent, although they share most training data."
        )
        yield table(
            ("metric", *(f"fold {run['run']['fold']}" for run in folds), "mean"),
            [
                (target.what, *map(target.format, values), _mean(target, values))
                for target in TARGETS
                if target.key in STUDY_KEYS
                for values in [[run["figures"][target.key] for run in folds]]
            ],
        )
    if runs.keys() >= {"fold-0", "published"}:
        ours, published = runs["fold-0"], runs["published"]
        worse = published_is_better(ours, published)
        among = ", among them detection of public generators" if "detection_public_clean" in worse else ""
        both = ours["figures"].keys() & published["figures"].keys()
        yield (
            "**The published network** (DnCNN-17 with the parsing head, input shrunk to 64x64) was trained on the same pictures for "
            f"the same time. A pass costs {published['multiply_accumulates'] / ours['multiply_accumulates']:.1f} times as much as "
            f"a window of ours. It is better in {len(worse)} of {len(both)} metrics{among}."
        )
    if runs.keys() >= set(LARGEST_SOURCE):
        yield from _largest_source(*(runs[name] for name in LARGEST_SOURCE))


def _mean(target: Target, values: Sequence[float]) -> str:
    return f"{target.format(statistics.fmean(values))} ± {target.format_number(half_width(values, 1 / len(values)))}"


def _largest_source(seen: dict[str, Any], unseen: dict[str, Any]) -> Iterator[str]:
    (name,) = unseen["run"]["photos_left_out"]
    photos = unseen["photos"][name]
    yield (
        f"**Without the largest photo source.** A network that never saw a photo of {name}, nearly half of all photos, calls "
        f"{percent(photos['mixed'])} of its {photos['pictures']} photos generated (mixed). Detection of public generators, clean, "
        f"is {unseen['figures']['detection_public_clean']:.3f} without these photos and "
        f"{seen['figures']['detection_public_clean']:.3f} with them. Each is one network with one seed."
    )


def _retrained(sources: Sources) -> Iterator[str]:
    if sources.retrained is None:
        return
    mixed = sources.retrained["conditions"]["mixed"]
    yield (
        f"**Generators trained again.** {sources.retrained['generators']} test generators were trained again with other first weights "
        f"and photos. One picture of each network is told from two of one with AUC {mixed['auc']:.3f} "
        f"({interval(mixed['auc_interval'])}): the embedding recognises the construction, not the weights."
    )


def _limits(sources: Sources) -> Iterator[str]:
    yield "## Limits"
    yield from _retrained(sources)
    if sources.sizes is not None:
        test = sources.sizes["splits"]["test"]["cropped"]
        shares = {side: test[side]["public"]["camera"]["generated"] for side in ("16", "64", "128")}
        yield (
            f"**Small pictures.** A picture with a side below {min_picture_side()} pixels is refused. The window is filled with mirror "
            "images, which repeat as generator traces do: of photos cropped to "
            + ", ".join(f"{side} pixels {percent(share)}" for side, share in shares.items())
            + " are called generated."
        )
    if sources.testset is not None:
        yield (
            "**The test set of the repository** (`training/evaluate/testset.zip`) contains the test pictures that may be "
            "redistributed, thinned to the same number for every zoo generator to stay below 10 MB. It is too small to stand for "
            "all test pictures; `python -m training testset check BUNDLE` uses it to find regressions of more than a point."
        )
    yield (
        "**Selection.** Nothing is trained or fitted on test pictures, but their metrics were looked at after every bundle. "
        "The folds leave out other generators and photos."
    )


def render(sources: Sources) -> str:
    """Return the page."""
    measured = sources.evaluation["bundle"]
    same = "" if measured == sources.bundle.label else f" (measured as {measured}, which predicts the same)"
    head = [
        "# Accuracy",
        "Generated by `python -m training report`; edit the results or the generator, not this page. "
        f"Bundle {sources.bundle.label}, {sources.evaluation['variant']}{same}. The [model card](../MODEL_CARD.md) describes training "
        "data and robustness, the [research notes](research-notes.md) what was tried.",
    ]
    parts = (_targets, _misses, _study, _limits)
    blocks = [
        *head,
        *(b for part in parts for b in part(sources)),
        *video.section(read_result("video"), sources.bundle),
    ]
    return "\n\n".join([*blocks, "## Full tables", CSV_FILES]) + "\n"
