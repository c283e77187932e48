"""Targets are judged by the figures, and only speed that keeps accuracy counts."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from benchmarks import render, results, targets
from benchmarks.competitors import Competitor
from edgeparse.bundle import open_bundle
from tests.benchmarks.conftest import ms, ratio


def test_targets_are_judged_by_the_figures(stored: dict[str, Any]) -> None:
    judged = {
        target.what: (value, value is not None and target.met(value))
        for target, value, _ in targets.judge(stored["sections"])
    }
    values = list(judged.values())
    assert values[:4] == [(101.25, True), (65.0, False), (None, False), (0.97, False)]
    with_openvino = [found for *_, found in targets.judge(stored["sections"])]
    assert with_openvino[:4] == [pytest.approx(101.25 / 0.97), pytest.approx(65 / 0.97), None, pytest.approx(1)]
    assert with_openvino[4:] == [None] * (len(targets.TARGETS) - 4)
    assert judged["JPEG of 1 megapixel, 8 windows, file to report, warm"] == (30.5, True)
    assert judged["the same, without decoding and the network"] == (2.5, False)
    assert judged["JPEG of 12 megapixels, 8 windows: share of decoding"] == (pytest.approx(80), True)
    assert judged["cold start: the whole `edgeparse check` command"] == (460.0, False)
    assert judged["bulk: speed-up per core with one process per core"] == (pytest.approx(0.975), True)
    assert judged["GPU: one window, transfers included"][0] is None
    assert [found for _, *found in targets.judge({})] == [[None, None]] * len(targets.TARGETS)


def test_speed_that_costs_accuracy_does_not_count(stored: dict[str, Any]) -> None:
    cpu = stored["sections"]["cpu"]
    cpu["ratios"].append(ratio("edgeparse", "openvino", "bf16", "all", 0.9))
    cpu["competitors"].append(
        Competitor("edgeparse", "openvino", "bf16").to_json() | {"ms": {"all": ms(2.3)}, "accuracy": None}
    )
    # bf16 does not count either if its accuracy was not measured.
    for bf16, value in ((0.4, 0.9), (1.66, 0.97), (None, 0.97)):
        cpu["openvino_points_lost"] = {"fp32": 0.0, "int8": 0.3} | ({} if bf16 is None else {"bf16": bf16})
        (judged,) = (found for target, *found in targets.judge(stored["sections"]) if "in OpenVINO" in target.what)
        assert judged == [value, pytest.approx(value / 0.97)]
        text = render.render_document([stored], open_bundle())
        assert ("| edgeparse | openvino | bf16 | 2.3 | 0.90 | loses 1.66 |" in text) == (bf16 == 1.66)
    cpu["openvino_points_lost"] = {"fp32": 0.6, "int8": 0.7}
    assert [found for target, *found in targets.judge(stored["sections"]) if "in OpenVINO" in target.what] == [
        [None, None]
    ]


def test_trials_name_a_target_and_a_source() -> None:
    with (results.FOLDER / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert len(trials) > 20
    for trial in trials:
        assert set(trial) == {"target", "change", "gain", "kept", "source"}
        assert all(trial.values())
        assert trial["target"] in {target.short for target in targets.TARGETS}
        assert trial["kept"] in ("yes", "no")
    assert len({target.short for target in targets.TARGETS}) == len(targets.TARGETS)


def test_targets_name_the_section_of_their_figure(stored: dict[str, Any]) -> None:
    for target in targets.TARGETS:
        others = {name: found for name, found in stored["sections"].items() if name not in target.measured_in}
        assert {found for other, found, _ in targets.judge(others) if other is target} == {None}, target.what
