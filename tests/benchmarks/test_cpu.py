"""Competitors and graph passes are measured in turns, each in its own process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import cpu, graph_passes
from benchmarks.competitors import ON_GPU, Competitor, competitors
from edgeparse.bundle import open_bundle
from export.quantize import CPU
from tests.benchmarks.conftest import OURS
from tests.conftest import noise
from training.data.dataset import Collection
from training.evaluate import predict
from training.evaluate.targets import MAX_POINTS_LOST
from training.evaluate.testset import load_testset

FP32 = Competitor("edgeparse", "onnxruntime", "fp32")


@pytest.mark.slow
def test_openvino_keeps_the_accuracy() -> None:
    pytest.importorskip("openvino")
    pack = load_testset()
    some = Collection(pack.sources, predict.first_pictures(pack.samples, 2))
    ours = [Competitor("edgeparse", "openvino", "fp32"), OURS]
    lost = cpu.openvino_points_lost(ours, open_bundle(), 1, lambda: some)
    assert set(lost) == {"fp32"}
    assert lost["fp32"] <= MAX_POINTS_LOST
    assert cpu.openvino_points_lost([OURS], open_bundle(), 1, pytest.fail) == {}


def test_ratios_are_computed_within_a_round() -> None:
    """A machine that is twice as slow in every other round does not move them."""
    slow = Competitor("published", "pytorch", "fp32")
    turns: dict[Competitor, list[cpu.Turn]] = {OURS: [], slow: []}
    for factor in (1.0, 2.0, 1.0, 2.0):
        turns[OURS].append({"all": [2 * factor, 2 * factor, 9 * factor]})
        turns[slow].append({part: [100 * factor] * 3 for part in ("parsing", "deepfake", "attribution")})
    found = {entry["parts"]: entry for entry in cpu.ratios(turns, OURS)}
    assert found["parsing + deepfake"]["median"] == 100
    assert found["all three"] | {"median": 0} == found["all three"] | {"low": 150.0, "high": 150.0, "median": 0}
    assert cpu.ratios({slow: turns[slow]}, OURS) == []
    assert cpu.summary(turns[slow], None)["ms"]["all three"]["p50"] == 450


def test_competitors_are_measured_and_failures_named() -> None:
    bundle = open_bundle()
    found = cpu.measure([OURS, FP32, Competitor("edgeparse", "tensorrt", "fp32")], bundle, 1, rounds=2, seconds=0)
    assert [entry["precision"] for entry in found["competitors"]] == ["int8", "fp32"]
    assert all(entry["ms"]["all"]["samples"] == 6 for entry in found["competitors"])
    assert found["competitors"][0]["accuracy"] == bundle.metrics["variants"]["int8"]
    (compared,) = found["ratios"]
    assert compared["low"] <= compared["median"] <= compared["high"]
    (failed,) = found["failed"]
    assert failed["runtime"] == "tensorrt"
    assert "Error" in failed["error"]


def test_each_graph_pass_is_left_out_once() -> None:
    found = dict(graph_passes.schemes())
    assert list(found) == ["all", *(one.__name__ for one in (*CPU.before, *CPU.after))]
    for name, scheme in found.items():
        assert {one.__name__ for one in (*scheme.before, *scheme.after)} == set(found) - {"all", name}


def test_graph_passes_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [("all", CPU), ("channels_last_residuals", replace(CPU, after=CPU.after[:1]))]
    monkeypatch.setattr(graph_passes, "schemes", lambda: few)
    monkeypatch.setattr(graph_passes.inputs, "sample_windows", lambda _size: np.stack([noise(128, 128)] * 2))
    found = graph_passes.measure(open_bundle(), 1, 1, 0.0)
    assert found["bundle_sha256"] == open_bundle().sha256
    assert [(entry["without"], entry["runtime"]) for entry in found["files"]] == [
        (without, runtime) for without in (None, "channels_last_residuals") for runtime in ("onnxruntime", "openvino")
    ]
    assert all(entry["ms"] > 0 for entry in found["files"])
    for entry in found["files"][2:]:
        assert 0 < entry["times"]["low"] <= entry["times"]["median"] <= entry["times"]["high"]


def test_gpu_runtimes_need_a_gpu() -> None:
    without = list(competitors(gpu=False))
    assert not {competitor.runtime for competitor in without} & set(ON_GPU)
    assert {competitor.runtime for competitor in competitors(gpu=True)} >= set(ON_GPU)
    assert len({competitor.name for competitor in without}) == len(without)
