"""Accuracy targets, and whether an evaluation meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from training import metrics

# The measured results. Keys: "evaluation" (`training.evaluate.tasks`), "unseen_photos" (names of the photo sources that
# training never saw), "variants" (metrics of the manifest), "multiply_accumulates", "window_ms" (one window on a CPU),
# "precisions" (`training.evaluate.precisions`) and "study" (`training.experiments.ablations`).
Evidence = dict[str, Any]
T = TypeVar("T")

# The fitted thresholds call at most this share of photos generated, and this share of generated pictures camera.
MAX_FALSE_ALARMS = 0.01
MAX_MISSES = 0.05
# Confidence of the bound on false alarms: a hundred photos do not show a share of one in a hundred.
CONFIDENCE = 0.95
# Most points (hundredths) that a precision may lose against fp32 in any metric.
MAX_POINTS_LOST = 0.5
# Per cent of true values that an 80 % interval has to cover.
COVERAGE = (75, 85)


@dataclass(frozen=True)
class Target:
    """One metric and the limit that it has to meet.

    Attributes:
        key: name of the metric in JSON.
        what: description for tables.
        limit: the limit; with `upper`, the lower limit.
        value: finds the metric in the evidence; raises KeyError or TypeError if it was not measured.
        unit: unit for tables.
        at_least: whether higher values are better.
        interval: finds the metric's 95 % interval.
        upper: upper limit of a metric that is limited on both sides.
    """

    key: str
    what: str
    limit: float
    value: Callable[[Evidence], float]
    unit: str = ""
    at_least: bool = True
    interval: Callable[[Evidence], list[float]] | None = None
    upper: float | None = None

    @property
    def limit_text(self) -> str:
        """The limit for tables."""
        if self.upper is not None:
            return f"{self.limit:g} to {self.upper:g}{self.unit}"
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    def met(self, value: float) -> bool:
        """Return whether a value meets the target."""
        if self.upper is not None:
            return self.limit <= value <= self.upper
        return value >= self.limit if self.at_least else value <= self.limit

    def merit(self, value: float) -> float:
        """Return a number in the metric's unit that grows as the value gets better."""
        if self.upper is not None:
            return -abs(value - (self.limit + self.upper) / 2)
        return value if self.at_least else -value

    def better(self, value: float, other: float) -> bool:
        """Return whether a value is better than another."""
        return self.merit(value) > self.merit(other)

    def format(self, value: float) -> str:
        """Format a value with its unit."""
        return f"{self.format_number(value)}{self.unit}"

    def format_number(self, value: float) -> str:
        """Format a value without its unit."""
        unit = self.unit.strip()
        return f"{value:.{0 if unit.startswith('of ') else 1 if unit in ('%', 'points', 'ms', 'x') else 3}f}"

    def format_interval(self, interval: Iterable[float] | None) -> str:
        """Format an interval; return an empty string for None."""
        return " to ".join(map(self.format_number, interval or ()))


def _section_targets(
    section: Callable[[Evidence], dict[str, Any]], prefix: str, figures: Iterable[tuple[str, str, float]]
) -> Iterator[Target]:
    """Yield a target for each (key, description, limit) of a section, with the interval stored next to the metric."""
    for key, what, limit in figures:
        yield Target(
            f"{prefix}_{key}",
            what,
            limit,
            lambda e, key=key: section(e)[key],  # type: ignore[misc]
            interval=lambda e, key=key: section(e)[f"{key}_interval"],  # type: ignore[misc]
        )


def _detection(kind: str, condition: str, limit: float) -> Target:
    def section(e: Evidence) -> dict[str, Any]:
        found: dict[str, Any] = e["evaluation"][f"detection_{kind}"][condition]
        return found

    return Target(
        f"detection_{kind}_{condition.replace(' ', '_')}",
        f"camera or generated, AUC, unseen {kind} generators, {condition}",
        limit,
        lambda e: float(section(e)["auc"]),
        interval=lambda e: list(section(e)["auc_interval"]),
    )


def _attribution(kind: str) -> Iterator[Target]:
    return _section_targets(
        lambda e: e["evaluation"][f"attribution_{kind}"]["mixed"],
        f"attribution_{kind}",
        (
            ("accuracy", f"known generator named, closed set, accuracy, {kind} generators", 0.95),
            ("unknown_auroc", f"unknown generator told from known ones, AUROC, {kind} generators", 0.90),
            ("oscr", f"both at once, OSCR, {kind} generators", 0.85),
        ),
    )


def _same_generator(kind: str, condition: str) -> Iterator[Target]:
    generators = f"unseen {kind} generators, {condition}"
    return _section_targets(
        lambda e: e["evaluation"][f"same_generator_{kind}"][condition],
        f"same_generator_{kind}" if condition == "mixed" else f"same_generator_{kind}_{condition}",
        (
            ("auc", f"one generator or two, AUC, {generators}", 0.92),
            ("accuracy", f"one generator or two, accuracy, {generators}", 0.85),
        ),
    )


def _enrolment(condition: str) -> Iterator[Target]:
    what = "unseen zoo generator enrolled with 10 pictures"
    return _section_targets(
        lambda e: e["evaluation"]["enrolment_zoo"][condition][0],
        f"enrolment_zoo_{condition}",
        (
            ("accuracy", f"{what} named among 20, accuracy, {condition}", 0.85),
            ("unknown_auroc", f"{what} told from generators that are not enrolled, AUROC, {condition}", 0.90),
        ),
    )


def _gain(group: str, key: str, what: str, limit: float, unit: str = "") -> Target:
    return Target(
        key,
        what,
        limit,
        lambda e: float(e["evaluation"]["parsing"]["mixed"]["gains"][group]),
        unit,
        interval=lambda e: list(e["evaluation"]["parsing"]["mixed"]["gain_intervals"][group]),
    )


def _photos(e: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = e["evaluation"]["detection_public"]["mixed"]
    return found


def _called_generated(e: Evidence) -> dict[str, float]:
    found: dict[str, float] = _photos(e)["camera_called_generated_by_source"]
    return found


def _unseen_called_generated(e: Evidence) -> float:
    shares = [share for name, share in _called_generated(e).items() if name in e["unseen_photos"]]
    return 100 * sum(shares) / len(shares)


def _called_interval(e: Evidence, names: Iterable[str]) -> list[float]:
    """Return the exact interval of the share of these sources' photos that is called generated, in per cent."""
    counts = {name: _photos(e)["camera_pictures_by_source"][name] for name in names}
    called = sum(round(_called_generated(e)[name] * count) for name, count in counts.items())
    return [100 * bound for bound in metrics.interval_of_fraction(called, sum(counts.values()))]


def worst_photo_source(e: Evidence) -> str:
    """Return the photo source of which the largest share is called generated, in the condition "mixed"."""
    return max(_called_generated(e), key=lambda name: _called_generated(e)[name])


def _coverages(e: Evidence) -> list[float]:
    return [100 * f["interval_coverage"] for f in e["evaluation"]["parsing"]["mixed"]["continuous"].values()]


def points_lost(variants: dict[str, dict[str, float]], name: str) -> float:
    """Return the most points (hundredths) that a precision loses against fp32 in any metric."""
    signs = {row: -1 if row.endswith("_l1") else 1 for row in variants["fp32"]}
    return 100 * max(sign * (variants["fp32"][row] - variants[name][row]) for row, sign in signs.items())


def _max_over_int8(lost: dict[str, float]) -> float:
    return max(points for name, points in lost.items() if name.startswith("int8"))


def _ours_and_published(e: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two networks of the study that were trained on the same pictures for the same time."""
    runs = {entry["run"]["name"]: entry for entry in e["study"]["runs"]}
    return runs["fold-0"], runs["published"]


def published_is_better(ours: dict[str, Any], published: dict[str, Any]) -> list[str]:
    """Return the keys of the metrics in which the published network beats ours, among those that both have."""
    both = ours["figures"].keys() & published["figures"].keys()
    targets = {target.key: target for target in TARGETS if target.key in both}
    return [k for k, target in targets.items() if target.better(published["figures"][k], ours["figures"][k])]


def _share_at_least_published(e: Evidence) -> float:
    ours, published = _ours_and_published(e)
    both = ours["figures"].keys() & published["figures"].keys()
    return 100 * (1 - len(published_is_better(ours, published)) / len(both))


def _cost_ratio(e: Evidence) -> float:
    ours, published = _ours_and_published(e)
    return float(published["multiply_accumulates"] / ours["multiply_accumulates"])


TARGETS = (
    _detection("zoo", "clean", 0.97),
    _detection("zoo", "social media", 0.92),
    _detection("public", "clean", 0.90),
    _detection("public", "social media", 0.80),
    Target(
        "unseen_cameras_called_generated",
        "whole photos of unseen sources called generated, mixed",
        1,
        _unseen_called_generated,
        " %",
        at_least=False,
        interval=lambda e: _called_interval(e, [name for name in _called_generated(e) if name in e["unseen_photos"]]),
    ),
    Target(
        "worst_cameras_called_generated",
        "the same, worst of all sources",
        3,
        lambda e: 100 * _called_generated(e)[worst_photo_source(e)],
        " %",
        at_least=False,
        interval=lambda e: _called_interval(e, [worst_photo_source(e)]),
    ),
    *_attribution("zoo"),
    *_attribution("public"),
    *_same_generator("zoo", "mixed"),
    *_same_generator("zoo", "clean"),
    *_same_generator("public", "mixed"),
    *_enrolment("mixed"),
    *_enrolment("clean"),
    _gain("continuous", "continuous_l1_below_median", "continuous parameters, mean L1 below training median", 30, " %"),
    _gain("discrete", "discrete_f1_above_mode", "discrete parameters, mean macro-F1 above training mode", 0.25),
    _gain("losses", "losses_f1_above_majority", "training losses, mean macro-F1 above training majority", 0.20),
    Target(
        "interval_coverage",
        "80 % intervals of continuous parameters cover, mean, mixed",
        COVERAGE[0],
        lambda e: sum(_coverages(e)) / len(_coverages(e)),
        " %",
        upper=COVERAGE[1],
    ),
    Target(
        "intervals_that_cover",
        "continuous parameters whose interval covers that much, mixed",
        9,
        lambda e: sum(COVERAGE[0] <= covered <= COVERAGE[1] for covered in _coverages(e)),
        " of 9",
    ),
    Target(
        "int8_points_lost",
        "either INT8 file against fp32, largest loss in any validation metric",
        MAX_POINTS_LOST,
        lambda e: _max_over_int8({name: points_lost(e["variants"], name) for name in e["variants"]}),
        " points",
        at_least=False,
    ),
    Target(
        "int8_points_lost_test",
        "the same on test, in any of the rows above",
        MAX_POINTS_LOST,
        lambda e: _max_over_int8({name: max(lost.values()) for name, lost in e["precisions"]["points_lost"].items()}),
        " points",
        at_least=False,
    ),
    Target(
        "multiply_accumulates",
        "cost of a window",
        0.5,
        lambda e: e["multiply_accumulates"] / 1e9,
        " GMAC",
        at_least=False,
    ),
    Target("window_ms", "time of a window on a CPU, median", 5, lambda e: float(e["window_ms"]), " ms", at_least=False),
    Target(
        "published_figures",
        "metrics of the study at least as good as the published network's, after equal training",
        100,
        _share_at_least_published,
        " %",
    ),
    Target("published_cost", "cost of the published network relative to a window", 20, _cost_ratio, " x"),
)


def judge(evidence: Evidence) -> Iterator[tuple[Target, float | None, list[float] | None]]:
    """Yield each target with its value and interval, or None for what was not measured."""
    for target in TARGETS:
        value = _find(target.value, evidence)
        yield target, value, None if value is None or target.interval is None else _find(target.interval, evidence)


def _find(find: Callable[[Evidence], T], evidence: Evidence) -> T | None:
    try:
        return find(evidence)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def target_values(evidence: Evidence) -> dict[str, float]:
    """Return the measured values by their targets' keys."""
    return {target.key: value for target, value, _ in judge(evidence) if value is not None}
