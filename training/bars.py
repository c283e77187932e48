"""What accuracy is to reach, and whether an evaluation does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from training import metrics

# What there is to judge: "evaluation" as `training.evaluate` writes it, "unseen_photos", the names of the photo sources that training saw
# nothing of, and, of a bundle, "variants", "multiply_accumulates", "window_ms", a CPU's milliseconds for one window, and "precisions" as
# `training.precisions` keeps them; and "study", as `benchmarks.study` keeps it.
Evidence = dict[str, Any]
T = TypeVar("T")

# Of camera photos, at most this share may be called generated, and of either kind of generated pictures of validation at most this share
# camera.
FALSE_ALARM = 0.01
MISS = 0.05
# How sure to be of the share of false alarms, which a hundred photos do not show by themselves.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Bar:
    """`value` and `interval`, 95 %, find the figure and its interval in the evidence, or raise KeyError or TypeError where these were not
    measured. A figure with a bar on either side has `most`, too."""

    key: str
    what: str
    limit: float
    value: Callable[[Evidence], float]
    unit: str = ""
    least: bool = True
    interval: Callable[[Evidence], list[float]] | None = None
    most: float | None = None

    @property
    def text(self) -> str:
        """The limit, as in tables."""
        if self.most is not None:
            return f"{self.limit:g} to {self.most:g}{self.unit}"
        return f"{'≥' if self.least else '≤'} {self.limit:g}{self.unit}"

    def met(self, value: float) -> bool:
        """Whether a figure is on the right side."""
        if self.most is not None:
            return self.limit <= value <= self.most
        return value >= self.limit if self.least else value <= self.limit

    def merit(self, value: float) -> float:
        """In the figure's own unit, the more the better: of one with a bar on either side, how near it comes to the middle."""
        if self.most is not None:
            return -abs(value - (self.limit + self.most) / 2)
        return value if self.least else -value

    def better(self, one: float, other: float) -> bool:
        """Whether the first figure is the better one."""
        return self.merit(one) > self.merit(other)

    def shown(self, value: float) -> str:
        """A figure, as in tables."""
        return f"{self.number(value)}{self.unit}"

    def number(self, value: float) -> str:
        """The same without its unit."""
        unit = self.unit.strip()
        return f"{value:.{0 if unit.startswith('of ') else 1 if unit in ('%', 'points', 'ms', 'x') else 3}f}"

    def range(self, interval: Iterable[float] | None) -> str:
        """A figure's interval, as in tables; empty where it has none."""
        return " to ".join(map(self.number, interval or ()))


def _detection(part: str, condition: str, key: str) -> Callable[[Evidence], Any]:
    return lambda e: e["evaluation"][f"detection_{part}"][condition][key]


def _auc(part: str, condition: str, limit: float) -> Bar:
    return Bar(
        f"detection_{part}_{condition.replace(' ', '_')}",
        f"camera or generated, AUC, unseen {PARTS[part]} generators, {condition}",
        limit,
        _detection(part, condition, "auc"),
        interval=_detection(part, condition, "auc_interval"),
    )


PARTS = {"zoo": "zoo", "real": "public"}


def _whole_photos(e: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = e["evaluation"]["detection_real"]["mixed"]
    return found


def _called(e: Evidence) -> dict[str, float]:
    found: dict[str, float] = _whole_photos(e)["camera_called_generated_by_source"]
    return found


def _unseen_called(e: Evidence) -> float:
    shares = [share for name, share in _called(e).items() if name in e["unseen_photos"]]
    return 100 * sum(shares) / len(shares)


def _called_interval(e: Evidence, names: Iterable[str]) -> list[float]:
    """Of all photos of these sources."""
    photos = {name: _whole_photos(e)["camera_pictures_by_source"][name] for name in names}
    called = sum(round(_called(e)[name] * count) for name, count in photos.items())
    return [100 * bound for bound in metrics.interval_of_fraction(called, sum(photos.values()))]


def worst_photos(e: Evidence) -> str:
    """The source of which the largest share of whole photos is called generated, mixed."""
    return max(_called(e), key=lambda name: _called(e)[name])


COVERS = (75, 85)


def covered(parsing: dict[str, Any]) -> int:
    """How many continuous parameters' 80 % intervals cover as much as they are to."""
    low, high = COVERS
    return sum(low <= 100 * figures["interval_coverage"] <= high for figures in parsing["continuous"].values())


def _gain_interval(group: str) -> Callable[[Evidence], list[float]]:
    return lambda e: e["evaluation"]["parsing"]["mixed"]["gain_intervals"][group]


def _of(
    section: Callable[[Evidence], dict[str, Any]], prefix: str, figures: Iterable[tuple[str, str, float]]
) -> Iterator[Bar]:
    """A bar for each figure of a section of the evaluation, by its key there, what it is, and its limit; the figure's interval is
    beside it."""
    for key, what, limit in figures:
        yield Bar(
            f"{prefix}_{key}",
            what,
            limit,
            lambda e, key=key: section(e)[key],  # type: ignore[misc]
            interval=lambda e, key=key: section(e)[f"{key}_interval"],  # type: ignore[misc]
        )


def _naming(part: str) -> Iterator[Bar]:
    whose = f"{PARTS[part]} generators"
    return _of(
        lambda e: e["evaluation"][f"attribution_{part}"]["mixed"],
        f"attribution_{part}",
        (
            ("accuracy", f"known generator named, closed set, accuracy, {whose}", 0.95),
            ("unknown_auroc", f"unknown generator told from known ones, AUROC, {whose}", 0.90),
            ("oscr", f"both at once, OSCR, {whose}", 0.85),
        ),
    )


def _same(part: str, condition: str) -> Iterator[Bar]:
    whose = f"unseen {PARTS[part]} generators, {condition}"
    return _of(
        lambda e: e["evaluation"][f"same_generator_{part}"][condition],
        f"same_generator_{part}" if condition == "mixed" else f"same_generator_{part}_{condition}",
        (
            ("auc", f"one generator or two, AUC, {whose}", 0.92),
            ("accuracy", f"one generator or two, accuracy, {whose}", 0.85),
        ),
    )


def _enrolment(condition: str) -> Iterator[Bar]:
    what = "unseen zoo generator enrolled by 10 pictures"
    return _of(
        lambda e: e["evaluation"]["enrolment_zoo"][condition][0],
        f"enrolment_zoo_{condition}",
        (
            ("accuracy", f"{what} named among 20, accuracy, {condition}", 0.85),
            ("unknown_auroc", f"{what} told from generators that were not enrolled, AUROC, {condition}", 0.90),
        ),
    )


def _mean(figures: dict[str, dict[str, float]], of: Callable[[dict[str, float]], float]) -> float:
    return sum(map(of, figures.values())) / len(figures)


def l1_saved(parsing: dict[str, Any]) -> float:
    """How far the mean L1 of the continuous parameters lies below that of the training median, in per cent."""
    figures = parsing["continuous"]
    return 100 * (1 - _mean(figures, lambda f: f["l1"]) / _mean(figures, lambda f: f["median_l1"]))


def above_mode(parsing: dict[str, Any], group: str) -> float:
    """How far the macro-F1 of "discrete" or "losses" lies above that of the training mode, on average."""
    return _mean(parsing[group], lambda f: f["macro_f1"] - f["mode_macro_f1"])


def points_lost(variants: dict[str, dict[str, float]], name: str) -> float:
    """The most that a precision loses against fp32 in any row, in hundredths; errors are lost where they grow."""
    signs = {row: -1 if row.endswith("_l1") else 1 for row in variants["fp32"]}
    return 100 * max(sign * (variants["fp32"][row] - variants[name][row]) for row, sign in signs.items())


def _ours_and_published(e: Evidence) -> tuple[dict[str, Any], dict[str, Any]]:
    """The study's networks that were trained on the same pictures for the same time."""
    runs = {entry["run"]["name"]: entry for entry in e["study"]["runs"]}
    return runs["fold-0"], runs["published"]


def published_is_better(ours: dict[str, Any], published: dict[str, Any]) -> list[str]:
    """Keys of the bars in which the published network's figure is better than ours, of those that both have."""
    bars = {bar.key: bar for bar in BARS}
    both = ours["figures"].keys() & published["figures"].keys()
    return [
        key for key, bar in bars.items() if key in both and bar.better(published["figures"][key], ours["figures"][key])
    ]


def _figures_reached(e: Evidence) -> float:
    ours, published = _ours_and_published(e)
    both = ours["figures"].keys() & published["figures"].keys()
    return 100 * (1 - len(published_is_better(ours, published)) / len(both))


def _cost_ratio(e: Evidence) -> float:
    ours, published = _ours_and_published(e)
    ratio: float = published["multiply_accumulates"] / ours["multiply_accumulates"]
    return ratio


# What a precision may lose in any row, in hundredths, and still be the same network's.
POINTS_LOST = 0.5

BARS = (
    _auc("zoo", "clean", 0.97),
    _auc("zoo", "social media", 0.92),
    _auc("real", "clean", 0.90),
    _auc("real", "social media", 0.80),
    Bar(
        "unseen_cameras_called_generated",
        "whole photos of unseen sources called generated, mixed",
        1,
        _unseen_called,
        " %",
        least=False,
        interval=lambda e: _called_interval(e, [name for name in _called(e) if name in e["unseen_photos"]]),
    ),
    Bar(
        "worst_cameras_called_generated",
        "the same, the worst of all sources",
        3,
        lambda e: 100 * _called(e)[worst_photos(e)],
        " %",
        least=False,
        interval=lambda e: _called_interval(e, [worst_photos(e)]),
    ),
    *_naming("zoo"),
    *_naming("real"),
    *_same("zoo", "mixed"),
    *_same("zoo", "clean"),
    *_same("real", "mixed"),
    *_enrolment("mixed"),
    *_enrolment("clean"),
    Bar(
        "continuous_l1_below_median",
        "continuous parameters: mean L1 below that of the training median, by",
        30,
        lambda e: l1_saved(e["evaluation"]["parsing"]["mixed"]),
        " %",
        interval=_gain_interval("continuous"),
    ),
    Bar(
        "discrete_f1_above_mode",
        "discrete parameters: macro-F1 above that of the training mode, mean",
        0.25,
        lambda e: above_mode(e["evaluation"]["parsing"]["mixed"], "discrete"),
        interval=_gain_interval("discrete"),
    ),
    Bar(
        "losses_f1_above_majority",
        "loss types: macro-F1 above that of the training majority, mean",
        0.20,
        lambda e: above_mode(e["evaluation"]["parsing"]["mixed"], "losses"),
        interval=_gain_interval("losses"),
    ),
    Bar(
        "interval_coverage",
        "80 % intervals of continuous parameters cover, mean, mixed",
        COVERS[0],
        lambda e: 100 * _mean(e["evaluation"]["parsing"]["mixed"]["continuous"], lambda f: f["interval_coverage"]),
        " %",
        most=COVERS[1],
    ),
    Bar(
        "intervals_that_cover",
        "continuous parameters whose 80 % interval covers that, mixed",
        9,
        lambda e: covered(e["evaluation"]["parsing"]["mixed"]),
        " of 9",
    ),
    Bar(
        "int8_points_lost",
        "either INT8 file against fp32, the most that is lost in any figure of validation",
        POINTS_LOST,
        lambda e: max(points_lost(e["variants"], name) for name in e["variants"] if name.startswith("int8")),
        " points",
        least=False,
    ),
    Bar(
        "int8_points_lost_test",
        "the same of test, in any of the rows above",
        POINTS_LOST,
        lambda e: max(
            max(of.values()) for name, of in e["precisions"]["points_lost"].items() if name.startswith("int8")
        ),
        " points",
        least=False,
    ),
    Bar(
        "multiply_accumulates",
        "cost of a window",
        0.5,
        lambda e: e["multiply_accumulates"] / 1e9,
        " GMAC",
        least=False,
    ),
    Bar("window_ms", "time of a window on a CPU, median", 5, lambda e: float(e["window_ms"]), " ms", least=False),
    Bar(
        "published_figures",
        "figures of the study at least as good as those of the published network, trained on the same pictures as long",
        100,
        _figures_reached,
        " %",
    ),
    Bar("published_cost", "multiply-accumulates of that network's pass, to those of a window", 20, _cost_ratio, " x"),
)


def judge(evidence: Evidence) -> Iterator[tuple[Bar, float | None, list[float] | None]]:
    """Each bar with its figure and the figure's interval, or None where they were not measured."""
    for bar in BARS:
        value = _found(bar.value, evidence)
        yield bar, value, None if value is None or bar.interval is None else _found(bar.interval, evidence)


def _found(find: Callable[[Evidence], T], evidence: Evidence) -> T | None:
    try:
        return find(evidence)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def headline(evidence: Evidence) -> dict[str, float]:
    """The figures of the bars that were measured, by key."""
    return {bar.key: value for bar, value, _ in judge(evidence) if value is not None}
