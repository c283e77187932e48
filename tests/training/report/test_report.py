"""The documents show the figures of the JSON files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training.report.sources import Sources, window_ms

from training.evaluate.results import RESULTS
from training.evaluate.targets import TARGETS, judge
from training.report import accuracy, card, tables

TARGET = next(target for target in TARGETS if target.key == "detection_zoo_clean")
ALARMS = next(target for target in TARGETS if target.key == "unseen_cameras_called_generated")


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources.read()


def entry(name: str, value: float = 0.5, **run: Any) -> dict[str, Any]:
    """A run of the study whose metrics have one value."""
    run = {"name": name, "changed": name, "fold": 0, "seed": 1, "lr": 2e-3, "published": 0} | run
    return {
        "run": run,
        "training": {"steps": 1234, "minutes": 20.0, "hardware": "2 CPU cores"},
        "multiply_accumulates": 335_000_000,
        "heavy_edits": True,
        "figures": dict.fromkeys(accuracy.STUDY_KEYS, value),
        "public_generators": {c: {f"generator-{run['fold']}": 0.7} for c in tables.DETAILED},
        "unseen_photos": ["camera"],
        "photos": {"camera": {"pictures": 50} | dict.fromkeys(tables.DETAILED, 0.02)},
    }


def with_study(sources: Sources, *entries: dict[str, Any]) -> Sources:
    return replace(sources, study={"declared": [], "windows": 2, "runs": list(entries)})


def test_model_card_shows_this_bundles_evaluation(sources: Sources) -> None:
    assert card.PAGE.read_text() == card.render(sources)


def test_accuracy_page_shows_its_json(sources: Sources) -> None:
    page = accuracy.render(sources)
    assert accuracy.PAGE.read_text() == page
    values = [float(row["value"]) for row in csv.DictReader(tables.render("targets", sources).splitlines())]
    for (target, value, _), stored in zip(judge(sources.evidence()), values, strict=True):
        assert value is not None
        assert f"| {target.what} | {target.limit_text} | {target.format(value)} |" in page
        assert stored == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("name", tables.TABLES)
def test_csv_files_are_current_and_rectangular(sources: Sources, name: str) -> None:
    text = tables.render(name, sources)
    assert (RESULTS / f"{name}.csv").read_text() == text
    assert len({len(row) for row in csv.reader(text.splitlines())}) == 1


def test_results_of_another_bundle_are_refused(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "bundle.json").read_text())
    manifest["calibration"]["generated"] = 0.99
    (bundle_copy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"default\.json must be measured on a bundle that predicts like"):
        Sources.read(bundle_copy)


def test_window_time_is_the_slowest_machines_best_precision(tmp_path: Path) -> None:
    def machine(name: str, sha256: str, *times: float) -> None:
        competitors = [{"network": "edgeparse", "runtime": "onnxruntime", "ms": {"all": {"p50": t}}} for t in times]
        competitors.append({"network": "published", "runtime": "onnxruntime", "ms": {"parsing": {"p50": 99.0}}})
        sections = {"cpu": {"bundle_sha256": sha256, "competitors": competitors}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"sections": sections}))

    assert window_ms(tmp_path.glob("*.json"), "ours") is None
    machine("a", "ours", 4.0, 2.5)
    machine("b", "ours", 9.0, 3.5)
    machine("c", "of another bundle", 50.0)
    assert window_ms(tmp_path.glob("*.json"), "ours") == 3.5


def test_pages_render_without_optional_results(sources: Sources) -> None:
    names = ("retrained_zoo", "precisions", "sizes", "retrained", "testset", "study", "spectral_lines", "window_ms")
    bare = replace(sources, **dict.fromkeys(names))
    assert "| not measured |" in accuracy.render(bare)
    for name in tables.TABLES:
        tables.render(name, bare)


def test_folds_have_a_mean_and_an_interval(sources: Sources) -> None:
    folds = [entry(f"fold-{k}", 0.5 + 0.1 * k, fold=k) for k in range(4)]
    page = accuracy.render(with_study(sources, *folds))
    # Student's t with three degrees of freedom, 3.182, times the standard error.
    assert f"| {TARGET.what} | 0.500 | 0.600 | 0.700 | 0.800 | 0.650 ± 0.205 |" in page
    rows = tables.render("study_left_out", with_study(sources, *folds))
    assert "fold-3,generator-3,generator,,0.7,0.7,0.7" in rows
    assert "fold-2,camera,photos,50,0.02,0.02,0.02" in rows


def test_the_published_network_is_not_an_ablation(sources: Sources) -> None:
    runs = [entry("fold-0"), entry("published", 0.4, published=1)]
    runs[1]["multiply_accumulates"] *= 7
    assert "7.0 times" in accuracy.render(with_study(sources, *runs))
    assert tables.beyond_luck(TARGET, runs[1], runs) == ""


def test_changes_beyond_luck_need_three_seeds() -> None:
    """After seeds of 0.60, 0.61 and 0.62 the next is between 0.56 and 0.66."""
    seeds = [entry("fold-1", 0.6, fold=1), *(entry(f"seed-{i}", 0.6 + 0.01 * (i - 1), fold=1, seed=i) for i in (2, 3))]
    worse, similar, better = (entry(f"no-{value}", value, fold=1) for value in (0.555, 0.57, 0.7))
    runs = [*seeds, worse, similar, better]
    assert [tables.beyond_luck(TARGET, run, runs) for run in runs] == ["", "", "", "worse", "", "better"]
    # Fewer photos called generated are better.
    assert tables.beyond_luck(ALARMS, better, runs) == "worse"
    assert tables.beyond_luck(TARGET, worse, [*seeds[:2], worse]) == ""
