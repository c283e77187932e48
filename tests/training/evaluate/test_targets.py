"""Targets: limits, intervals and comparisons."""

from __future__ import annotations

from typing import Any

import pytest
from training.report.sources import Sources

from training.evaluate.targets import TARGETS, judge, points_lost, published_is_better, target_values

KEYS = ("detection_zoo_clean", "detection_public_clean", "unseen_cameras_called_generated", "losses_f1_above_majority")


def run(name: str, figures: dict[str, float], macs: int = 335_000_000) -> dict[str, Any]:
    return {"run": {"name": name}, "figures": figures, "multiply_accumulates": macs}


def test_targets_are_judged_on_the_right_side() -> None:
    evidence = Sources.read().evidence()
    judged = {target.key: (target, value, interval) for target, value, interval in judge(evidence)}
    assert len(judged) == len(TARGETS)
    target, value, interval = judged["detection_zoo_clean"]
    assert value == evidence["evaluation"]["detection_zoo"]["clean"]["auc"]
    assert interval == evidence["evaluation"]["detection_zoo"]["clean"]["auc_interval"]
    assert (target.met(0.97), target.met(0.969)) == (True, False)
    called = judged["worst_cameras_called_generated"][0]
    assert (called.met(3.0), called.met(3.1), called.limit_text, called.format(3.0)) == (True, False, "≤ 3 %", "3.0 %")
    assert target_values({}) == {}
    assert target_values(evidence).keys() >= set(KEYS)


def test_a_metric_without_an_interval_is_judged() -> None:
    evaluation = {"same_generator_zoo": {"mixed": {"auc": 0.93, "accuracy": 0.8}}}
    judged = {target.key: (value, interval) for target, value, interval in judge({"evaluation": evaluation})}
    assert judged["same_generator_zoo_auc"] == (0.93, None)
    assert judged["same_generator_zoo_clean_auc"] == (None, None)


def test_shares_of_photos_have_exact_intervals_and_covered_intervals_are_counted() -> None:
    mixed = {
        "camera_called_generated_by_source": {"new": 0.02, "old": 3 / 18},
        "camera_pictures_by_source": {"new": 100, "old": 18},
    }
    covers = {str(i): {"interval_coverage": share} for i, share in enumerate((0.74, 0.75, 0.8, 0.85, 0.86))}
    evaluation = {"detection_public": {"mixed": mixed}, "parsing": {"mixed": {"continuous": covers}}}
    judged = {target.key: found for target, *found in judge({"evaluation": evaluation, "unseen_photos": ["new"]})}
    # Clopper-Pearson interval of 2 in 100.
    assert judged["unseen_cameras_called_generated"] == [
        pytest.approx(2.0),
        pytest.approx([0.243, 7.038], abs=1e-3),
    ]
    assert judged["worst_cameras_called_generated"] == [
        pytest.approx(16.667, abs=1e-3),
        pytest.approx([3.58, 41.42], abs=0.01),
    ]
    assert judged["intervals_that_cover"][0] == 3
    target = next(target for target in TARGETS if target.key == "interval_coverage")
    assert judged[target.key][0] == pytest.approx(80)
    assert [target.met(value) for value in (74.9, 75, 85, 85.1)] == [False, True, True, False]
    assert (target.limit_text, target.better(79, 82), target.better(78, 81)) == ("75 to 85 %", True, False)


def test_the_published_network_is_compared_with_ours() -> None:
    ours = run("fold-0", dict.fromkeys(KEYS, 0.5))
    published = run("published", dict.fromkeys(KEYS, 0.4) | {"detection_public_clean": 0.9}, 7 * 335_000_000)
    judged = {target.key: value for target, value, _ in judge({"study": {"runs": [ours, published]}})}
    # Fewer photos called generated are better.
    assert set(published_is_better(ours, published)) == {"detection_public_clean", "unseen_cameras_called_generated"}
    assert judged["published_figures"] == pytest.approx(50)
    assert judged["published_cost"] == 7


def test_points_lost_use_the_worst_metric_and_growing_errors() -> None:
    table = {"fp32": {"auc": 0.9, "continuous_l1": 0.10}, "int8": {"auc": 0.898, "continuous_l1": 0.104}}
    assert points_lost(table, "int8") == pytest.approx(0.4)
    assert points_lost(table, "fp32") == 0
