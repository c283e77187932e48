"""Accuracy targets, and whether an evaluation meets them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Measured results. Keys: "evaluation" (`training.evaluate.tasks`), "int8_points_lost" and "zoo_points_lost" (hundredths
# that the worst metric loses), "multiply_accumulates" and "window_ms" of one window on a CPU.
Evidence = dict[str, Any]

# The fitted thresholds call at most this share of photos generated, and this share of generated pictures camera.
MAX_FALSE_ALARMS = 0.01
MAX_MISSES = 0.05
# Confidence of the bound on false alarms: a hundred photos do not show a share of one in a hundred.
CONFIDENCE = 0.95
# Most points (hundredths) that a precision may lose against fp32 in any metric.
MAX_POINTS_LOST = 0.5
# Milliseconds of a window of default-18, INT8, on two cores.
WINDOW_MS_BEFORE = 2.0


@dataclass(frozen=True)
class Target:
    """One metric and the limit that it has to meet.

    Attributes:
        key: name of the metric in CSV files.
        what: description for tables.
        limit: the limit, in `unit`.
        path: keys of the metric in the evidence; the same with `_interval` leads to its 95 % interval.
        unit: unit for tables; the evidence of "%" is a share from 0 to 1.
        at_least: whether higher values are better.
    """

    key: str
    what: str
    limit: float
    path: tuple[str, ...]
    unit: str = ""
    at_least: bool = True

    @property
    def limit_text(self) -> str:
        """The limit for tables."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    def met(self, value: float) -> bool:
        """Return whether a value meets the target."""
        return value >= self.limit if self.at_least else value <= self.limit

    def find(self, evidence: Evidence) -> tuple[float | None, list[float] | None]:
        """Return the metric in the target's unit and its interval; None for what was not measured."""
        place: Any = evidence
        for key in self.path[:-1]:
            place = place.get(key) if isinstance(place, dict) else None
        place = place if isinstance(place, dict) else {}
        value, interval = place.get(self.path[-1]), place.get(f"{self.path[-1]}_interval")
        factor = {" %": 100, " GMAC": 1e-9}.get(self.unit, 1)
        return (
            None if value is None else value * factor,
            None if value is None or interval is None else [bound * factor for bound in interval],
        )

    def format(self, value: float) -> str:
        """Format a value with its unit."""
        return f"{self._number(value)}{self.unit}"

    def format_interval(self, interval: Iterable[float] | None) -> str:
        """Format an interval; return an empty string for None."""
        return " to ".join(map(self._number, interval or ()))

    def _number(self, value: float) -> str:
        return f"{value:.{1 if self.unit in (' %', ' points', ' ms') else 3}f}"


_DETECTION = ("evaluation", "detection")
TARGETS = (
    *(
        Target(f"detection_{key}", f"camera or generated, AUC, {condition}", limit, (*_DETECTION, condition, "auc"))
        for key, condition, limit in (
            ("as_is", "as is", 0.90),
            ("jpeg", "JPEG q90", 0.88),
            ("resize", "resize 0.75 + q75", 0.84),
            ("social", "social chain", 0.84),
        )
    ),
    *(
        Target(key, what, limit, (*_DETECTION, "as is", *path), " %", at_least)
        for key, what, limit, path, at_least in (
            ("called_generated", "generated pictures called generated", 50, ("called_generated",), True),
            ("accused", "camera pictures called generated", 1, ("accused",), False),
            ("worst_category", "the same, worst category of photos", 3, ("worst_category", "accused"), False),
            ("inconclusive_camera", "camera pictures inconclusive", 35, ("inconclusive_camera",), False),
            ("inconclusive_generated", "generated pictures inconclusive", 35, ("inconclusive_generated",), False),
            ("low_auc", "generators with AUC below 0.6", 5, ("low_auc",), False),
        )
    ),
    *(
        Target(key, what, limit, ("evaluation", *path))
        for key, what, limit, path in (
            ("attribution", "known generator named, accuracy", 0.60, ("attribution", "accuracy")),
            ("lineages", "lineage of a known generator named, accuracy", 0.75, ("lineages", "accuracy")),
            ("unknown", "unknown generator told from known ones, AUROC", 0.75, ("attribution", "unknown_auroc")),
            ("same_generator", "same generator or two, AUC", 0.80, ("same_generator", "auc")),
            ("enrolment", "generator enrolled by 10 pictures, named among 20", 0.70, ("enrolment", "accuracy")),
            ("family", "family, macro-F1 above the best constant", 0.25, ("parsing", "family", "gain")),
            ("up_sampling", "up-sampling, macro-F1 above the best constant", 0.25, ("parsing", "up_sampling", "gain")),
            ("regions", "in-painted region found, AUC of windows", 0.80, ("regions", "auc")),
        )
    ),
    Target(
        "zoo", "zoo, largest loss against default-18 in any metric of the test set", 2, ("zoo_points_lost",), " points", False
    ),
    Target(
        "int8", "INT8, largest loss against fp32 in any metric", MAX_POINTS_LOST, ("int8_points_lost",), " points", False
    ),
    Target("cost", "cost of a window", 0.5, ("multiply_accumulates",), " GMAC", False),
    Target("window_ms", "time of a window, INT8 on two cores", WINDOW_MS_BEFORE, ("window_ms",), " ms", False),
)  # fmt: skip


def points_lost(variants: dict[str, dict[str, float]], name: str) -> float:
    """Return the most points (hundredths) that a precision loses against fp32 in any metric."""
    signs = {row: -1 if row.endswith("_l1") else 1 for row in variants["fp32"]}
    return 100 * max(sign * (variants["fp32"][row] - variants[name][row]) for row, sign in signs.items())


def int8_points_lost(variants: dict[str, dict[str, float]]) -> float:
    """Return the most points that either INT8 file loses against fp32 in any metric."""
    return max(points_lost(variants, name) for name in variants if name.startswith("int8"))


def judge(evidence: Evidence) -> Iterator[tuple[Target, float | None, list[float] | None]]:
    """Yield each target with its value and interval, or None for what was not measured."""
    for target in TARGETS:
        yield target, *target.find(evidence)
