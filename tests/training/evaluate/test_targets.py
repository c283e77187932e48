"""Targets: limits, units and intervals."""

from __future__ import annotations

import pytest

from training.evaluate.targets import TARGETS, int8_points_lost, judge, points_lost

EVIDENCE = {
    "evaluation": {
        "detection": {
            "as is": {
                "auc": 0.91,
                "auc_interval": [0.88, 0.94],
                "accused": 0.012,
                "accused_interval": [0.004, 0.02],
                "worst_category": {"name": "macro", "accused": 0.03, "accused_interval": [0.0, 0.1]},
            },
        },
        "same_generator": None,
        "parsing": {"family": {"gain": 0.3, "gain_interval": [0.1, 0.4]}},
    },
    "multiply_accumulates": 348_000_000,
    "window_ms": None,
}


def test_targets_find_their_figures_in_their_units() -> None:
    judged = {target.key: (target, value, interval) for target, value, interval in judge(EVIDENCE)}
    assert len(judged) == len(TARGETS)
    target, value, interval = judged["detection_as_is"]
    assert (value, interval) == (0.91, [0.88, 0.94])
    assert (target.met(0.90), target.met(0.899), target.limit_text) == (True, False, "≥ 0.9")
    target, value, interval = judged["accused"]
    assert (value, interval) == (pytest.approx(1.2), pytest.approx([0.4, 2.0]))
    assert (target.met(1.0), target.met(1.1), target.limit_text, target.format(1.0)) == (True, False, "≤ 1 %", "1.0 %")
    assert target.format_interval([0.4, 2.0]) == "0.4 to 2.0"
    assert judged["worst_category"][1:] == (pytest.approx(3), pytest.approx([0, 10]))
    assert judged["family"][1:] == (0.3, [0.1, 0.4])
    assert judged["cost"][1:] == (pytest.approx(0.348), None)


def test_what_was_not_measured_has_no_value() -> None:
    values = {target.key: (value, interval) for target, value, interval in judge(EVIDENCE)}
    for key in ("detection_social", "same_generator", "enrolment", "window_ms", "zoo", "int8"):
        assert values[key] == (None, None)
    assert all(value is None for _, value, _ in judge({"evaluation": None}))


def test_points_lost_use_the_worst_metric_and_growing_errors() -> None:
    table = {"fp32": {"auc": 0.9, "continuous_l1": 0.10}, "int8": {"auc": 0.898, "continuous_l1": 0.104}}
    assert points_lost(table, "int8") == pytest.approx(0.4)
    assert points_lost(table, "fp32") == 0
    assert int8_points_lost(table | {"int8-tensorrt": {"auc": 0.89, "continuous_l1": 0.1}}) == pytest.approx(1)
