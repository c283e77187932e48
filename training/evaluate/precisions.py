"""Every precision of a bundle on test pictures, compared with fp32 in the metrics that have a target.

The zoo of the index may have been retrained, and may lack training generators: a difference between precisions shows
on it too.
"""

from __future__ import annotations

from typing import Any

from edgeparse.backends.select import create
from edgeparse.bundle import Bundle
from edgeparse.gallery import Gallery
from training.data.dataset import Collection
from training.data.folds import FOLDS
from training.evaluate.results import bundle_identity
from training.evaluate.summary_metrics import REFERENCE
from training.evaluate.targets import TARGETS, target_values
from training.evaluate.tasks import evaluate

# The conditions that targets refer to.
CONDITIONS = ("mixed", "clean", "social media")


def points_lost_by_target(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """Return how much worse each metric is, in hundredths or in its own unit. Counts are left out."""
    found = {}
    for target in TARGETS:
        if target.key in before and not target.unit.startswith(" of "):
            a, b = (target.merit(values[target.key]) for values in (before, now))
            found[target.key] = (a - b) * (1 if target.unit else 100)
    return found


def measure_precisions(bundle: Bundle, gallery: Gallery, collection: Collection) -> dict[str, Any]:
    """Evaluate every precision that a CPU runs."""
    figures, known = {}, 0
    for variant in bundle.variants:
        evaluation = evaluate(bundle, create("cpu", bundle, variant), gallery, collection, "test", CONDITIONS)
        figures[variant] = target_values({"evaluation": evaluation, "unseen_photos": FOLDS[0].photos})
        attribution: Any = evaluation.get("attribution_zoo", {})
        known = attribution["mixed"]["known_generators"] if attribution else 0
    return {
        "measured": [bundle_identity(bundle, variant) for variant in bundle.variants],
        "known_zoo": known,
        "figures": figures,
        "points_lost": {
            name: points_lost_by_target(figures[REFERENCE], values)
            for name, values in figures.items()
            if name != REFERENCE
        },
    }


def precision_rows(figures: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """Return a table row for each target, with the value of every precision."""
    return [
        (target.what, *(target.format(values[target.key]) for values in figures.values()))
        for target in TARGETS
        if target.key in figures[REFERENCE]
    ]
