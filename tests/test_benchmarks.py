"""The benchmarks measure what they say, and the document says what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import bars, growth, made, peers, plots, render, results, rewrites, scenario, soak
from benchmarks.__main__ import main
from benchmarks.contenders import ON_GPU, Contender, contenders
from benchmarks.worker import Worker, WorkerError
from edgeparse import Parser
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import open_bundle
from edgeparse.latency import summarize
from export.quantize import CPU
from tests.conftest import encoded, noise
from training import predictions
from training.bars import POINTS_LOST
from training.data.dataset import Collection
from training.data.index.load import load
from training.pack import INDEX

OURS = Contender("edgeparse", "onnxruntime", "int8")
FP32 = Contender("edgeparse", "onnxruntime", "fp32")
MACHINE = {
    "cpu": "A Processor",
    "instructions": ["avx2"],
    "cores": 2,
    "gpu": None,
    "system": "Linux 6",
    "versions": {"numpy": "2"},
}


TRIED = [{"bar": "cold start", "tried": "something", "gain": "none", "kept": False, "source": "a trial"}]


def rendered(stored: dict[str, Any]) -> str:
    return render.render([stored], TRIED, open_bundle())


def ms(*values: float) -> dict[str, Any]:
    return summarize(values).to_json()


def point(**fields: Any) -> dict[str, Any]:
    stages = {"report": ms(30), "decode": ms(24), "windows": ms(1), "network": ms(4), "readout": ms(1)}
    return {"ms": stages, "peak_memory_mb": 120.0, **fields}


def ratio(network: str, runtime: str, precision: str, parts: str, median: float) -> dict[str, Any]:
    who = Contender(network, runtime, precision).to_json()
    return who | {"parts": parts, "median": median, "low": median - 1, "high": median + 1}


@pytest.fixture
def stored() -> dict[str, Any]:
    """A machine's file, made up."""
    common = {"date": "2026-01-02T03:04:05+00:00", "commit": "0123456789ab", "machine": MACHINE, "warnings": []}
    published = {part: ms(250) for part in ("parsing", "deepfake", "attribution", *peers.TOGETHER)}
    known = {"detection_zoo_auc": 0.811, "detection_real_auc": 0.628}
    return {
        "schema": results.SCHEMA,
        "name": "a-machine",
        "sections": {
            "peers": common
            | {
                "bundle": "default-1",
                "threads": 2,
                "rounds": 30,
                "reference": OURS.to_json(),
                "contenders": [
                    OURS.to_json() | {"ms": {"all": ms(2.5)}, "accuracy": known},
                    Contender("published", "pytorch", "fp32").to_json() | {"ms": published, "accuracy": None},
                ],
                "failed": [Contender("edgeparse", "openvino", "bf16").to_json() | {"error": "no BF16"}],
                "ratios": [
                    ratio("published", "pytorch", "fp32", "parsing + deepfake", 101.25),
                    ratio("published", "pytorch", "fp32", "all three", 140.0),
                    ratio("published", "onnxruntime", "fp32", "parsing + deepfake", 65.0),
                    ratio("published", "onnxruntime", "int8", "parsing + deepfake", 30.0),
                    ratio("edgeparse", "openvino", "fp32", "all", 2.0),
                    ratio("edgeparse", "openvino", "int8", "all", 0.97),
                ],
            },
            "report": common
            | {
                "setup": {
                    "bundle": "default-1",
                    "backend": "onnxruntime-cpu",
                    "precision": "int8",
                    "threads": 2,
                    "pictures": [{"width": 1155, "height": 866, "format": "JPEG", "windows": 8}],
                },
                "report_ms": ms(30.5),
                "stages_ms": point()["ms"],
                "cold_start": {
                    "phases_ms": {"start": 30.0, "total": 400.0},
                    "command_ms": 460.0,
                    "peak_memory_mb": 97.0,
                },
                "energy_j_per_report": None,
            },
            "rewrites": common
            | {
                "bundle": "default-1",
                "threads": 2,
                "rounds": 30,
                "files": [
                    {
                        "without": name,
                        "runtime": "onnxruntime",
                        "ms": 2.5,
                        "times": {"low": 1, "median": times, "high": 1.1},
                    }
                    for name, times in ((None, 1.0), ("merged_heads", 1.05))
                ],
            },
            "growth": common
            | {
                "sizes": [point(megapixels=1.0), point(megapixels=12.0), point(megapixels=48.0)],
                "windows": [point(windows=1), point(windows=8)],
                "threads": [point(threads=1), point(threads=2)],
                "batches": [{"batch": 1, "ms": {"network": ms(2)}, "per_second": 500.0}],
                "processes": [{"processes": 1, "per_second": 20.0}, {"processes": 2, "per_second": 39.0}],
            },
            "soak": common
            | {"pictures": 20000, "settled": 500, "growth_mb": 0.4, "resident_mb": [[500, 90.0], [20000, 90.4]]},
            "scenarios": common
            | {
                "performance": [
                    {
                        "scenario": "SingleStream",
                        "backend": "onnxruntime-cpu",
                        "precision": "int8",
                        "asked": {"seconds": 10.0},
                        "found": {"result_validity": "VALID", "result_90.00_percentile_latency_ns": 2750000},
                        "warnings": ["other processes kept 1.0 cores busy"],
                    }
                ],
                "accuracy": [{"scenario": "SingleStream", "windows": 40, "largest_difference": 0.0}],
            },
        },
    }


def test_bars_are_judged_by_the_figures(stored: dict[str, Any]) -> None:
    judged = {
        bar.what: (value, value is not None and bar.reached(value)) for bar, value, _ in bars.judge(stored["sections"])
    }
    values = list(judged.values())
    assert values[:4] == [(101.25, True), (65.0, False), (None, False), (0.97, False)]
    beside = [found for *_, found in bars.judge(stored["sections"])]
    assert beside[:4] == [pytest.approx(101.25 / 0.97), pytest.approx(65 / 0.97), None, pytest.approx(1)]
    assert beside[4:] == [None] * (len(bars.BARS) - 4)
    assert judged["JPEG of 1 megapixel, 8 windows, file to report, warm"] == (30.5, True)
    assert judged["of which all but decoding and the network"] == (2.5, False)
    assert judged["JPEG of 12 megapixels, 8 windows: decoding's share"] == (pytest.approx(80), True)
    assert judged["cold start: `edgeparse check`, whole"] == (460.0, False)
    assert judged["bulk: speed-up of a process a core, for each core"] == (pytest.approx(0.975), True)
    assert judged["GPU: one window, transfers included"][0] is None
    assert [found for _, *found in bars.judge({})] == [[None, None]] * len(bars.BARS)


def test_speed_that_is_bought_with_accuracy_does_not_count(stored: dict[str, Any]) -> None:
    peers = stored["sections"]["peers"]
    peers["ratios"].append(ratio("edgeparse", "openvino", "bf16", "all", 0.9))
    peers["contenders"].append(
        Contender("edgeparse", "openvino", "bf16").to_json() | {"ms": {"all": ms(2.3)}, "accuracy": None}
    )
    # Of the last nothing is known, which does not count either.
    for bf16, value in ((0.4, 0.9), (1.66, 0.97), (None, 0.97)):
        peers["openvino_points_lost"] = {"fp32": 0.0, "int8": 0.3} | ({} if bf16 is None else {"bf16": bf16})
        (judged,) = (found for bar, *found in bars.judge(stored["sections"]) if "in OpenVINO" in bar.what)
        assert judged == [value, pytest.approx(value / 0.97)]
        text = rendered(stored)
        assert ("| edgeparse | openvino | bf16 | 2.3 | - | loses 1.66 points |" in text) == (bf16 == 1.66)
    peers["openvino_points_lost"] = {"fp32": 0.6, "int8": 0.7}
    assert [found for bar, *found in bars.judge(stored["sections"]) if "in OpenVINO" in bar.what] == [[None, None]]


def test_openvino_answers_as_the_bundle_does() -> None:
    pytest.importorskip("openvino")
    pack = load(INDEX)
    some = Collection(pack.sources, predictions.few(pack.samples, 2))
    ours = [Contender("edgeparse", "openvino", "fp32"), OURS]
    lost = peers.lost_in_openvino(ours, open_bundle(), 1, lambda: some)
    assert set(lost) == {"fp32"}
    assert lost["fp32"] <= POINTS_LOST
    assert peers.lost_in_openvino([OURS], open_bundle(), 1, pytest.fail) == {}


def test_the_document_says_what_was_measured(stored: dict[str, Any]) -> None:
    text = rendered(stored)
    for words in (
        "## a-machine",
        "| ≥ 100x | 101x | reached | 104x, reached | default-1 (not shipped now) |",
        "| ≥ 70x | 65x | **missed** |",
        "| p90 ms | AUC, validation, mixed | times ours |",
        "With more windows, a picture of 12 megapixels:",
        "With more threads, a picture of 1 megapixel:",
        "| cold start | something | none | no | a trial |",
        "| not measured |",
        "| published: all three | pytorch | fp32 | 250 | - |  | 140.00 (139.00 to 141.00) |",
        "| edgeparse | onnxruntime | int8 | 2.5 | - | 0.811 / 0.628 | 1 |",
        "edgeparse / openvino / bf16 could not run: no BF16",
        "| none of them, ms | 2.5 |",
        "| `merged_heads` | 1.050 (1.000 to 1.100) |",
        "| 48 | 30 | 80% | 13% | 120 |",
        "1.95 times what one does",
        "+0.4 MB after the first 500",
        "p90 2.75 ms | valid |",
        "**Not to be believed:** other processes kept 1.0 cores busy.",
    ):
        assert words in text, words
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_render_reads_files_and_draws(stored: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a-machine.json").write_text(json.dumps(stored))
    done = CliRunner().invoke(main, ["render", "--results", str(tmp_path), "-o", str(tmp_path / "BENCHMARKS.md")])
    assert done.exit_code == 0, done.output
    tried = json.loads(render.TRIED.read_text())
    assert (tmp_path / "BENCHMARKS.md").read_text() == render.render([stored], tried, open_bundle())
    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert set(drawn) == {"a-machine-peers.svg", "a-machine-growth.svg"}


def test_the_document_says_which_bundle_a_figure_is_of(stored: dict[str, Any]) -> None:
    bundle, sections = open_bundle(), stored["sections"]
    now = {"bundle": bundle.label, "bundle_sha256": bundle.sha256}
    sections["peers"] |= now
    sections["rewrites"] |= {"bundle": bundle.label}
    sections["report"]["setup"] |= now | {"bundle_sha256": "0" * 64}
    sections["growth"]["bundle"] = "default-1"
    sections["scenarios"]["performance"][0]["bundle"] = "default-1"
    text = rendered(stored)
    for words in (
        f"Not measured with {bundle.label}, which is shipped now: One picture (bundle {bundle.label}); How cost grows, Under load "
        "(bundle default-1); Steady memory (bundle not recorded).",
        f"| ≥ 100x | 101x | reached | 104x, reached | {bundle.label} |",
        f"| ≤ 45 ms | 30.5 ms | reached |  | {bundle.label} (not shipped now) |",
        "| ≤ 400 MB | 120 MB | reached |  | default-1 (not shipped now) |",
        "| ≤ 2 MB | 0.4 MB | reached |  | not recorded |",
        "commit 0123456789ab, bundle not recorded; numpy 2",
        "commit 0123456789ab, bundle default-1 (not shipped now); numpy 2",
    ):
        assert words in text, words
    stored["sections"] = {"peers": sections["peers"]}
    assert "shipped now" not in rendered(stored)


def test_what_was_tried_is_for_a_bar_and_has_a_source() -> None:
    tried = json.loads(render.TRIED.read_text())
    assert len(tried) > 20
    for entry in tried:
        assert set(entry) == {"bar", "tried", "gain", "kept", "source"}
        assert entry["bar"] in {bar.short for bar in bars.BARS}
        assert entry["gain"]
        assert entry["source"]
    assert len({bar.short for bar in bars.BARS}) == len(bars.BARS)


def test_bars_are_found_in_the_section_that_they_name(stored: dict[str, Any]) -> None:
    for bar in bars.BARS:
        others = {name: found for name, found in stored["sections"].items() if name not in bar.measured_in}
        assert {found for other, found, _ in bars.judge(others) if other is bar} == {None}, bar.what


def test_a_machine_with_one_section_is_rendered_too(stored: dict[str, Any], tmp_path: Path) -> None:
    stored["sections"] = {"soak": stored["sections"]["soak"]}
    assert "Steady memory" in rendered(stored)
    assert plots.draw(stored, tmp_path) == []


def test_drawing_twice_gives_the_same_file(stored: dict[str, Any], tmp_path: Path) -> None:
    first = [file.read_bytes() for file in plots.draw(stored, tmp_path)]
    assert first == [file.read_bytes() for file in plots.draw(stored, tmp_path)]
    assert first


def test_results_keep_their_other_sections(tmp_path: Path) -> None:
    results.save("m", "soak", {"growth_mb": 1.0}, tmp_path)
    file = results.save("m", "peers", {"rounds": 3}, tmp_path)
    sections = results.load(file)["sections"]
    assert sections["soak"]["growth_mb"] == 1.0
    assert sections["peers"]["rounds"] == 3
    assert sections["peers"]["machine"]["cores"] >= 1
    file.write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="no results of schema"):
        results.load(file)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is twice as slow in every other round does not move them."""
    slow = Contender("published", "pytorch", "fp32")
    turns: dict[Contender, list[peers.Turn]] = {OURS: [], slow: []}
    for factor in (1.0, 2.0, 1.0, 2.0):
        turns[OURS].append({"all": [2 * factor, 2 * factor, 9 * factor]})
        turns[slow].append({part: [100 * factor] * 3 for part in ("parsing", "deepfake", "attribution")})
    found = {entry["parts"]: entry for entry in peers.ratios(turns, OURS)}
    assert found["parsing + deepfake"]["median"] == 100
    assert found["all three"] | {"median": 0} == found["all three"] | {"low": 150.0, "high": 150.0, "median": 0}
    assert peers.ratios({slow: turns[slow]}, OURS) == []
    assert peers.summary(turns[slow], None)["ms"]["all three"]["p50"] == 450


def test_everyone_is_measured_and_who_cannot_run_is_named() -> None:
    bundle = open_bundle()
    found = peers.measure([OURS, FP32, Contender("edgeparse", "tensorrt", "fp32")], bundle, 1, rounds=2, seconds=0)
    assert [entry["precision"] for entry in found["contenders"]] == ["int8", "fp32"]
    assert all(entry["ms"]["all"]["samples"] == 6 for entry in found["contenders"])
    assert found["contenders"][0]["accuracy"] == bundle.metrics["variants"]["int8"]
    (compared,) = found["ratios"]
    assert compared["low"] <= compared["median"] <= compared["high"]
    (failed,) = found["failed"]
    assert failed["runtime"] == "tensorrt"
    assert "Error" in failed["error"]


def test_every_change_of_the_layout_is_left_out_once() -> None:
    found = dict(rewrites.schemes())
    assert list(found) == ["all", *(one.__name__ for one in (*CPU.before, *CPU.after))]
    for name, scheme in found.items():
        assert {one.__name__ for one in (*scheme.before, *scheme.after)} == set(found) - {"all", name}


def test_files_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [("all", CPU), ("with_channels_last", replace(CPU, after=CPU.after[:1]))]
    monkeypatch.setattr(rewrites, "schemes", lambda: few)
    found = rewrites.measure(open_bundle(), 1, 2, 0.0)
    assert found["bundle_sha256"] == open_bundle().sha256
    assert [(entry["without"], entry["runtime"]) for entry in found["files"]] == [
        (without, runtime) for without in (None, "with_channels_last") for runtime in ("onnxruntime", "openvino")
    ]
    assert all(entry["ms"] > 0 for entry in found["files"])
    for entry in found["files"][2:]:
        assert 0 < entry["times"]["low"] <= entry["times"]["median"] <= entry["times"]["high"]


def test_contenders_of_a_gpu_are_left_out_without_one() -> None:
    without = list(contenders(gpu=False))
    assert not {contender.runtime for contender in without} & set(ON_GPU)
    assert {contender.runtime for contender in contenders(gpu=True)} >= set(ON_GPU)
    assert len({contender.name for contender in without}) == len(without)


class Flaky:
    """A backend whose answers depend on how many windows it is asked about."""

    name = "onnxruntime-cpu"

    def run(self, windows: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        return {name: np.full((len(windows), 2), float(len(windows)), np.float32) for name in outputs}


class Broken(Flaky):
    def run(self, windows: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        if len(windows) > scenario.STREAMS:
            raise ValueError("too many")
        return super().run(windows, outputs)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    windows = np.stack([noise(128, 128, seed) for seed in range(10)])
    monkeypatch.setattr(scenario.made, "sample_windows", lambda _size: windows)
    return windows


def test_answers_under_load_are_those_alone(few: np.ndarray) -> None:
    bundle = open_bundle()
    backend = OnnxRuntimeBackend(bundle.model(), threads=1)
    for name in ("SingleStream", "Offline"):
        found = scenario.accuracy(backend, bundle, scenario.Load(name, seconds=0.1))
        assert found["windows"] == 10
        assert found["largest_difference"] < 1e-4


def test_other_answers_under_load_and_failures_are_errors(few: np.ndarray) -> None:
    bundle = open_bundle()
    with pytest.raises(RuntimeError, match="under load"):
        scenario.accuracy(Flaky(), bundle, scenario.Load("MultiStream", seconds=0.1))
    with pytest.raises(RuntimeError, match="too many"):
        scenario.accuracy(Broken(), bundle, scenario.Load("Offline", seconds=0.1))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("SingleStream", "result_90.00_percentile_latency_ns"),
        ("MultiStream", "result_99.00_percentile_per_query_latency_ns"),
        ("Server", "result_99.00_percentile_latency_ns"),
        ("Offline", "result_samples_per_second"),
    ],
)
def test_scenarios_give_what_mlperf_gives(few: np.ndarray, name: str, key: str) -> None:
    load = scenario.Load(name, seconds=0.1, rate=2000, patience_ms=50)
    found = scenario.performance(Flaky(), open_bundle(), load)
    assert found["found"][key] > 0, found["found"]
    assert found["found"]["result_query_count"] >= scenario.QUERIES[name]
    assert found["found"]["result_validity"] in ("VALID", "INVALID")


def test_load_scenarios_name_their_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "performance", lambda *_: {"found": {}})
    monkeypatch.setattr(scenario, "accuracy", lambda *_: {})
    arguments = ["scenario", "--scenario", "Offline", "--backend", "cpu", "--machine", "m", "--results", str(tmp_path)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    section = results.load(tmp_path / "m.json")["sections"]["scenarios"]
    assert (section["bundle"], section["bundle_sha256"]) == (open_bundle().label, open_bundle().sha256)


def test_growth_measures_each_point(tmp_path: Path) -> None:
    measured = growth.Growth(open_bundle(), "cpu", 0.0, tmp_path, lambda _text: None)
    (size,) = measured.sizes((0.1,))
    assert size["megapixels"] == 0.1
    assert set(size["ms"]) == {"report", "decode", "windows", "network", "readout"}
    assert sum(growth.shares(size).values()) == pytest.approx(1)
    assert 20 < size["peak_memory_mb"] < 300
    (batch,) = measured.batches((4,))
    assert batch["per_second"] == pytest.approx(4e3 / batch["ms"]["network"]["p50"])


def test_processes_work_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "USUAL", 0.05)
    (two,) = growth.Growth(open_bundle(), "cpu", 0.0, tmp_path, lambda _text: None).processes((2,))
    assert two["ms"]["report"]["samples"] == 6
    assert two["per_second"] > 0


def test_a_subject_that_fails_says_why() -> None:
    with pytest.raises(WorkerError, match="ImageError"):
        Worker({"kind": "report", "picture": str(made.SAMPLES / "README.md"), "settings": {"backend": "cpu"}})


def test_memory_is_watched(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "EVERY", 2)
    monkeypatch.setattr(soak, "MEGAPIXELS", (0.02, 0.03))
    found = soak.measure(parser, 12, settled=4)
    assert [number for number, _ in found["resident_mb"]] == [2, 4, 6, 8, 10, 12]
    assert (found["bundle"], found["bundle_sha256"]) == (parser.bundle.label, parser.bundle.sha256)
    assert abs(found["growth_mb"]) < 100
    with pytest.raises(ValueError, match="too few"):
        soak.measure(parser, 5, settled=4)


def test_growth_of_memory_is_that_of_the_ends() -> None:
    assert soak.growth([100.0] * 10 + [101.0] * 90 + [103.0] * 10) == pytest.approx(3, abs=1)
    assert soak.growth([100.0, 180.0, 100.0, 100.0]) == 0


def test_the_command_keeps_what_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeparse.bench.WARM_UP", 1)
    monkeypatch.setattr("edgeparse.bench.LEAST", 2)
    monkeypatch.setattr("edgeparse.bench.made_picture", lambda _megapixels: encoded(noise(130, 130), "JPEG"))
    arguments = ["report", "--machine", "m", "--results", str(tmp_path), "--seconds", "0", "--cold", "0"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    section = results.load(tmp_path / "m.json")["sections"]["report"]
    assert section["setup"]["pictures"][0]["source"] == "made.jpg"
    assert section["report_ms"]["samples"] == 2
    assert CliRunner().invoke(main, ["peers", "--only", "nobody"]).exit_code == 2


def test_contributing_names_every_command() -> None:
    text = (made.ROOT / "CONTRIBUTING.md").read_text().partition("## Measuring")[2].partition("\n## ")[0]
    assert {name for name in main.commands if f"`{name}`" in text} == set(main.commands) - {"all"}
    assert "python -m benchmarks all --machine" in text
