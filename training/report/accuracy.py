"""docs/accuracy.md: targets, misses and limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.evaluate.results import read_result
from training.evaluate.targets import Target, judge
from training.evaluate.tasks import PUBLIC_CONDITION
from training.report import video
from training.report.markdown import interval, percent, table
from training.report.measured import ROOT, Measured

PAGE = ROOT / "docs" / "accuracy.md"
CSV_FILES = """\
| file in [training/results](../training/results) | one row per |
|---|---|
| `targets.csv` | target |
| `conditions.csv` | condition of detection |
| `generators.csv`, `photos.csv` | left-out public generator, photo source |
| `parsing.csv` | attribute, of public generators and of the zoo, with its baselines |
| `precisions.csv` | metric, with a column for each precision |
| `sources.csv` | set of public pictures |"""


def _outcome(target: Target, value: float, bounds: Sequence[float] | None) -> str:
    if not target.met(value):
        return "**missed**"
    return "met" if bounds is None or all(map(target.met, bounds)) else "met, interval spans it"


def _targets(measured: Measured) -> Iterator[str]:
    judged = list(judge(measured.evidence()))
    met = sum(value is not None and target.met(value) for target, value, _ in judged)
    yield "## Targets"
    yield (
        f"{met} of {len(judged)} targets are met. Figures refer to public generators and cameras of owners that training left out. "
        "Intervals (95 %) draw sources again; those of categories and of the share of generators are exact binomial intervals. "
        f"Attribution, comparing, enrolment and parsing use {PUBLIC_CONDITION}, so that file formats tell nothing."
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


def _left_out(measured: Measured) -> Iterator[str]:
    if measured.left_out is None:
        return
    yield "## Detection of default-18 on left-out owners"
    yield (
        "default-18 is older than the targets, and only its detection was measured on owners that no training saw: the validation "
        "fold, `python -m training left-out`. It does not detect there. The next bundle is trained on the picture sets of the model card."
    )
    yield table(
        ("condition", "AUC", "95%", "generated pictures found at 1% accused photos"),
        [
            (condition, f"{found['auc']:.3f}", interval(found["interval"]), percent(found["recall_at_1_percent"]))
            for condition, found in measured.left_out.items()
            if isinstance(found, dict) and "auc" in found
        ],
    )


def _misses(measured: Measured) -> Iterator[str]:
    if measured.evaluation is None:
        return
    first = measured.evaluation["detection"]["as is"]
    generators = first["by_generator"]
    ranked = sorted(generators, key=lambda name: float(generators[name]["auc"]))
    photos = first["by_photo_source"]
    accused = sorted((name for name in photos if photos[name]["accused"]), key=lambda name: -photos[name]["accused"])
    yield "## Where it fails"
    lines = [
        "**Generators.** Lowest AUC: " + ", ".join(f"{n} {generators[n]['auc']:.3f}" for n in ranked[:5]) + ". "
        "Highest: " + ", ".join(f"{n} {generators[n]['auc']:.3f}" for n in ranked[:-4:-1]) + ".",
        "**False alarms.** "
        + (", ".join(f"{n} {percent(photos[n]['accused'])} of {photos[n]['pictures']}" for n in accused[:5]) or "None")
        + ".",
    ]
    if known := measured.evaluation.get("attribution"):
        lines.append(
            f"**Attribution.** {known['known']} known generators; a guess names {percent(known['chance'])} rightly. At the bundle's "
            f"threshold, {percent(known['known_named'])} of known and {percent(known['unknown_named'])} of unknown pictures get a name."
        )
    if (same := measured.evaluation.get("same_generator")) and "same_called_same" in same:
        lines.append(
            f"**Comparing.** {percent(same['same_called_same'])} of pairs of one generator are called the same, and "
            f"{percent(same['different_called_same'])} of pairs of two."
        )
    yield "\n".join(f"- {line}" for line in lines)


def _source_curve(measured: Measured) -> Iterator[str]:
    if measured.source_curve is None:
        return
    curve = measured.source_curve
    conditions = list(curve["runs"][0]["figures"])
    yield "## How many sources are enough"
    yield (
        f"The same network was trained for {curve['minutes']:g} minutes on some or all sources of each class, and judged on the same "
        f"sources of the fold `{curve['fold']}`. Compare these short trainings only with one another."
    )
    yield table(
        ("camera sources", "generators", *(f"AUC, {condition}" for condition in conditions)),
        [
            (
                run["camera"],
                run["generated"],
                *(f"{f['auc']:.3f} ({interval(f['interval'])})" for f in run["figures"].values()),
            )
            for run in curve["runs"]
        ],
    )


def _limits(measured: Measured) -> Iterator[str]:
    yield "## Limits"
    if measured.testset is not None:
        yield (
            "**The test set of the repository** (`training/evaluate/testset.zip`) contains test pictures that may be "
            "redistributed. Its photos are crops that training may have seen, since no photo of the test fold is free. Use "
            "`python -m training testset check BUNDLE` to find regressions of more than a point, and for nothing else."
        )
    if measured.evaluation is not None:
        yield (
            "**Selection.** All choices were made on the validation fold. The test fold was evaluated once for this bundle. "
            "[Research notes](research-notes.md) say what was tried."
        )


def render(measured: Measured) -> str:
    """Return the page."""
    head = [
        "# Accuracy",
        "Generated by `python -m training report`; edit the results or the generator, not this page. "
        f"Bundle {measured.bundle.label}, {measured.bundle.default_variant}. The [model card](../MODEL_CARD.md) describes training "
        "data and figures by condition.",
    ]
    parts = (_targets, _left_out, _misses, _source_curve, _limits)
    blocks = [
        *head,
        *(b for part in parts for b in part(measured)),
        *video.section(read_result("video"), measured.bundle),
    ]
    return "\n\n".join([*blocks, "## Full tables", CSV_FILES]) + "\n"
